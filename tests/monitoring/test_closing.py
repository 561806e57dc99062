"""Closing the decision log: the same decisions, once, in Parquet."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

from monitoring.cli import main
from monitoring.closing import Closed, close
from monitoring.decision import vectors
from monitoring.errors import SourceError
from monitoring.segments import Listing, read_lines
from scoring import StoredModel
from tests.monitoring.recording import Worker, settings

LATER = datetime.now(UTC) + timedelta(hours=1)
SETTINGS = settings().recording.log


@pytest.fixture
def log(small: StoredModel, tmp_path: Path) -> Path:
    """A log of 12 decisions, finished."""
    worker = Worker(small, tmp_path / "counts", tmp_path / "log", now=LATER.timestamp())
    worker.record(2)
    worker.record(10)
    worker.recorder.close()
    return tmp_path / "log"


def test_a_closed_segment_holds_the_same(small: StoredModel, log: Path) -> None:
    (segment,) = Listing.of(log).open
    lines = list(read_lines(segment))
    assert close(log, SETTINGS, LATER) == Closed(segments=1, decisions=12, held=0, expired=0)
    listing = Listing.of(log)
    assert listing.open == ()
    assert [path.stem for path in listing.closed] == [segment.stem]
    table = parquet.read_table(listing.closed[0])
    assert table.schema.metadata == {
        b"format": b"1",
        b"model": b"small",
        b"version": small.version.encode(),
        b"digest": small.scorer.artefact.digest.encode(),
    }
    features = [f"feature_{name}" for name in small.scorer.features]
    matrix = np.column_stack([table[name].to_numpy() for name in features])
    assert matrix.tobytes() == vectors(lines).tobytes()
    for row, line in zip(table.drop_columns(features).to_pylist(), lines, strict=True):
        assert row.pop("client").hex() == line.pop("client")
        assert row.pop("time") == datetime.fromisoformat(line.pop("time"))
        assert line.pop("vector")
        assert row == line


def test_a_second_run_finds_nothing_to_do(log: Path) -> None:
    close(log, SETTINGS, LATER)
    assert close(log, SETTINGS, LATER) == Closed(0, 0, 0, 0)


def test_after_a_crash_between_the_two_no_decision_is_lost_or_doubled(log: Path) -> None:
    (segment,) = Listing.of(log).open
    content = segment.read_bytes()
    close(log, SETTINGS, LATER)
    segment.write_bytes(content)  # as if the crash came before it was removed
    listing = Listing.of(log)
    assert (listing.open, len(listing.closed)) == ((), 1)
    close(log, SETTINGS, LATER)
    assert not segment.exists()
    assert sum(parquet.read_metadata(path).num_rows for path in Listing.of(log).closed) == 12


def test_a_half_written_file_is_no_segment(log: Path) -> None:
    (segment,) = Listing.of(log).open
    (log / "closed" / f".{segment.stem}.parquet").write_bytes(b"PAR1")
    assert Listing.of(log).closed == ()
    close(log, SETTINGS, LATER)
    assert [path.name for path in (log / "closed").iterdir()] == [f"{segment.stem}.parquet"]


def test_what_a_worker_still_writes_is_left_alone(small: StoredModel, tmp_path: Path) -> None:
    worker = Worker(small, tmp_path / "counts", tmp_path / "log")
    worker.record(1)
    closed = close(tmp_path / "log", SETTINGS, LATER)
    assert (closed.segments, closed.held > 0) == (0, True)
    worker.recorder.close()


def test_what_was_just_finished_is_left_for_the_counts_to_catch_up(log: Path) -> None:
    assert close(log, SETTINGS, datetime.now(UTC)) == Closed(0, 0, 1, 0)


def test_a_torn_line_and_the_unused_end_are_not_decisions(log: Path) -> None:
    (segment,) = Listing.of(log).open
    segment.write_bytes(segment.read_bytes() + b'{"request_id": "x' + bytes(10_000))
    assert close(log, SETTINGS, LATER).decisions == 12


def test_a_segment_without_decisions_vanishes(log: Path) -> None:
    (log / "open" / "20260101T000000000000Z-host-1-0.jsonl").write_bytes(bytes(100))
    assert close(log, SETTINGS, LATER) == Closed(segments=1, decisions=12, held=0, expired=0)
    assert list((log / "open").iterdir()) == []


@pytest.mark.parametrize(("days", "expired"), [(729, 0), (731, 1)])
def test_what_is_older_than_the_retention_is_removed(log: Path, days: int, expired: int) -> None:
    close(log, SETTINGS, LATER)
    assert close(log, SETTINGS, LATER + timedelta(days=days)).expired == expired
    assert len(Listing.of(log).closed) == 1 - expired


def test_another_file_is_refused_and_left(log: Path) -> None:
    other = log / "open" / "other.jsonl"
    other.write_text("hello\n")
    with pytest.raises(SourceError, match=r"other\.jsonl: not a segment of a decision log$"):
        close(log, SETTINGS, LATER)
    assert other.exists()


def test_the_command_says_what_it_did(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["close", "--log", str(log)]) == 0
    assert capsys.readouterr().out == (
        "0 segments closed with 0 decisions; 1 still being written; 0 older than 730 days removed\n"
    )


def test_the_command_refuses_what_is_no_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["close", "--log", str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"error: {tmp_path}: no decision log\n"
