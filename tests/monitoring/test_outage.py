"""An outage of the feature store is not drift: rows without their histories count for no feature that reads them."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from decision_log.format import APPLICATION_ONLY
from decision_log.reader import DecisionLogReader
from decision_log.segments import WorkerId
from features.store import HistorySource
from monitoring.cli import main
from monitoring.counts import CountsFile, ScoredCounts, read_counts, replay
from monitoring.drift import DriftLevel, Judgement, judge, judgement_json, judgement_lines
from monitoring.report import drift_charts
from monitoring.sources import window_of_log, window_of_services
from scoring.drift_reference import Window, quantile_bins
from scoring.scorer import Scorer
from scoring.store import StoredModel
from tests.features.histories import FOLDER, LENDER
from tests.monitoring.offline.test_live_counts import answering
from tests.monitoring.recording import Worker, settings
from tests.portfolios.test_portfolio import artefact_of, dataset_of
from tests.server import ROOT

TRAINED = artefact_of(FOLDER)
MATRIX = Scorer(TRAINED).transformer.transform(dataset_of(LENDER).columns)
# The rows below are drawn from those that the model was fitted on, whose PDs are more extreme than out of fold.
PDS = quantile_bins(Scorer(TRAINED).score_matrix(MATRIX).probability, 10)
REFERENCE = replace(TRAINED.reference, probability=PDS)
ARTEFACT = replace(TRAINED, reference=REFERENCE)
SCORER = Scorer(ARTEFACT)
RULES = settings().drift
SETTINGS = str(ROOT / "configs" / "monitoring.yaml")
OF_APPLICATION = ["income"]
OF_HISTORIES = ["credits_90d", "credits_365d", "open_debt", "late_credits", "debt_to_income"]
SOURCES = [HistorySource.STORE, HistorySource.UNAVAILABLE]
ROWS = st.integers(300, 600)

Matrix = NDArray[np.float64]
Flags = NDArray[np.bool_]


@pytest.fixture
def lender() -> StoredModel:
    return StoredModel("lender", f"1-{ARTEFACT.digest[:32]}", SCORER)


def drawn(rows: int, seed: int) -> Matrix:
    """Rows of the reference, drawn at random."""
    return MATRIX[np.random.default_rng(seed).integers(len(MATRIX), size=rows)]


def in_outage(matrix: Matrix) -> Matrix:
    """The same applications as they are scored while the store is down."""
    return np.where(REFERENCE.of_histories, np.nan, matrix)


def mixed(known: Matrix, lost: Matrix, seed: int) -> tuple[Matrix, Flags]:
    """All of these applications in some order, and whose history was not available."""
    order = np.random.default_rng(seed).permutation(len(known) + len(lost))
    unavailable = np.repeat([False, True], [len(known), len(lost)])[order]
    return np.concatenate([known, in_outage(lost)])[order], unavailable


def window(matrix: Matrix, unavailable: Flags | None = None) -> Window:
    return Window.of(REFERENCE, matrix, SCORER.score_matrix(matrix).probability, unavailable)


def counted(found: Window) -> dict[str, Any]:
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in _parts(found).items()}


def _parts(found: Window) -> dict[str, Any]:
    return {**REFERENCE.by_feature(found.features), "PD": found.probability, "unavailable": found.unavailable}


def shifts(judgement: Judgement) -> dict[str, dict[str, Any]]:
    """What is measured of the score and of each feature by itself: all but what depends on the other features."""
    whole = {one.name: asdict(one) for one in [judgement.score, *judgement.features] if one is not None}
    for one in whole.values():
        del one["adjusted"], one["significant"], one["level"]
    return whole


def test_the_features_that_read_a_roll_up_are_known_of_a_model_that_is_read(tmp_path: Path) -> None:
    ARTEFACT.write(tmp_path / "model")
    found = type(ARTEFACT).read(tmp_path / "model").reference
    named = dict(zip(found.features, found.of_histories.tolist(), strict=True))
    assert named == dict.fromkeys(OF_APPLICATION, False) | dict.fromkeys(OF_HISTORIES, True)
    assert found == REFERENCE


@given(known=ROWS, lost=st.integers(0, 2_000), seed=st.integers(0, 1_000))
def test_an_outage_moves_no_count_of_what_reads_histories(known: int, lost: int, seed: int) -> None:
    rows, others = drawn(known, seed), drawn(lost, seed + 1)
    without, found = counted(window(rows)), counted(window(*mixed(rows, others, seed)))
    everybody = counted(window(np.concatenate([rows, others])))
    assert found.pop("unavailable") == lost
    for name in [*OF_HISTORIES, "PD"]:
        assert found.pop(name) == without[name]
    assert found == {name: everybody[name] for name in OF_APPLICATION}


@given(known=ROWS, lost=st.integers(1, 2_000), moved=st.sampled_from([0.0, 50.0, 1e9]), seed=st.integers(0, 1_000))
def test_windows_with_and_without_an_outage_are_measured_alike(known: int, lost: int, moved: float, seed: int) -> None:
    rows = drawn(known, seed) + np.where(REFERENCE.of_histories, moved, 0.0)
    without = judge(REFERENCE, window(rows), RULES)
    found = judge(REFERENCE, window(*mixed(rows, drawn(lost, seed + 1), seed)), RULES)
    assert (found.rows, found.unavailable, found.too_few) == (known + lost, lost, ())
    measured, expected = shifts(found), shifts(without)
    for name in OF_APPLICATION:
        del measured[name], expected[name]
    assert repr(measured) == repr(expected)


@pytest.mark.parametrize("seed", range(10))
def test_an_outage_neither_raises_nor_hides_the_alarm(seed: int) -> None:
    rows, others = drawn(500, seed), drawn(500, seed + 100)
    assert judge(REFERENCE, window(*mixed(rows, others, seed)), RULES).reasons == ()
    rows[:, REFERENCE.of_histories] += 1e9
    found = judge(REFERENCE, window(*mixed(rows, others, seed)), RULES)
    assert [shift.name for shift in found.features if shift.level is DriftLevel.MAJOR] == OF_HISTORIES


def test_what_reads_no_history_raises_the_alarm_during_an_outage() -> None:
    others = drawn(600, 1)
    others[:, [REFERENCE.of_histories.tolist().index(False)]] = 1e6
    found = judge(REFERENCE, window(*mixed(drawn(300, 0), others, 0)), RULES)
    assert [shift.name for shift in found.drifted] == OF_APPLICATION
    assert found.reasons[0] == "major drift of 1 feature"


@pytest.mark.parametrize(("known", "judged"), [(300, True), (299, False), (0, False)])
def test_without_enough_histories_neither_the_score_nor_what_reads_them_is_judged(known: int, judged: bool) -> None:
    found = judge(REFERENCE, window(*mixed(drawn(known, 0), drawn(1_700, 1), 2)), RULES)
    assert [shift.name for shift in found.features] == [*OF_APPLICATION, *(OF_HISTORIES if judged else [])]
    assert found.too_few == (() if judged else tuple(OF_HISTORIES))
    assert (found.score is not None, found.reasons) == (judged, ())
    told = judgement_json(found)
    assert (told["unavailable"], told["score"] is not None) == (1_700, judged)
    assert len([*drift_charts(found, REFERENCE, window(drawn(300, 0)), {})]) == (6 if judged else 1)


def test_it_is_said_what_an_outage_leaves_out() -> None:
    said = (
        "1,700 applications whose history was not available: left out of the score and of features that read histories"
    )
    not_judged = "not judged, since too few applications had a history: 5 features and the score"
    for known, lines in ((300, [said]), (299, [said, not_judged])):
        found = judge(REFERENCE, window(*mixed(drawn(known, 0), drawn(1_700, 1), 2)), RULES)
        assert [line for line in judgement_lines(found) if "histor" in line] == lines
    assert [line for line in judgement_lines(judge(REFERENCE, window(drawn(300, 0)), RULES)) if "histor" in line] == []


def test_windows_with_an_outage_are_added_and_taken_off() -> None:
    one, other = (window(*mixed(drawn(300, seed), drawn(40, seed), seed)) for seed in (1, 2))
    both = one + other
    assert (both.rows, both.available, both.unavailable) == (680, 600, 80)
    assert counted(both - other) == counted(one)


def in_parts(matrix: Matrix, unavailable: Flags) -> list[tuple[Matrix, Flags]]:
    """Single requests first, then a small batch, and one that fits into no buffer."""
    ends = [*range(1, 20), 60, len(matrix)]
    return [(matrix[a:b], unavailable[a:b]) for a, b in zip([0, *ends], ends, strict=False)]


def record(worker: Worker, matrix: Matrix, unavailable: Flags) -> None:
    for rows, lost in in_parts(matrix, unavailable):
        worker.record(len(rows), rows, [SOURCES[one] for one in lost.tolist()])


ROWS_OF_SERVICE = mixed(drawn(900, 0), drawn(800, 1), 2)


def test_a_service_counts_what_its_log_counts(lender: StoredModel, tmp_path: Path) -> None:
    worker, expected = Worker(lender, tmp_path / "counts", tmp_path / "log"), counted(window(*ROWS_OF_SERVICE))
    record(worker, *ROWS_OF_SERVICE)
    worker.recorder.publish()
    shared = worker.recorder._shared_counts
    assert counted(shared.total().window) == expected
    anew = ScoredCounts.none(REFERENCE, 7)
    assert replay(anew, tmp_path / "log", shared._worker, REFERENCE) == 1_700
    assert counted(anew.window) == expected
    assert counted(window_of_log(DecisionLogReader(tmp_path / "log"), REFERENCE).window) == expected
    worker.recorder.close()


@pytest.mark.parametrize("known", [300, 0])
def test_the_commands_judge_a_log_without_its_outage(
    lender: StoredModel, tmp_path: Path, known: int, capsys: pytest.CaptureFixture[str]
) -> None:
    worker = Worker(lender, tmp_path / "counts", tmp_path / "log")
    record(worker, *mixed(drawn(known, 0), drawn(800, 1), 2))
    worker.recorder.close()
    ARTEFACT.write(tmp_path / "model")
    options = ["--log", str(tmp_path / "log"), "--model", str(tmp_path / "model"), "--settings", SETTINGS]
    assert main(["drift", *options]) == 0
    said = capsys.readouterr().out
    assert main(["report", *options, "--output", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text()
    left_out = "800 applications whose history was not available: left out of the score"
    for text in (said, page):
        assert left_out in text
        assert ("ot judged, since too few applications had a history" in text) is (known == 0)


@pytest.mark.parametrize(("told", "unavailable"), [(True, 800), (False, 0)])
def test_a_service_says_how_many_histories_were_not_available(
    lender: StoredModel, tmp_path: Path, told: bool, unavailable: int
) -> None:
    """A service of an older version does not."""
    worker = Worker(lender, tmp_path / "counts")
    record(worker, *ROWS_OF_SERVICE)
    answer = worker.recorder.drift()
    worker.recorder.close()
    assert (answer["rows"], answer["unavailable"]) == (1_700, 800)
    if not told:
        del answer["unavailable"]
    with answering(answer) as url:
        assert window_of_services([url], ARTEFACT)[0].unavailable == unavailable


WINDOW = {"rows": 1_700, "seconds": 3600.0, "at_least_seconds": 0.0}


@pytest.mark.parametrize(("known", "judged"), [(900, True), (0, False)])
def test_the_gauges_of_a_window_leave_an_outage_out(
    lender: StoredModel, tmp_path: Path, known: int, judged: bool
) -> None:
    worker, reader = (Worker(lender, tmp_path, changed=settings({"window": WINDOW})) for _ in range(2))
    for _ in range(2):  # the second window begins with the counts of the first
        worker.now += 5
        record(worker, *mixed(drawn(known, 0), drawn(1_700 - known, 1), 2))
        worker.recorder.publish()
        worker.recorder._background.submit(int).result()
    gauges = reader.gauges()
    assert (gauges["drift_window_rows"], gauges["drift_alarm"]) == ({(): 1_700}, {(): 0})
    assert gauges["feature_missing_ratio"].get(("open_debt",), 0.0) < 0.9
    assert set(gauges["drift_psi"]) == {(name,) for name in [*OF_APPLICATION, *(OF_HISTORIES if judged else [])]}
    assert len(gauges["drift_score_psi"]) == judged
    assert reader.recorder.drift()["window"]["unavailable"] == 1_700 - known
    for one in (worker, reader):
        one.recorder.close()


def test_a_window_of_an_older_version_is_read(lender: StoredModel, tmp_path: Path) -> None:
    worker = Worker(lender, tmp_path, changed=settings({"window": WINDOW}))
    record(worker, drawn(1_700, 0), np.zeros(1_700, dtype=np.bool_))
    worker.recorder.publish()
    worker.recorder._background.submit(int).result()
    (path,) = tmp_path.rglob("window.json")
    written = json.loads(path.read_text())
    assert (written["base"].pop("unavailable"), written["last"]["counts"].pop("unavailable")) == (0, 0)
    path.write_text(json.dumps(written))
    assert worker.recorder.drift()["window"]["rows"] == 1_700
    worker.recorder.close()


def test_a_model_that_reads_no_history_counts_everybody(small: StoredModel, tmp_path: Path) -> None:
    """So the second model does, which decides during an outage."""
    beside = Worker(small, tmp_path / "counts", tmp_path / "log")
    recorder = beside.beside(small, APPLICATION_ONLY)
    beside.recorder = recorder
    matrix = beside.record(7, histories=[HistorySource.UNAVAILABLE] * 7)
    found, reference = recorder.drift(), small.scorer.artefact.reference
    assert (found["rows"], found["unavailable"], sum(found["probability"])) == (7, 0, 7)
    assert [sum(each) for each in found["features"].values()] == [len(matrix)] * len(reference.features)
    anew = ScoredCounts.none(reference, 7)
    assert replay(anew, tmp_path / "log", recorder._shared_counts._worker, reference) == 7
    logged = window_of_log(DecisionLogReader(tmp_path / "log"), reference).window
    assert (logged.available, logged.unavailable) == (anew.window.available, anew.window.unavailable) == (7, 0)
    recorder.close()


def counts_file(path: Path) -> tuple[CountsFile, ScoredCounts]:
    """The file of a worker, and what it has counted."""
    counts = ScoredCounts.none(REFERENCE, 1)
    counts.add(window(*ROWS_OF_SERVICE), 40.0, at=7_200.0)
    file = CountsFile(path, counts)
    for _ in range(2):
        file.publish(counts)
    return file, counts


def test_counts_with_an_outage_are_published_and_read(tmp_path: Path) -> None:
    file, counts = counts_file(tmp_path / "a.counts")
    found = read_counts(tmp_path / "a.counts", ScoredCounts.none(REFERENCE, 1))
    file.close()
    assert counted(found.window) == counted(counts.window)
    assert found.recent(7_200.0) == (1_700, 40.0)


@pytest.mark.parametrize(
    ("value", "said"),
    [(-1, "counts out of bounds"), (1 << 48, "counts out of bounds"), (799, "counts of features differ")],
)
def test_a_number_of_outages_that_contradicts_the_counts_is_refused(tmp_path: Path, value: int, said: str) -> None:
    file, _ = counts_file(tmp_path / "a.counts")
    file._content["unavailable"][int(file._content["number"]) % 2] = value
    with pytest.raises(ValueError, match=f"^{said}$"):
        read_counts(tmp_path / "a.counts", ScoredCounts.none(REFERENCE, 1))
    file.close()


def test_a_file_of_an_older_version_is_read_and_counted_on(tmp_path: Path) -> None:
    path, empty = tmp_path / f"{WorkerId('a', 'host', 1)}.counts", ScoredCounts.none(REFERENCE, 1)
    older = replace(empty, window=window(drawn(600, 0)))
    file = CountsFile(path, older)
    file.publish(older)
    file.close()
    del file  # the lock is held as long as the memory is mapped
    os.truncate(path, path.stat().st_size - 2 * 8)
    assert counted(read_counts(path, empty).window) == counted(older.window)
    file, later = CountsFile(path, empty), read_counts(path, empty)
    later.window += window(*ROWS_OF_SERVICE)
    file.publish(later)
    file.close()
    assert counted(read_counts(path, empty).window) == counted(older.window + window(*ROWS_OF_SERVICE))
