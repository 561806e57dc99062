"""The search: what a trial is worth, and what the winner is used for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import optuna
import pytest
import yaml
from optuna.trial import TrialState
from scipy.special import expit

from jobs.commandline import Progress
from jobs.errors import OutputError, SettingsError
from monitoring.measures import auc
from tests.training.tuning.searches import changed, searched
from training.cli import main
from training.dataset import Dataset
from training.search.study import FINISHED, FOLDS, fitted_margins, score_of, tuning_folds
from training.search.tuning import NestedEstimate, TunedParameters, Winner, tune
from training.settings import TrainingSettings


@pytest.mark.parametrize("objective", ["auc", "average_precision", "cost_per_applicant", "f_beta"])
def test_the_objective_is_measured_at_the_cut_off_of_the_policy(
    dataset: Dataset, searching: TrainingSettings, objective: str
) -> None:
    settings = changed(searching, objective=objective)
    margins = np.random.default_rng(3).normal(-2.4, 0.6, len(dataset)) + dataset.target
    declined = expit(margins) >= 1 / 11
    hits, alarms = int((declined & (dataset.target == 1)).sum()), int((declined & (dataset.target == 0)).sum())
    missed = int(dataset.target.sum()) - hits
    beta = settings.evaluation.f_beta**2
    expected = {
        "auc": auc(dataset.target, margins),
        "cost_per_applicant": (10 * missed + alarms) / len(dataset),
        "f_beta": (1 + beta) * hits / ((1 + beta) * hits + beta * missed + alarms),
    }
    measured = score_of(dataset.target, margins, settings)
    assert measured == pytest.approx(expected.get(objective, measured))
    assert 0 < measured < 1


def test_a_cost_is_minimized(dataset: Dataset, searching: TrainingSettings) -> None:
    study = searched(dataset, changed(searching, objective="cost_per_applicant"))
    assert study.best_value == min(trial.value for trial in study.trials if trial.value is not None)


def test_a_bad_trial_is_given_up_after_a_fold(dataset: Dataset, searching: TrainingSettings) -> None:
    study = searched(dataset, changed(searching, trials=8), 8)
    pruned = [trial for trial in study.trials if trial.state is TrialState.PRUNED]
    assert pruned
    for trial in pruned:
        earlier = [one.intermediate_values[0] for one in study.trials[: trial.number] if one.state in FINISHED]
        assert len(trial.user_attrs[FOLDS]) == 1
        assert trial.number >= 2
        assert trial.intermediate_values[0] < max(earlier)


def test_the_value_of_a_trial_is_that_of_its_parameters(dataset: Dataset, searching: TrainingSettings) -> None:
    study = searched(dataset, searching, 1)
    best = study.best_trial
    folds = tuning_folds(dataset, 2, searching)
    scores = []
    for fold in folds:
        margins, trees = fitted_margins(fold, best.params | {"subsample_freq": 1}, searching)
        scores.append(score_of(fold.judged_target, margins, searching))
        assert trees <= 30
    assert best.value == np.mean(scores)


def test_optimism_is_what_was_promised_and_not_kept(dataset: Dataset, searching: TrainingSettings) -> None:
    settings = changed(searching, nested={"folds": 2, "trials": 2}, trials=2)
    tuned = tune(dataset, settings, Progress(quiet=True))
    nested = tuned.nested
    assert isinstance(nested, NestedEstimate)
    assert (len(nested.promised), len(nested.kept)) == (2, 2)
    assert nested.optimism == pytest.approx(np.mean(nested.promised) - np.mean(nested.kept))
    assert nested.auc.low < nested.auc.value < nested.auc.high
    assert nested.gain.low < nested.gain.value < nested.gain.high
    names = optuna.get_all_study_names(settings.tuning.storage)
    assert sorted(names) == ["lightgbm", "lightgbm, outer fold 0", "lightgbm, outer fold 1"]


def test_every_finished_trial_is_recorded_once(dataset: Dataset, searching: TrainingSettings) -> None:
    settings = changed(searching, study="recorded", trials=3)
    tune(dataset, changed(settings, study="recorded", trials=2), Progress(quiet=True))
    tune(dataset, settings, Progress(quiet=True))
    runs = mlflow.search_runs(
        experiment_names=[settings.tuning.experiment], filter_string="tags.study = 'recorded'", output_format="list"
    )
    trials = sorted(run.data.tags["trial"] for run in runs if "trial" in run.data.tags)
    assert trials == ["0", "1", "2"]
    first = next(run for run in runs if run.data.tags.get("trial") == "0")
    assert {"fold_0_f_beta", "fold_1_f_beta", "fold_0_trees", "seconds", "value"} <= set(first.data.metrics)
    assert first.data.tags["data.sha256"] == dataset.fingerprint


def test_the_winner_is_used_without_editing(
    searching: TrainingSettings, generated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, found = tmp_path / "training.yaml", tmp_path / "tuned.yaml"
    values = searching.model_dump(mode="json")
    values["tracking"]["model"] = "tuned_model"
    path.write_text(yaml.safe_dump(values))
    common = ["--data", str(generated), "--settings", str(path)]
    assert main(["tune", *common, "--trials", "2", "--study", "mine", "--output", str(found)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert (printed[0].split(";")[0], printed[-1].split(";")[0]) == ("2 trials", f"written to {found}")
    study = optuna.load_study(study_name="mine", storage=searching.tuning.storage)
    applied = TunedParameters.apply(found, searching).model.parameters
    assert study.best_params.items() <= applied.stated().items()
    assert applied.cat_l2 == searching.model.parameters.cat_l2
    assert main(["run", *common, "--params", str(found), "--no-promote"]) == 0


def example() -> TunedParameters:
    origin = Winner(study="s", objective="auc", value=0.7, trials=3, data_sha256="00")
    return TunedParameters(parameters={"num_leaves": 5}, winner=origin)


def test_a_file_of_parameters_is_read_as_it_was_written(tmp_path: Path) -> None:
    example().write(tmp_path / "tuned.yaml")
    assert TunedParameters.load(tmp_path / "tuned.yaml") == example()
    assert [path.name for path in tmp_path.iterdir()] == ["tuned.yaml"]


def test_parameters_that_are_not_legal_are_refused_by_file_and_name(settings: TrainingSettings, tmp_path: Path) -> None:
    path = tmp_path / "tuned.yaml"
    example().model_copy(update={"parameters": {"num_leaves": 1}}).write(path)
    with pytest.raises(SettingsError, match=rf"^{path}: model\.parameters\.num_leaves: "):
        TunedParameters.apply(path, settings)


def test_a_search_that_could_not_be_written_does_not_begin(
    searching: TrainingSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "training.yaml"
    path.write_text(yaml.safe_dump(searching.model_dump(mode="json")))
    assert main(["tune", "--settings", str(path), "--output", str(tmp_path / "none" / "tuned.yaml")]) == 1
    assert capsys.readouterr().err.endswith("tuned.yaml: not a file in a folder that exists\n")
    assert not (tmp_path / "optuna").exists()


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        example().write(tmp_path / "none" / "tuned.yaml")


@pytest.mark.parametrize(
    "changes",
    [
        {"trials": 0},
        {"folds": 1},
        {"objective": "accuracy"},
        {"space": {"learning_rate": {"low": 0.3, "high": 0.01, "log": True}}},
        {"space": {"learning_rate": {"low": 0.0, "high": 0.01, "log": True}}},
        {"space": {"num_leaves": {"low": 1, "high": 10}}},
        {"space": {"leaves": {"low": 2, "high": 10}}},
    ],
    ids=str,
)
def test_a_search_that_makes_no_sense_is_refused(
    settings: TrainingSettings, tmp_path: Path, changes: dict[str, Any]
) -> None:
    values = settings.model_dump(mode="json")
    space = values["tuning"]["space"] | changes.get("space", {})
    values["tuning"] |= {**changes, "space": space}
    path = tmp_path / "training.yaml"
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(SettingsError, match=r"training\.yaml: tuning\."):
        TrainingSettings.load(path)
