"""Recorded decisions are decided again with another model; what changes is counted, and what cannot be is named."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import lightgbm as lgb
import numpy as np
import pytest
from numpy.typing import NDArray

from decision_log.cli import replay as command
from decision_log.errors import SourceError
from decision_log.reader import DecisionLogReader
from decision_log.replay import BandShift, Shifts, UnplayedModel, compare
from features.errors import ColumnsError
from features.files import open_file
from features.transformer import Columns, FeatureState, FeatureTransformer
from features.values import as_numbers
from jobs.commandline import run_command
from scoring.artefact import Artefact
from scoring.errors import ArtefactError
from scoring.model import Model
from scoring.policy import DecisionKind
from scoring.reasons import ReasonReference, ReferenceGroup
from scoring.scorer import Scorer, Scores, Translation, with_conformance
from scoring.store import StoredModel
from tests.decision_log.models import kept
from tests.home_credit import PORTFOLIO
from tests.monitoring.recording import Worker
from tests.monitoring.test_closing import LATER
from tests.scoring.conftest import reference

Matrix = NDArray[np.float64]
CATEGORY = "NAME_EDUCATION_TYPE"
AMOUNT = "AMT_CREDIT"


def trained(
    artefact: Artefact, state: FeatureState, applications: Columns, outcomes: Matrix, *, rounds: int
) -> Artefact:
    """A model of these features."""
    transformer = FeatureTransformer(state)
    matrix = transformer.transform(applications)
    booster = lgb.train(
        {"objective": "binary", "num_leaves": 6, "min_data_in_leaf": 5, "seed": 2, "num_threads": 1, "verbosity": -1},
        lgb.Dataset(matrix, outcomes, categorical_feature=list(transformer.categorical)),
        num_boost_round=rounds,
    )
    text = booster.model_to_string()
    reasons = ReasonReference.interventional(Model(text), ReferenceGroup.ALL, matrix[:50])
    bare = replace(artefact, model_text=text, features=state, reference=reference(transformer, matrix), reasons=reasons)
    return with_conformance(bare)


@pytest.fixture(scope="module")
def outcomes(labelled_csv: Path) -> Matrix:
    return as_numbers(open_file(labelled_csv, PORTFOLIO).column("TARGET"))[0]


@pytest.fixture(scope="module")
def reordered(artefact: Artefact, applications: Columns, outcomes: Matrix) -> Artefact:
    """A model of the same features in another order, with the levels of categories in another order."""
    state = artefact.features
    vocabularies = {name: tuple(reversed(levels)) for name, levels in state.vocabularies.items()}
    other = replace(state, names=tuple(reversed(state.names)), vocabularies=vocabularies)
    return trained(artefact, other, applications, outcomes, rounds=12)


@pytest.fixture(scope="module")
def recording(artefact: Artefact) -> Iterator[StoredModel]:
    with kept("recording", artefact) as model:
        yield model


@pytest.fixture(scope="module")
def log(
    recording: StoredModel, scorer: Scorer, applications: Columns, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A log of the 400 applications."""
    folder = tmp_path_factory.mktemp("shifts")
    matrix = scorer.transformer.transform(applications)
    worker = Worker(recording, folder / "counts", folder / "log", now=LATER.timestamp())
    worker.record(len(matrix), matrix)
    worker.recorder.close()
    return folder / "log"


def expected(name: str, before: Scores, after: Scores, rows: NDArray[np.bool_]) -> BandShift:
    """The shifts of some applications, from the scores of both models on their raw columns."""
    shift = (after.probability - before.probability)[rows]
    low, high = np.rint(np.quantile(shift, (0.05, 0.95), method="inverted_cdf") * 10_000) / 10_000
    was, now = before.decision[rows], after.decision[rows]
    kinds = [(one, other) for one in DecisionKind for other in DecisionKind if one != other]
    flips = {(one, other): int(np.count_nonzero((was == one) & (now == other))) for one, other in kinds}
    reasons = zip(before.reasons[rows].tolist(), after.reasons[rows].tolist(), strict=True)
    both = [(one[0].code, other[0].code) for one, other in reasons if one and other]
    changed = sum(one != other for one, other in both)
    mean = pytest.approx(float(shift.mean()), abs=1e-12)
    return BandShift(name, int(rows.sum()), mean, float(low), float(high), flips, len(both), changed)


def test_the_shifts_are_those_of_both_models_on_the_raw_applications(
    log: Path, scorer: Scorer, reordered: Artefact, applications: Columns
) -> None:
    with kept("other", reordered) as other:
        shifts = compare(DecisionLogReader(log), "other")
        before, after = scorer.score(applications), other.scorer.score(applications)
    assert (shifts.tag, shifts.decisions, shifts.compared) == (f"other:{other.version}", 400, 400)
    assert (shifts.newly_known, shifts.at_bounds, shifts.unplayed) == (0, 0, Counter())
    *bands, whole = shifts.bands()
    assert whole == expected("all", before, after, np.ones(400, dtype=np.bool_))
    assert sum(whole.flips.values()) > 10
    assert whole.declines > whole.first_reason_changes > 0
    assert sum(band.decisions for band in bands) == 400
    for band in bands:
        low, high = map(float, band.name.split(" to "))
        assert band == expected(band.name, before, after, (before.probability >= low) & (before.probability < high))


def test_a_model_compared_with_itself_changes_nothing(log: Path, recording: StoredModel) -> None:
    whole = compare(DecisionLogReader(log), f"recording:{recording.version}").bands()[-1]
    assert (whole.mean, whole.low, whole.high, sum(whole.flips.values())) == (0.0, 0.0, 0.0, 0)
    assert (whole.declines > 0, whole.first_reason_changes) == (True, 0)


