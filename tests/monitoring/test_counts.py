"""Drift counts of several workers, windows, users' checks, and the metrics made of them."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from decision_log.format import vectors
from decision_log.reader import DecisionLogReader
from decision_log.segments import Listing, WorkerId, read_lines
from decision_log.writer import Position
from monitoring.counts import CountsFile, ScoredCounts, read_counts, replay
from monitoring.errors import CheckError
from monitoring.recorder import check_recording
from monitoring.windows import CompleteWindow, load_checks
from scoring.drift_reference import Bins, DriftReference, Window
from scoring.store import StoredModel
from tests.monitoring.recording import Worker, settings
from tests.server import ROOT

WINDOW = {"rows": 400, "seconds": 3600.0, "at_least_seconds": 0.0}


def counted(window: Window) -> list[list[int]]:
    return [*window.features.tolist(), window.probability.tolist()]


def of_log(model: StoredModel, log: Path) -> Window:
    """A direct count of the decision log."""
    lines = [line for path in Listing.of(log).open for line in read_lines(path)]
    reference = model.scorer.artefact.reference
    return Window.of(reference, vectors(lines), np.array([line["probability"] for line in lines]))


def total(worker: Worker) -> Window:
    return worker.recorder._shared_counts.total().window


def test_the_counts_of_two_workers_are_a_direct_count_of_the_log(small: StoredModel, tmp_path: Path) -> None:
    workers = [Worker(small, tmp_path / "counts", tmp_path / "log") for _ in range(2)]
    for worker in workers:
        for rows in (1, 7, 1, 2_000):
            worker.record(rows)
        worker.recorder.publish()
    assert total(workers[0]).rows == 4_018
    assert counted(total(workers[0])) == counted(of_log(small, tmp_path / "log"))
    for worker in workers:
        worker.recorder.close()


def test_closing_counts_what_was_not_counted_yet(small: StoredModel, tmp_path: Path) -> None:
    first, second = (Worker(small, tmp_path / "counts", tmp_path / "log") for _ in range(2))
    first.record(3)
    first.recorder.close()
    assert counted(total(second)) == counted(of_log(small, tmp_path / "log"))
    assert total(second).rows == 3
    second.recorder.close()


def killed(small: StoredModel, counts: Path, log: Path) -> None:
    """A worker that is killed with 5 applications counted and 12 that are only in the log, in two segments."""
    worker = Worker(small, counts, log, settings(log={"segment_bytes": 65_536}))
    worker.record(5)
    worker.recorder.publish()
    worker.record(2)
    worker.record(10)
    os.kill(os.getpid(), signal.SIGKILL)


def test_what_a_killed_worker_had_not_counted_is_counted_once_from_the_log(small: StoredModel, tmp_path: Path) -> None:
    places = tmp_path / "counts", tmp_path / "log"
    process = multiprocessing.get_context("fork").Process(target=killed, args=(small, *places))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    survivors = [Worker(small, *places) for _ in range(2)]
    for survivor in survivors * 2:
        assert total(survivor).rows == 17
        assert counted(total(survivor)) == counted(of_log(small, places[1]))
    for survivor in survivors:
        survivor.recorder.close()


def test_nothing_is_counted_of_a_worker_without_segments(small: StoredModel, tmp_path: Path) -> None:
    reference = small.scorer.artefact.reference
    counts = ScoredCounts.none(reference, days=1)
    assert replay(counts, tmp_path, WorkerId.this(), reference) == 0
    assert counts.window.rows == 0


def test_readers_of_the_same_decisions_are_equal_whatever_they_passed_over(tmp_path: Path) -> None:
    one, other = DecisionLogReader(tmp_path), DecisionLogReader(tmp_path)
    one.passed_over[tmp_path / "notes.txt"] = "it is no segment of a decision log"
    assert (one, hash(one)) == (other, hash(other))


def test_without_a_log_everything_else_is_recorded(small: StoredModel, tmp_path: Path) -> None:
    worker = Worker(small, tmp_path / "counts")
    matrix = worker.record(50)
    reference = small.scorer.artefact.reference
    drift = worker.recorder.drift()
    assert (drift["rows"], drift["window"], drift["digest"]) == (50, None, small.scorer.artefact.digest)
    assert list(drift["features"]) == list(reference.features)
    expected = reference.bin(matrix)
    for name, counts in reference.by_feature(expected).items():
        assert drift["features"][name] == counts.tolist()
    assert worker.value("decision_log_lines_total") == 0
    worker.recorder.close()


def test_decisions_and_pds_are_counted(small: StoredModel, tmp_path: Path) -> None:
    worker = Worker(small, tmp_path / "counts")
    scores = small.scorer.score_matrix(worker.record(80))
    worker.recorder.publish()
    pairs = list(zip(scores.decision, scores.risk_level, strict=True))
    for decision, level in set(pairs):
        labels = {"decision": str(decision), "risk_level": str(level), "model_version": small.version}
        assert worker.value("decisions_total", **labels) == pairs.count((decision, level))
    for bound in settings().recording.probability_buckets:
        assert worker.value("probability_bucket", le=str(bound)) == np.count_nonzero(scores.probability <= bound)
    assert worker.value("probability_sum") == pytest.approx(scores.probability.sum())
    assert worker.gauges()["default_rate"] == {(): pytest.approx(scores.probability.mean())}
    worker.recorder.close()


def test_the_default_rate_forgets_after_its_days(small: StoredModel, tmp_path: Path) -> None:
    worker = Worker(small, tmp_path / "counts")
    worker.record(10)
    worker.recorder.publish()
    worker.now += 6 * 86_400
    later = small.scorer.score_matrix(worker.record(20)).probability
    worker.recorder.publish()
    worker.now += 2 * 86_400
    assert worker.gauges()["default_rate"] == {(): pytest.approx(later.mean())}
    worker.now += 7 * 86_400
    assert "default_rate" not in worker.gauges()
    worker.recorder.close()


def test_hours_of_several_workers_are_added_up_and_the_newest_of_a_slot_counts(small: StoredModel) -> None:
    reference = small.scorer.artefact.reference
    one, other = (ScoredCounts.none(reference, 1) for _ in range(2))
    window = Window(np.zeros_like(reference.counts), np.array(reference.probability.counts))
    one.add(window, 1.0, at=0.5 * 3600 + 3600)
    other.add(window, 2.0, at=1.5 * 3600)
    one.merge(other)
    assert one.recent(3600) == (2 * window.rows, 3.0)
    other.add(window, 4.0, at=25 * 3600)
    one.merge(other)
    assert one.recent(25 * 3600) == (window.rows, 4.0)


def test_a_window_is_complete_after_its_rows(small: StoredModel, tmp_path: Path) -> None:
    workers = [Worker(small, tmp_path / "counts", changed=settings({"window": WINDOW})) for _ in range(2)]
    parts = []
    for worker in workers:
        worker.now += 5
        parts.append(worker.record(200))
        worker.recorder.publish()
    workers[1].recorder._background.submit(int).result()
    workers[0].now = 1_000_100.0
    workers[0].record(10)
    drift = workers[0].recorder.drift()
    assert (drift["rows"], drift["window"]["rows"]) == (410, 400)
    assert (drift["window"]["start"], drift["window"]["end"]) == (1_000_000.0, 1_000_005.0)
    reference = small.scorer.artefact.reference
    expected = reference.bin(np.concatenate(parts))
    counts = drift["window"]["features"].values()
    assert [sum(each) for each in counts] == [400] * len(reference.features)
    assert [each[0] for each in counts] == expected[reference.offsets[:-1]].tolist()
    gauges = workers[0].gauges()
    assert gauges["drift_window_rows"] == {(): 400}
    assert gauges["drift_window_end_timestamp_seconds"] == {(): 1_000_005.0}
    assert set(gauges["drift_psi"]) == {(name,) for name in small.scorer.features}
    assert gauges["drifted_features"][()] > 0
    for worker in workers:
        worker.recorder.close()


@pytest.mark.parametrize(("rows", "seconds", "complete"), [(300, 3600, True), (300, 3599, False), (299, 3600, False)])
def test_a_window_is_complete_after_its_time_if_it_can_be_judged(
    small: StoredModel, tmp_path: Path, rows: int, seconds: int, complete: bool
) -> None:
    worker = Worker(small, tmp_path / "counts", changed=settings({"window": WINDOW}))
    worker.record(rows)
    worker.now += seconds
    worker.recorder.publish()
    worker.recorder._background.submit(int).result()
    assert (worker.recorder.drift()["window"] is not None) is complete
    worker.recorder.close()


def failing(window: CompleteWindow) -> float:
    raise KeyError("x")


def test_users_checks_become_gauges_and_their_failures_are_counted(
    small: StoredModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (ROOT / "docs" / "how-to" / "monitoring.md").read_text()
    (tmp_path / "my_checks.py").write_text(page.partition("```python\n")[2].partition("```")[0])
    monkeypatch.syspath_prepend(tmp_path)
    names = ["my_checks:thin_files", f"{__name__}:failing"]
    worker = Worker(small, tmp_path / "counts", changed=settings({"window": WINDOW, "checks": names}))
    matrix = np.zeros((400, len(small.scorer.features)))
    matrix[:100, small.scorer.features.index("EXT_SOURCE_2")] = np.nan
    worker.record(400, matrix)
    worker.recorder.publish()
    worker.recorder._background.submit(int).result()
    assert worker.gauges()["drift_check"] == {(names[0],): 0.25}
    assert worker.gauges()["feature_missing_ratio"][("EXT_SOURCE_2",)] == 0.25
    assert worker.value("drift_check_failures_total", check=names[1]) == 1
    worker.recorder.close()


@pytest.mark.parametrize("name", ["nowhere:check", "os:nothing", "os:name"])
def test_a_check_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(CheckError, match=f"^recording.checks: {name}: "):
        load_checks([name])
    with pytest.raises(CheckError, match=f"^recording.checks: {name}: "):
        check_recording(settings({"checks": [name]}).recording, {})


def test_missing_columns_are_counted_in_tens_and_the_first_five(small: StoredModel, tmp_path: Path) -> None:
    worker = Worker(small, tmp_path)
    worker.record(1)
    worker.recorder.publish()
    found = [sample for metric in worker.registry.collect() for sample in metric.samples]
    bounds = [sample.labels["le"] for sample in found if sample.name == "credit_scoring_missing_columns_bucket"]
    assert bounds == [f"{float(bound)}" for bound in (0, 5, *range(10, 120, 10))] + ["+Inf"]
    worker.recorder.close()


def test_the_age_of_the_log_is_that_of_its_first_line(small: StoredModel, tmp_path: Path) -> None:
    worker = Worker(small, tmp_path / "counts", tmp_path / "log")
    assert worker.gauges()["decision_log_segment_age_seconds"] == {(): 0}
    worker.record(1)
    worker.now += 90
    worker.record(1)
    assert worker.gauges()["decision_log_segment_age_seconds"] == {(): 90}
    worker.recorder.close()


def test_the_model_is_told(small: StoredModel, tmp_path: Path) -> None:
    worker = Worker(small, tmp_path / "counts")
    key = (small.name, small.version, small.scorer.artefact.digest, small.scorer.artefact.portfolio.name)
    assert worker.gauges()["model_info"] == {key: 1}
    worker.recorder.close()


OTHER = "20260101T000000000000Z-host-1"


@pytest.mark.parametrize("name", [f"{OTHER}.counts", "x.counts", "window.json", "x"])
@pytest.mark.parametrize("kind", ["directory", "pipe", "link", "empty", "junk"])
def test_a_foreign_file_beside_the_counts_stops_neither_metrics_nor_drift(
    small: StoredModel, tmp_path: Path, name: str, kind: str
) -> None:
    worker = Worker(small, tmp_path / "counts", tmp_path / "log")
    worker.record(5)
    worker.recorder.publish()
    (folder,) = (tmp_path / "counts").iterdir()
    _occupy(folder / name, kind)
    for _ in range(2):
        assert worker.recorder.drift()["rows"] == 5
        assert worker.gauges()["counts_passed_over"] == {(): float(name.endswith(".counts"))}
    worker.record(2)
    worker.recorder.publish()
    assert worker.recorder.drift()["rows"] == 7
    worker.recorder.close()


def _occupy(path: Path, kind: str) -> None:
    path.unlink(missing_ok=True)
    if kind == "directory":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to("/dev/zero")
    else:
        path.write_bytes({"empty": b"", "junk": b"\xff\x00[]" * 99}[kind])


@pytest.mark.parametrize("name", [f"open/{OTHER}-0.jsonl", "open/x.jsonl", f"closed/{OTHER}-0.parquet", "aside/x"])
@pytest.mark.parametrize("kind", ["directory", "pipe", "link", "empty", "junk"])
def test_a_foreign_file_in_the_log_stops_neither_metrics_nor_drift(
    small: StoredModel, tmp_path: Path, name: str, kind: str
) -> None:
    worker = Worker(small, tmp_path / "counts", tmp_path / "log")
    (tmp_path / "log" / "aside").mkdir()
    _occupy(tmp_path / "log" / name, kind)
    worker.record(5)
    worker.now += 90
    gauges = worker.gauges()
    assert gauges["decision_log_segment_age_seconds"] == {(): 90}
    assert gauges["decision_log_set_aside"] == {(): float(name.startswith("aside"))}
    assert worker.recorder.drift()["rows"] == 5
    worker.recorder.close()


@pytest.mark.parametrize("damage", ["features", "hours", "position", "hour_pds"])
def test_damaged_counts_of_a_worker_are_passed_over(small: StoredModel, tmp_path: Path, damage: str) -> None:
    first, second = (Worker(small, tmp_path / "counts") for _ in range(2))
    for worker in (first, second):
        worker.record(5)
        worker.recorder.publish()
    content = first.recorder._shared_counts._file._content
    content["copies"][int(content["number"]) % 2][damage].flat[0] = -1
    assert total(second).rows == 5
    assert second.gauges()["counts_passed_over"] == {(): 1}
    for worker in (first, second):
        worker.recorder.close()


def counts_file(small: StoredModel, path: Path) -> tuple[CountsFile, ScoredCounts]:
    """The file of a worker that has counted 80 applications, and no counts."""
    reference = small.scorer.artefact.reference
    counts, matrix = ScoredCounts.none(reference, 1), np.zeros((80, len(small.scorer.features)))
    counts.add(Window.of(reference, matrix, np.full(80, 0.5)), 40.0, at=7_200.0)
    file = CountsFile(path, counts)
    file.publish(counts)
    return file, ScoredCounts.none(reference, 1)


def test_what_was_published_is_read(small: StoredModel, tmp_path: Path) -> None:
    file, empty = counts_file(small, tmp_path / "a.counts")
    found = read_counts(tmp_path / "a.counts", empty)
    file.close()
    assert (found.window.rows, found.recent(7_200.0), found.position) == (80, (80, 40.0), Position(0, 0))


@pytest.mark.parametrize("size", [-1, 1])
def test_a_file_of_another_size_is_refused(small: StoredModel, tmp_path: Path, size: int) -> None:
    file, empty = counts_file(small, tmp_path / "a.counts")
    os.truncate(tmp_path / "a.counts", (tmp_path / "a.counts").stat().st_size + size)
    with pytest.raises(ValueError, match=r"^not a file of counts over these bins$"):
        read_counts(tmp_path / "a.counts", empty)
    file.close()


@pytest.mark.parametrize(
    ("part", "value", "said"),
    [
        ("features", -1, "counts out of bounds"),
        ("features", 1 << 48, "counts out of bounds"),
        ("features", (1 << 48) - 1, "counts of features differ"),
        ("probability", -1, "counts out of bounds"),
        ("probability", 1 << 48, "counts out of bounds"),
        ("probability", 81, "counts of features differ"),
        ("hours", -1, "counts out of bounds"),
        ("hours", 1 << 48, "counts out of bounds"),
        ("hour_rows", -1, "counts out of bounds"),
        ("hour_rows", 1 << 48, "counts out of bounds"),
        ("position", -1, "counts out of bounds"),
        ("position", 1 << 48, "counts out of bounds"),
        ("hour_pds", -0.001, "sums of PDs out of bounds"),
        ("hour_pds", 1.001, "sums of PDs out of bounds"),
        ("hour_pds", np.nan, "sums of PDs out of bounds"),
        ("hour_pds", np.inf, "sums of PDs out of bounds"),
    ],
)
def test_counts_that_contradict_themselves_are_refused(
    small: StoredModel, tmp_path: Path, part: str, value: float, said: str
) -> None:
    file, empty = counts_file(small, tmp_path / "a.counts")
    file._content["copies"][int(file._content["number"]) % 2][part].flat[0] = value
    with pytest.raises(ValueError, match=f"^{said}$"):
        read_counts(tmp_path / "a.counts", empty)
    file.close()


@pytest.mark.parametrize(
    ("part", "value"), [("hours", (1 << 48) - 1), ("hour_rows", 80), ("hour_pds", 1.0), ("position", (1 << 48) - 1)]
)
def test_counts_at_their_bounds_are_read(small: StoredModel, tmp_path: Path, part: str, value: float) -> None:
    file, empty = counts_file(small, tmp_path / "a.counts")
    file._content["copies"][int(file._content["number"]) % 2][part].flat[0] = value
    assert read_counts(tmp_path / "a.counts", empty).window.rows == 80
    file.close()


def with_wide_category(model: StoredModel, levels: int) -> DriftReference:
    """The reference of the model with a category of so many levels, all of which it has never seen."""
    reference = model.scorer.artefact.reference
    bins = Bins("category", tuple(map(float, range(levels))), (*[0] * (levels + 1), reference.rows))
    return replace(reference, features={**reference.features, next(iter(reference.features)): bins})


@pytest.mark.parametrize("levels", [2, 128, 129, 5_000])
def test_counts_of_a_category_of_any_width_are_published_and_read(
    small: StoredModel, tmp_path: Path, levels: int
) -> None:
    reference = with_wide_category(small, levels)
    matrix = np.random.default_rng(levels).integers(0, levels, (80, len(reference.features))).astype(np.float64)
    counts = ScoredCounts.none(reference, 1)
    counts.add(Window.of(reference, matrix, np.full(80, 0.5)), 40.0, at=7_200.0)
    file = CountsFile(tmp_path / "a.counts", counts)
    file.publish(counts)
    file.close()
    found = read_counts(tmp_path / "a.counts", ScoredCounts.none(reference, 1)).window
    parts = reference.by_feature(found.features)
    assert found.rows == 80
    for (name, bins), column in zip(reference.features.items(), matrix.T, strict=True):
        assert parts[name].tolist() == bins.count(column).tolist()


@pytest.mark.parametrize("levels", [5_000, 20_000])
def test_a_file_of_counts_grows_by_the_bins_of_a_category_alone(
    small: StoredModel, tmp_path: Path, levels: int
) -> None:
    narrow, wide = with_wide_category(small, 2), with_wide_category(small, levels)
    for name, reference in (("narrow", narrow), ("wide", wide)):
        CountsFile(tmp_path / name, ScoredCounts.none(reference, 7)).close()
    copies, bytes_each = 2, 8
    more = (tmp_path / "wide").stat().st_size - (tmp_path / "narrow").stat().st_size
    assert more == copies * bytes_each * (levels - 2)


def padded(window: Window, reference: DriftReference) -> NDArray[np.int64]:
    """The counts as older versions wrote them: each feature in a row as long as the widest one."""
    rows = reference.by_feature(window.features).values()
    width = max(map(len, rows))
    return np.stack([np.pad(row, (0, width - len(row))) for row in rows])


def test_counts_of_the_padded_layout_are_passed_over_with_one_line(
    small: StoredModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    worker = Worker(small, tmp_path / "counts")
    worker.record(5)
    worker.recorder.publish()
    shared = worker.recorder._shared_counts
    counts = shared.counts
    older = replace(counts, window=Window(padded(counts.window, shared.reference), counts.window.probability))
    path = shared._file._path.with_name("older.counts")
    CountsFile(path, older).close()
    for _ in range(2):
        assert total(worker).rows == 5
    (line,) = [record.getMessage() for record in caplog.records]
    assert line == f"{path}: no counts of a worker, passed over (ValueError)"
    worker.recorder.close()


def test_a_window_of_the_padded_layout_begins_anew_with_one_line(
    small: StoredModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    worker = Worker(small, tmp_path / "counts")
    windows, reference = worker.recorder._windows, small.scorer.artefact.reference
    (path,) = (tmp_path / "counts").rglob("window.json")
    written = json.loads(path.read_text())
    written["base"]["features"] = padded(windows.state.base, reference).tolist()
    path.write_text(json.dumps(written))
    worker.now += 60
    for _ in range(2):
        assert (windows.state.since, windows.state.base.features.shape) == (worker.now, reference.counts.shape)
    (line,) = [record.getMessage() for record in caplog.records]
    assert line == "window.json: damaged (ValueError), a new window begins"
    worker.recorder.close()


@pytest.mark.parametrize("harm", [lambda path: os.truncate(path, 0), lambda path: path.unlink()])
def test_a_worker_whose_counts_are_cut_or_removed_publishes_them_again(
    small: StoredModel, tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    first, second = (Worker(small, tmp_path / "counts") for _ in range(2))
    first.record(5)
    first.recorder.publish()
    harm(first.recorder._shared_counts._file._path)
    first.record(2)
    first.recorder.publish()
    assert total(second).rows == 7
    for worker in (first, second):
        worker.recorder.close()


def test_what_waits_to_be_closed_has_an_age(small: StoredModel, tmp_path: Path) -> None:
    ended = Worker(small, tmp_path / "counts", tmp_path / "log")
    ended.record(1)
    ended.recorder.close()
    (segment,) = Listing.of(tmp_path / "log").open
    os.utime(segment, (1_000_000, 1_000_000))
    worker = Worker(small, tmp_path / "counts", tmp_path / "log", now=1_000_600.0)
    assert worker.gauges()["decision_log_unclosed_seconds"] == {(): 600}
    worker.recorder.close()


def test_a_second_window_counts_only_what_came_after_the_first(small: StoredModel, tmp_path: Path) -> None:
    worker = Worker(small, tmp_path / "counts", changed=settings({"window": WINDOW}))
    reference = small.scorer.artefact.reference
    for rows in (400, 450):
        worker.now += 5
        expected = reference.bin(worker.record(rows))
        worker.recorder.publish()
        worker.recorder._background.submit(int).result()
    drift = worker.recorder.drift()
    assert (drift["rows"], drift["window"]["rows"]) == (850, 450)
    assert (drift["window"]["start"], drift["window"]["end"]) == (1_000_005.0, 1_000_010.0)
    assert [each[0] for each in drift["window"]["features"].values()] == expected[reference.offsets[:-1]].tolist()
    worker.recorder.close()
