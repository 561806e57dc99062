"""Recorded decisions are found by request id, in open and in closed segments."""

from __future__ import annotations

import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from decision_log.closing import close
from decision_log.overrides import INDEX, FoundDecision, newest_decision, write_index
from decision_log.segments import Listing, read_lines
from scoring.policy import DecisionKind
from scoring.store import StoredModel
from tests.monitoring.recording import Worker, settings

NOW = datetime.now(UTC).replace(microsecond=0)
LATER = NOW + timedelta(hours=1)
SETTINGS = settings().recording.log


def written(log: Path) -> dict[tuple[str, int], FoundDecision]:
    lines = [line for path in Listing.of(log).open for line in read_lines(path)]
    return {
        (line["request_id"], line["index"]): FoundDecision(DecisionKind(line["decision"]), line["time"])
        for line in lines
    }


@pytest.fixture
def log(small: StoredModel, tmp_path: Path) -> Path:
    """A log of 420 decisions in one finished segment, larger than one block of a search."""
    worker = Worker(small, tmp_path / "counts", tmp_path / "log", now=NOW.timestamp())
    for rows in (2, 400, 18):
        worker.record(rows)
    worker.recorder.close()
    return tmp_path / "log"


def test_every_decision_is_found_in_an_open_segment(log: Path) -> None:
    expected = written(log)
    assert len(expected) == 420
    assert {found.decision for found in expected.values()} == set(DecisionKind)
    assert {place: newest_decision(log, *place) for place in expected} == expected


def test_every_decision_is_found_in_a_closed_segment(log: Path) -> None:
    expected = written(log)
    close(log, SETTINGS, LATER)
    assert Listing.of(log).open == ()
    (index,) = (log / INDEX).iterdir()
    assert (index.stat().st_size, stat.S_IMODE(index.stat().st_mode)) == (17 * 420, 0o600)
    assert {place: newest_decision(log, *place) for place in expected} == expected


@pytest.mark.parametrize("is_closed", [False, True])
def test_what_is_not_recorded_is_not_found(log: Path, is_closed: bool) -> None:
    if is_closed:
        close(log, SETTINGS, LATER)
    for place in (("request-0", 2), ("request-", 0), ("request-00", 0), ("", 0), ("client-0", 0), ("request-1", 4)):
        found = newest_decision(log, *place)
        assert (found is None) == (place != ("request-1", 4))


def test_of_several_decisions_with_one_request_id_the_newest_is_found(small: StoredModel, tmp_path: Path) -> None:
    times = []
    for hour in (2, 1, 3):
        worker = Worker(small, tmp_path / f"counts-{hour}", tmp_path / "log", now=NOW.timestamp() + 3600 * hour)
        worker.record(1)
        worker.record(1)
        worker.recorder.close()
        times.append(worker.now)
    found = newest_decision(tmp_path / "log", "request-0", 0)
    assert found is not None
    assert found.time == datetime.fromtimestamp(max(times), UTC).isoformat(timespec="microseconds")[:-6] + "Z"


def test_the_last_of_equal_rows_counts(tmp_path: Path) -> None:
    rows = [("a", 0, NOW, "refer"), ("b", 0, NOW, "approve"), ("a", 0, NOW, "decline"), ("a", 1, NOW, "approve")]
    write_index(tmp_path, "20260101T000000000000Z-host-1-0", rows)
    found = [newest_decision(tmp_path, name, index) for name, index in (("a", 0), ("b", 0), ("a", 1), ("b", 1))]
    assert [one and str(one.decision) for one in found] == ["decline", "approve", "approve", None]


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("20260101T000000000000Z-host-1-9", "20260101T000000000000Z-host-1-10"),
        ("20260102T000000000000Z-host-2-0", "20260101T000000000000Z-host-1-5"),
    ],
    ids=["of one worker", "of two workers"],
)
def test_of_closed_segments_the_one_with_the_later_decision_counts(tmp_path: Path, older: str, newer: str) -> None:
    write_index(tmp_path, older, [("a", 0, NOW, "approve")])
    write_index(tmp_path, newer, [("a", 0, NOW + timedelta(microseconds=1), "decline")])
    time = f"{NOW:%Y-%m-%dT%H:%M:%S}.000001Z"
    assert newest_decision(tmp_path, "a", 0) == FoundDecision(DecisionKind.DECLINE, time)


@pytest.mark.parametrize(("seconds", "newest"), [(-1, "open"), (1, "closed")])
def test_an_open_segment_is_newer_only_if_its_decision_is(log: Path, seconds: int, newest: str) -> None:
    place = ("request-0", 0)
    in_open = written(log)[place]
    time = datetime.fromisoformat(in_open.time) + timedelta(seconds=seconds)
    write_index(log, "20260101T000000000000Z-host-1-0", [(*place, time, str(in_open.decision))])
    found = newest_decision(log, *place)
    assert found is not None
    assert (found == in_open) == (newest == "open")
    assert datetime.fromisoformat(found.time) == max(time, datetime.fromisoformat(in_open.time))


def test_an_index_of_an_older_version_without_times_is_made_anew(log: Path) -> None:
    expected = written(log)
    close(log, SETTINGS, LATER)
    (index,) = (log / INDEX).iterdir()
    content = index.read_bytes()
    old = index.with_suffix("")
    old.write_bytes(b"".join(content[at : at + 8] + content[at + 16 : at + 17] for at in range(0, len(content), 17)))
    index.unlink()
    assert newest_decision(log, "request-0", 0) is None
    close(log, SETTINGS, LATER)
    assert list((log / INDEX).iterdir()) == [index]
    assert index.read_bytes() == content
    assert {place: newest_decision(log, *place) for place in expected} == expected


def test_a_line_without_an_end_is_nobodys_decision(log: Path) -> None:
    (segment,) = Listing.of(log).open
    os.truncate(segment, segment.stat().st_size - 1)
    assert newest_decision(log, "request-2", 17) is None
    assert newest_decision(log, "request-2", 16) is not None


def test_damaged_files_are_passed_over(log: Path) -> None:
    expected = newest_decision(log, "request-0", 0)
    (log / "open" / "20260101T000000000000Z-host-1-0.jsonl").write_bytes(b'{"request_id":"request-0","index":0,\n')
    (log / "open" / "20260101T000000000000Z-host-1-1.jsonl").write_bytes(bytes(1 << 20))
    assert newest_decision(log, "request-0", 0) == expected
    (log / INDEX).mkdir()
    (log / INDEX / "empty.rows").write_bytes(b"")
    (log / INDEX / "pipe.rows").symlink_to("/dev/zero")
    assert newest_decision(log, "request-9", 0) is None


def test_closing_makes_the_indexes_that_are_missing_and_removes_those_that_are_left_over(log: Path) -> None:
    close(log, SETTINGS, LATER)
    (index,) = (log / INDEX).iterdir()
    content = index.read_bytes()
    index.rename(index.with_name("20200101T000000000000Z-host-1-0.rows"))
    close(log, SETTINGS, LATER)
    assert [path.name for path in (log / INDEX).iterdir()] == [index.name]
    assert index.read_bytes() == content
    close(log, SETTINGS, LATER + timedelta(days=SETTINGS.retention_days))
    close(log, SETTINGS, LATER + timedelta(days=SETTINGS.retention_days + 1))
    assert list((log / INDEX).iterdir()) == []