def test_decisions_of_a_model_with_other_features_are_named(
    log: Path, artefact: Artefact, applications: Columns, outcomes: Matrix, recording: StoredModel
) -> None:
    state = artefact.features
    fewer = replace(state, names=tuple(name for name in state.names if name != AMOUNT))
    with kept("other", trained(artefact, fewer, applications, outcomes, rounds=3)):
        shifts = compare(DecisionLogReader(log), "other")
    reason = f"the other model does not read all features of these rows: {AMOUNT}"
    assert shifts.unplayed == Counter({UnplayedModel(f"recording:{recording.version}", reason): 400})
    assert (shifts.decisions, shifts.compared) == (400, 0)
    (whole,) = shifts.bands()
    assert (whole.decisions, whole.to_dict()["shift"]) == (0, None)


def test_a_model_that_needs_more_than_is_recorded_is_named(artefact: Artefact, scorer: Scorer) -> None:
    state = artefact.features
    fewer = replace(state, names=state.names[2:])
    first, second = state.names[:2]
    with pytest.raises(ColumnsError, match=f"reads features that these rows lack: {first}, {second}"):
        Translation(fewer, scorer)


def test_a_feature_of_another_formula_is_named(artefact: Artefact, scorer: Scorer) -> None:
    state = artefact.features
    name = next(one for one in state.names if state.portfolio.features[one].expression is not None)
    other = replace(state.portfolio.features[name], expression=None)
    portfolio = replace(state.portfolio)
    portfolio.__dict__["features"] = {**state.portfolio.features, name: other}
    with pytest.raises(ColumnsError, match=f"the two models compute features otherwise: {name}"):
        Translation(replace(state, portfolio=portfolio), scorer)


def test_a_level_that_only_the_other_model_may_know_is_left_out(artefact: Artefact, scorer: Scorer) -> None:
    state = artefact.features
    levels = state.vocabularies[CATEGORY]
    source = replace(state, vocabularies={**state.vocabularies, CATEGORY: levels[1:]})
    column = state.names.index(CATEGORY)
    rows = np.zeros((4, len(state.names)))
    rows[:, column] = [0.0, len(levels) - 1, np.nan, 1.0]
    translated = Translation(source, scorer).of(rows)
    assert translated.kept.tolist() == [True, False, True, True]
    assert translated.matrix[:, column].tolist() == pytest.approx([1.0, np.nan, 2.0], nan_ok=True)
    back = Translation(state, Scorer(with_conformance(replace(scorer.artefact, features=source))))
    # A level that the other model does not know has its code of the unknown.
    assert back.of(rows).matrix[:, column].tolist() == pytest.approx(
        [len(levels) - 1, len(levels) - 2, np.nan, 0.0], nan_ok=True
    )


def test_values_where_the_models_clip_differently_are_counted(artefact: Artefact, scorer: Scorer) -> None:
    state = artefact.features
    low, high = state.clip[AMOUNT]
    source = replace(state, clip={**state.clip, AMOUNT: (low, high - 1.0)})
    rows = np.zeros((5, len(state.names)))
    rows[:, state.names.index(AMOUNT)] = [low + 1, low, high - 2.0, high - 1.0, np.nan]
    assert Translation(source, scorer).of(rows).at_bounds.tolist() == [False, True, False, True, False]
    assert Translation(state, scorer).of(rows).at_bounds.tolist() == [False] * 5


def test_decisions_of_a_model_that_is_gone_cannot_be_translated(
    small: StoredModel, reordered: Artefact, tmp_path: Path
) -> None:
    worker = Worker(small, tmp_path / "counts", tmp_path / "log", now=LATER.timestamp())
    worker.record(5)
    worker.recorder.close()
    with kept("other", reordered):
        shifts = compare(DecisionLogReader(tmp_path / "log"), "other")
    ((unplayed, count),) = shifts.unplayed.items()
    assert (unplayed.tag, count, shifts.compared) == (f"small:{small.version}", 5, 0)


def test_parts_of_a_log_add_up(log: Path, reordered: Artefact) -> None:
    with kept("other", reordered) as other:
        one = compare(DecisionLogReader(log), "other")
    twice = Shifts(f"other:{other.version}")
    twice.include(one)
    twice.include(one)
    single, double = one.bands()[-1], twice.bands()[-1]
    assert (double.decisions, double.mean, double.low) == (800, pytest.approx(single.mean), single.low)
    assert double.flips == {change: 2 * count for change, count in single.flips.items()}


def test_the_command_writes_a_table_json_and_a_page(
    log: Path, reordered: Artefact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--log", str(log), "--json", str(tmp_path / "found.json"), "--report", str(tmp_path / "page.html")]
    with kept("other", reordered) as other:
        assert run_command(command, [*words, "--model", "other"], program="replay") == 0
    told = capsys.readouterr().out
    found = json.loads((tmp_path / "found.json").read_text())
    whole = found["bands"][-1]
    changed = sum(whole["flips"].values())
    assert (found["model"], found["compared"], whole["recorded_pd"]) == (f"other:{other.version}", 400, "all")
    summary = f"400 of 400 decisions replayed with other:{other.version}; {changed} change"
    assert told.splitlines()[-1] == summary
    page = (tmp_path / "page.html").read_text()
    assert summary in page
    assert f"<td>{whole['shift']['mean']:+.4f}</td>" in page
    assert "<script" not in page


def test_a_model_that_is_not_in_the_store_is_an_error(log: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="nobody: not in the BentoML model store"):
        compare(DecisionLogReader(log), "nobody")
    with pytest.raises(SourceError, match="no decision log"):
        compare(DecisionLogReader(tmp_path), "recording")
