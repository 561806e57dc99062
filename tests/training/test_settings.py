"""Settings that cannot be meant are refused by the name of their key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.errors import SettingsError
from tests.home_credit import write_bare_portfolio
from training.cli import main
from training.settings import TrainingSettings

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "configs" / "training.yaml"


def written(folder: Path, key: str, value: object) -> Path:
    """The shipped settings with one value changed or added, `key` being its path."""
    content = yaml.safe_load(SHIPPED.read_text())
    content["portfolio"] = str(write_bare_portfolio(folder))
    *parents, last = key.split(".")
    place: Any = content
    for parent in parents:
        place = place[parent]
    place[last] = value
    path = folder / "training.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_the_shipped_settings_are_legal() -> None:
    assert TrainingSettings.load(SHIPPED).model.folds == 5


def test_what_decides_who_is_in_charge_and_who_is_approved_is_delivered_as_decided() -> None:
    """A lender's numbers: to change one is a decision, which this test makes visible."""
    content = TrainingSettings.load(SHIPPED).model_dump(mode="json")
    assert content["gates"] == {
        "min_auc": 0.70,  # models of Home Credit's applications reach 0.74 to 0.77; what is below has lost columns
        "max_ece": 0.02,  # a quarter of the base rate of 0.08
        "max_cost_ratio": 0.95,  # a model must save a twentieth of what a blanket rule costs
        "max_auc_loss": 0.005,
        "max_cost_increase": 0.01,
        "fairness": {
            "min_impact_ratio": 0.8,
            "limits": {"age": 0.3},  # the young default most, and are approved 0.4 times as often as the elderly
            "min_rows": 100,
        },  # four fifths; 12 CFR 1002.2
        "reasons": {"max_changed": 0.5, "min_declines": 100},
        "latency": {"max_milliseconds": 20, "applications": 200},
    }
    policy = content["policy"]
    assert (policy["cost_fn"], policy["cost_fp"], policy["refer_band"]) == (
        10,
        1,
        0.1,
    )  # a default costs ten good loans
    assert policy["level_bounds"] == [0.04, 0.08, 0.16]  # half of the base rate, the base rate, twice
    assert policy["scale"] == {"base": 600, "odds": 50, "double": 20}  # the usual scale of scorecards
    assert (len(policy["completeness"]["known"]), policy["completeness"]["max_missing_share"]) == (9, 0.55)
    assert content["features"]["without"] == ["sex", "marital_status", "age"]
    assert (content["leakage"]["max_column_auc"], content["leakage"]["max_order_auc"]) == (0.75, 0.55)
    assert (content["model"]["folds"], content["model"]["min_outcomes_per_fold"]) == (5, 20)
    assert content["model"]["early_stopping"] == {"share": 0.1, "rounds": 150}
    assert (content["evaluation"]["confidence"], content["evaluation"]["resamples"]) == (0.95, 200)


def test_monitoring_holds_a_model_to_what_promoted_it() -> None:
    delivered = {
        name: yaml.safe_load((ROOT / "configs" / f"{name}.yaml").read_text()) for name in ("training", "monitoring")
    }
    training, monitoring = delivered["training"], delivered["monitoring"]
    assert monitoring["performance"]["min_auc"] == training["gates"]["min_auc"]
    assert monitoring["performance"]["f_beta"] == training["evaluation"]["f_beta"]
    assert monitoring["fairness"]["min_impact_ratio"] == training["gates"]["fairness"]["min_impact_ratio"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", -1),
        ("model.folds", 5000),
        ("model.folds", 1),
        ("model.max_trees", 0),
        ("model.max_trees", 10**9),
        ("model.early_stopping.share", 0.9),
        ("model.early_stopping.share", 0.001),
        ("model.early_stopping.rounds", 0),
        ("model.threads", 0),
        ("model.min_outcomes_per_fold", 1),
        ("model.parameters.learning_rate", -1),
        ("model.parameters.learning_rate", 0),
        ("model.parameters.learning_rate", "fast"),
        ("model.parameters.num_leaves", 1),
        ("model.parameters.num_leaves", 8.5),
        ("model.parameters.max_depth", -2),
        ("model.parameters.colsample_bytree", 1.5),
        ("model.parameters.reg_lambda", -0.1),
        ("model.parameters.learning_rat", 0.1),
        ("model.parameters.objective", "regression"),
        ("policy.cost_fn", 0),
        ("policy.cost_fn", float("inf")),
        ("evaluation.confidence", 1),
        ("evaluation.resamples", 1),
    ],
)
def test_an_absurd_setting_is_refused_by_its_key(tmp_path: Path, key: str, value: object) -> None:
    with pytest.raises(SettingsError) as refusal:
        TrainingSettings.load(written(tmp_path, key, value))
    said = str(refusal.value).removeprefix(f"{tmp_path / 'training.yaml'}: ")
    assert said.startswith(f"{key}: ")
    assert ("\n" in said, "; " in said) == (False, False)


