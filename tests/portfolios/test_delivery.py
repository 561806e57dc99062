"""A portfolio goes the whole way, its declaration grows, and its older model stays readable, judged and reported."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import bentoml
import numpy as np
import pytest
import yaml

from features.drawing import records_of
from features.portfolio import Portfolio
from features.transformer import Columns
from jobs.commandline import Progress
from scoring.store import REPORT, Statement, load_stored, report_digest
from serving.settings import ServingSettings
from serving.variants import VariantState, load_challengers
from tests.portfolios.samples import drawn, write_csv
from tests.server import ROOT, unmeasured
from training.errors import RegistryError
from training.registry.promotion import promote
from training.registry.registry import copy_report
from training.registry.store import import_challenger
from training.run import Delivered, deliver
from training.settings import TrainingSettings

PORTFOLIOS = Path(__file__).parent


def settings_of(folder: Path, home: Path, **tracking: str) -> TrainingSettings:
    """The portfolio's settings with few trees and loose gates."""
    values = TrainingSettings.load(ROOT / "configs" / "training.yaml", folder).model_dump(mode="json")
    values["model"] |= {"folds": 2, "max_trees": 30}
    values["model"]["parameters"] |= {"learning_rate": 0.2, "min_child_samples": 5}
    values["evaluation"]["resamples"] = 20
    values["gates"] |= {"min_auc": 0.5, "max_ece": 0.5, "max_cost_ratio": 2.0, "max_auc_loss": 1.0}
    values["gates"] |= {"max_cost_increase": 10.0}
    values["gates"]["fairness"]["min_impact_ratio"] = 0.0
    values["gates"]["latency"]["max_milliseconds"] = 3_600_000.0
    values["tracking"] |= {"uri": f"sqlite:///{home}/mlruns/portfolios.db", **tracking}
    return TrainingSettings.model_validate(values)


def write_loans(folder: Path, portfolio: Portfolio, columns: Columns) -> Path:
    """The applications with a drawn outcome that follows the amount."""
    amount = columns.numbers[:, portfolio.schema.position["amount"]]
    bad = (amount > np.median(amount)) ^ (np.random.default_rng(1).random(len(columns)) < 0.2)
    folder.mkdir()
    write_csv(folder / "loans.csv", portfolio, records_of(columns), creditability=[("good", "bad")[y] for y in bad * 1])
    return folder


@dataclass(frozen=True)
class Grown:
    """A champion, and the challenger that was trained after its portfolio got a column and a feature."""

    first: Delivered
    second: Delivered
    portfolio: Portfolio
    rows: int