def test_a_share_of_rows_that_would_never_be_drawn_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"model\.parameters: .*subsample below 1 draws no rows unless"):
        TrainingSettings.load(written(tmp_path, "model.parameters.subsample", 0.5))


def test_a_repeated_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "training.yaml"
    path.write_text(SHIPPED.read_text().replace("    num_leaves:", "    learning_rate: 0.5\n    num_leaves:", 1))
    with pytest.raises(SettingsError, match=r"not YAML .*repeated key: learning_rate.* line"):
        TrainingSettings.load(path)


def test_what_is_not_stated_is_left_to_lightgbm() -> None:
    parameters = TrainingSettings.load(SHIPPED).model.parameters
    assert parameters.max_bin is None
    assert "max_bin" not in parameters.stated()
    assert parameters.stated()["learning_rate"] == parameters.learning_rate


def test_a_command_refuses_settings_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, "model.folds", 5000)
    assert main(["run", "--settings", str(path)]) == 1
    assert capsys.readouterr().err == f"error: {path}: model.folds: Input should be less than or equal to 20\n"


def test_what_is_recorded_of_the_settings_holds_no_password() -> None:
    values = TrainingSettings.load(SHIPPED).model_dump(mode="json")
    values["tracking"]["uri"] = "https://me:hunter2@mlflow.example/tracking"
    values["tuning"]["storage"] = "postgresql://me:hunter2@db.example/trials"
    settings = TrainingSettings.checked(values, SHIPPED)
    recorded = settings.recorded()
    assert "hunter2" not in json.dumps(recorded)
    assert recorded["tracking"]["uri"] == "https://mlflow.example/tracking"
    assert {**recorded, "tracking": None, "tuning": None} == {
        **settings.model_dump(mode="json", exclude={"retraining"}),
        "portfolio": "home_credit",
        "tracking": None,
        "tuning": None,
    }


def test_settings_from_before_the_completeness_rule_get_its_share() -> None:
    values = TrainingSettings.load(ROOT / "configs" / "training.yaml").model_dump(mode="json")
    delivered = values["policy"].pop("completeness")
    rule = TrainingSettings.checked(values, SHIPPED).policy.completeness
    assert rule is not None
    assert (rule.known, rule.max_missing_share) == ((), delivered["max_missing_share"])


@pytest.mark.parametrize(
    "name", ["Bob's model", "credit/scoring", "Credit Scoring", "CreditScoring", "-a", "a.", "", "ü", "a" * 64]
)
def test_a_model_name_that_a_store_would_refuse_or_change_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError, match=r"tracking\.model: "):
        TrainingSettings.load(written(tmp_path, "tracking.model", name))


@pytest.mark.parametrize("name", ["a", "credit_scoring_production_model", "credit-2.b", "a" * 63])
def test_other_model_names_are_legal(tmp_path: Path, name: str) -> None:
    assert TrainingSettings.load(written(tmp_path, "tracking.model", name)).tracking.model == name


def test_a_storage_that_sqlalchemy_does_not_know_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"tuning\.storage: .*write postgresql:// for PostgreSQL"):
        TrainingSettings.load(written(tmp_path, "tuning.storage", "postgres://host/trials"))


def test_a_feature_without_reviewed_wording_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "seed", 1)
    declared = yaml.safe_load((tmp_path / "portfolio.yaml").read_text())
    del declared["reasons"]["groups"]["employment"]["features"]
    (tmp_path / "portfolio.yaml").write_text(yaml.safe_dump(declared, sort_keys=False))
    with pytest.raises(SettingsError, match=r"no group, so no reviewed wording, has car_age_to_employment, income_to_"):
        TrainingSettings.load(path)