@pytest.fixture(scope="module")
def grown(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Grown:
    folder = tmp_path_factory.mktemp("grown")
    older = Portfolio.load(PORTFOLIOS / "german_like")
    document = yaml.safe_load((PORTFOLIOS / "german_like" / "portfolio.yaml").read_text(encoding="utf-8"))
    document["columns"]["children"] = {"kind": "count", "low": 0, "high": 20}
    document["features"]["domain"]["amount_per_child"] = {"is": "amount / (children + 1)"}
    (folder / "portfolio.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    newer = Portfolio.load(folder)
    columns = drawn(newer, 600)
    before = write_loans(folder / "before", older, columns.declared_by(older))
    first = deliver(before, settings_of(PORTFOLIOS / "german_like", home), Progress(quiet=True))
    promote(first.verdict, datetime.now(UTC))
    after = write_loans(folder / "after", newer, columns)
    second = deliver(after, settings_of(folder, home), Progress(quiet=True))
    return Grown(first, second, newer, len(columns))


def test_champion_and_challenger_of_different_declarations_are_compared_out_of_fold(grown):
    verdict = grown.second.verdict
    assert (verdict.obstacle, verdict.missed) == (None, ())
    assert verdict.champion is not None
    assert (verdict.champion.registered, verdict.champion.fitted_on) == (grown.first.registered, grown.rows)
    assert verdict.champion.probability.tolist() == grown.first.trained.probabilities.tolist()


def test_the_older_model_is_loaded_scored_and_reported(grown, tmp_path):
    stored = load_stored(grown.first.tag)
    assert "children" not in stored.scorer.artefact.portfolio.schema
    assert len(stored.scorer.score(drawn(grown.portfolio, 9))) == 9
    copy_report(grown.first.registered, tmp_path / "report.html")
    assert (
        "Words" in (tmp_path / "report.html").read_text(encoding="utf-8") or (tmp_path / "report.html").stat().st_size
    )


def test_a_challenger_that_reads_a_column_that_the_champions_portfolio_lacks_decides_on_nothing(grown, caplog):
    loaded = yaml.safe_load((ROOT / "configs" / "serving.yaml").read_text(encoding="utf-8"))
    import_challenger(grown.second.registered)
    loaded["variants"] = [{"model": f"{grown.second.registered.name}:challenger"}]
    first = load_stored(grown.first.tag)
    [challenger] = load_challengers(ServingSettings.model_validate(loaded), first)
    assert (challenger.state, challenger.served) == (VariantState.UNSCORABLE, None)
    assert "the challenger challenger cannot score: the applications have no column children" in caplog.text
    loaded["variants"] = [{"model": grown.first.tag}]
    [older] = load_challengers(ServingSettings.model_validate(loaded), load_stored(grown.second.tag))
    assert (older.state, older.model.version) == (VariantState.SHADOW, first.version)


def test_the_run_keeps_the_parameters_that_the_data_chose(grown):
    lineage = load_stored(grown.first.tag).scorer.artefact.lineage["settings"]
    assert lineage["model"]["parameters"]["num_leaves"] == 8
    assert lineage["portfolio"] == "german-like"


def test_a_champion_of_another_portfolio_is_refused_before_anything_is_fitted(grown, home, tmp_path):
    settings = settings_of(PORTFOLIOS / "gmsc_like", home, model="german-like")
    with pytest.raises(RegistryError) as refused:
        deliver(tmp_path, settings, Progress(quiet=True))
    assert str(refused.value) == (
        "german-like version 1 is the champion of the portfolio german-like, not of gmsc-like: give gmsc-like a"
        " registered model of its own (training: {tracking: {model: NAME}} in its portfolio file, and NAME in"
        " configs/serving.yaml and bentofile.yaml), or replace it with --allow-uncompared"
    )


def start(tmp_path: Path, model: str, **variables: str) -> tuple[int, list[str]]:
    """Exit code and lines of standard error of a `bentoml serve` of this model."""
    settings = yaml.safe_load((ROOT / "configs" / "serving.yaml").read_text(encoding="utf-8"))
    (tmp_path / "serving.yaml").write_text(yaml.safe_dump(settings | {"model": model}))
    environment = {**unmeasured(), "CREDIT_SCORING_SETTINGS": str(tmp_path / "serving.yaml"), **variables}
    command = [str(Path(sys.executable).with_name("bentoml")), "serve", ".", "--host", "127.0.0.1", "--port", "0"]
    ended = subprocess.run(
        command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True, timeout=300
    )  # fmt: skip
    return ended.returncode, ended.stderr.splitlines()


def test_a_service_whose_example_cannot_be_scored_ends_with_one_line(grown, tmp_path):
    artefact = load_stored(grown.first.tag).scorer.artefact
    wrong = Portfolio.of(json.loads(artefact.portfolio.content) | {"example": {"months": 0}})
    broken = replace(artefact, features=replace(artefact.features, portfolio=wrong))
    report = Path(bentoml.models.get(grown.first.tag).path) / REPORT
    broken.write(tmp_path / "model")
    shutil.copy(report, tmp_path / "model")
    digest = report_digest(tmp_path / "model")
    tag = f"wrong_example:{Statement('wrong_example', '1', broken.digest, digest).label}"
    with bentoml.models.create(tag, metadata={"digest": broken.digest, "report": digest}) as model:
        shutil.copytree(tmp_path / "model", model.path, dirs_exist_ok=True)
    code, lines = start(tmp_path, "wrong_example")
    assert code == 1
    assert lines[-1].startswith(f"Error: [serve] `serve` failed: {tag}: its example is no application: application")
    assert not any("Traceback" in line for line in lines)


def test_a_service_without_a_model_ends_with_one_line(tmp_path):
    code, lines = start(tmp_path, "no_such_model", BENTOML_HOME=str(tmp_path))
    said = "no_such_model: not in the BentoML model store; `python -m training run` puts it there"
    assert (code, lines[-1]) == (1, f"Error: [serve] `serve` failed: {said}")
    environment = {
        **os.environ,
        "CREDIT_SCORING_SETTINGS": str(tmp_path / "serving.yaml"),
        "BENTOML_HOME": str(tmp_path),
    }
    imported = subprocess.run(
        [sys.executable, "-c", "import service"], cwd=ROOT, env=environment, check=False, capture_output=True, text=True
    )
    assert imported.returncode == 1
    assert imported.stderr.splitlines()[-1] == f"bentoml.exceptions.BentoMLConfigException: {said}"
