"""Closing the decision log: the same decisions, once, in Parquet."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import hypothesis
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from pyarrow import parquet

from decision_log.closed_segments import closed_header, closed_lines, decision_table, write_segment
from decision_log.closing import Closed, close
from decision_log.format import vectors
from decision_log.reader import DecisionLogReader
from decision_log.segments import Ages, Listing, read_header, read_lines
from decision_log.writer import make_folders
from monitoring.cli import main
from scoring.store import StoredModel
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
    header, *stored = segment.read_bytes().splitlines(keepends=True)
    assert close(log, SETTINGS, LATER) == Closed(segments=1, decisions=12, held=0, expired=0)
    listing = Listing.of(log)
    assert listing.open == ()
    assert [path.stem for path in listing.closed] == [segment.stem]
    table = parquet.read_table(listing.closed[0])
    assert table.schema.metadata == {
        b"format": b"2",
        b"model": b"small",
        b"version": small.version.encode(),
        b"digest": small.scorer.artefact.digest.encode(),
        b"header": header,
    }
    assert (closed_header(listing.closed[0]), [*closed_lines(listing.closed[0])]) == (header, [x[:-1] for x in stored])
    features = [f"feature_{name}" for name in small.scorer.features]
    matrix = np.column_stack([table[name].to_numpy() for name in features])
    assert matrix.tobytes() == vectors(lines).tobytes()
    for row, line in zip(table.drop_columns(features).to_pylist(), lines, strict=True):
        assert row.pop("client").hex() == line.pop("client")
        assert row.pop("salt").hex() == line.pop("salt")
        assert [row.pop("line"), row.pop("explored"), row.pop("history")] == [None] * 3
        assert row.pop("time") == datetime.fromisoformat(line.pop("time"))
        assert line.pop("vector")
        assert row == line


def test_a_line_that_its_columns_do_not_give_again_is_kept_as_it_is(log: Path) -> None:
    (segment,) = Listing.of(log).open
    header, *lines = segment.read_bytes().splitlines(keepends=True)
    lines[3] = lines[3].replace(b'"index":', b'"index": ')
    lines[4] = lines[4].replace(b"}", b',"more":1}')
    segment.write_bytes(b"".join([header, *lines]))
    close(log, SETTINGS, LATER)
    (closed,) = Listing.of(log).closed
    kept = parquet.read_table(closed, columns=["line"])["line"].to_pylist()
    assert kept == [None] * 3 + [lines[3][:-1], lines[4][:-1]] + [None] * 7
    assert [*closed_lines(closed)] == [line[:-1] for line in lines]


def first_format(segment: Path) -> None:
    """What the first version of the log wrote in place of a segment."""
    header, *lines = map(json.loads, segment.read_text().splitlines())
    header = {"format": 1, **{name: header[name] for name in ("model", "model_version", "digest", "features")}}
    for line in lines:
        for name in ("salt", "variant", "policy", "explained_by", "reasons"):
            del line[name]
    segment.write_text("".join(json.dumps(one, separators=(",", ":")) + "\n" for one in (header, *lines)))


def test_segments_of_the_first_format_are_read_and_closed(log: Path) -> None:
    (segment,) = Listing.of(log).open
    first_format(segment)
    columns = ["request_id", "probability", "salt"]
    before = pa.concat_tables(DecisionLogReader(log).tables(columns))
    assert (before.num_rows, before["salt"].null_count) == (12, 12)
    assert close(log, SETTINGS, LATER) == Closed(segments=1, decisions=12, held=0, expired=0)
    (closed,) = Listing.of(log).closed
    assert parquet.read_schema(closed).metadata[b"format"] == b"1"
    assert closed_header(closed) == b""
    assert pa.concat_tables(DecisionLogReader(log).tables(columns)) == before


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
    (log / "closed" / f".{segment.stem}.parquet-0a1b2c3d").write_bytes(b"PAR1")
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


def test_the_command_says_what_it_did(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (log / "open" / "other.jsonl").write_text("hello\n")
    assert main(["close", "--log", str(log)]) == 0
    said = capsys.readouterr()
    assert said.out == (
        "0 segments closed with 0 decisions; 1 still being written; 0 older than 730 days removed; 1 files set aside\n"
    )
    assert said.err == (
        f"warning: {log}/open/other.jsonl: it is no segment of a decision log; set aside in {log}/aside\n"
    )


def test_the_command_refuses_what_is_no_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["close", "--log", str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"error: {tmp_path}: no decision log\n"


SEGMENT = "20260101T000000000000Z-host-1-0"


def occupied(path: Path, kind: str) -> None:
    """Put something in the place of a segment."""
    if kind == "directory":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to("/dev/zero")
    else:
        path.write_bytes({"empty": b"", "zeros": bytes(5_000), "text": b"hello\n", "junk": b"\xff\x00\n{" * 99}[kind])


@pytest.mark.parametrize("kind", ["directory", "pipe", "link", "text", "junk"])
@pytest.mark.parametrize(
    "name", [f"open/{SEGMENT}.jsonl", f"closed/{SEGMENT}.parquet", "open/x", "open/a\nb.jsonl", "closed/y.parquet"]
)
def test_what_is_no_segment_is_set_aside_and_the_others_are_closed(log: Path, name: str, kind: str) -> None:
    occupied(log / name, kind)
    done = close(log, SETTINGS, LATER)
    assert (done.segments, done.decisions, len(done.aside)) == (1, 12, 1)
    assert [path.name for path in (log / "aside").iterdir()] == [f"{LATER:%Y%m%dT%H%M%SZ}-{name.replace('/', '-')}"]
    assert list((log / "open").iterdir()) == []
    assert close(log, SETTINGS, LATER).aside == ()


@pytest.mark.parametrize("kind", ["empty", "zeros"])
def test_a_closed_file_without_a_content_is_set_aside(log: Path, kind: str) -> None:
    occupied(log / "closed" / f"{SEGMENT}.parquet", kind)
    assert len(close(log, SETTINGS, LATER).aside) == 1


def test_a_second_file_is_set_aside_beside_the_first(log: Path) -> None:
    for later in (LATER, LATER + timedelta(days=1)):
        (log / "open" / "other.jsonl").write_text("of somebody else")
        assert len(close(log, SETTINGS, later).aside) == 1
        assert not (log / "open" / "other.jsonl").exists()
    assert len(list((log / "aside").iterdir())) == 2


def test_a_truncated_closed_file_is_set_aside_and_retention_goes_on(log: Path) -> None:
    close(log, SETTINGS, LATER)
    (whole,) = Listing.of(log).closed
    content = whole.read_bytes()
    (log / "closed" / f"{SEGMENT}.parquet").write_bytes(content[: len(content) // 2])
    done = close(log, SETTINGS, LATER + timedelta(days=731))
    assert (done.expired, len(done.aside)) == (1, 1)
    assert close(log, SETTINGS, LATER + timedelta(days=731 * 2)).expired == 1  # what is aside is not kept longer either
    assert list((log / "aside").iterdir()) == []


def test_an_open_segment_is_kept_until_its_closed_one_is_whole(log: Path) -> None:
    (segment,) = Listing.of(log).open
    (log / "closed" / f"{segment.stem}.parquet").write_bytes(b"PAR1")
    done = close(log, SETTINGS, LATER)
    assert (done.decisions, len(done.aside)) == (12, 1)
    assert parquet.read_metadata(Listing.of(log).closed[0]).num_rows == 12


@pytest.mark.parametrize(
    ("damage", "kept"),
    [
        (lambda lines: [*lines[:5], lines[5][:40] + b"\0" * 4096 + b"\n", *lines[6:]], 11),
        (lambda lines: [*lines[:5], b"\0" * 3_000_000, *lines[5:]], 11),
        (lambda lines: [*lines[:5], b'{"request_id":"x"}\n', *lines[5:]], 12),
        (lambda lines: [*lines[:5], lines[5].replace(b'"probability":', b'"probability":1'), *lines[6:]], 11),
        (lambda lines: [*lines[:5], lines[5].replace(b'"time":"2', b'"time":"x'), *lines[6:]], 11),
        (lambda lines: [*lines[:5], b"[" * 100_000 + b"\n", *lines[5:]], 12),
        (lambda lines: [*lines[:5], b"\xff\n", *lines[5:]], 12),
    ],
)
def test_what_is_whole_in_a_damaged_segment_is_closed_and_the_rest_is_aside(
    log: Path, damage: Callable[[list[bytes]], list[bytes]], kept: int
) -> None:
    (segment,) = Listing.of(log).open
    header, *lines = segment.read_bytes().splitlines(keepends=True)
    content = b"".join([header, *damage(lines)])
    segment.write_bytes(content)
    done = close(log, SETTINGS, LATER)
    assert (done.segments, done.decisions) == (1, kept)
    assert f"1 of its lines are damaged; {kept} decisions of it are closed; set aside" in done.aside[0]
    (aside,) = (log / "aside").iterdir()
    assert aside.read_bytes() == content


def test_a_segment_with_a_zeroed_first_page_is_set_aside_whole(log: Path) -> None:
    (segment,) = Listing.of(log).open
    segment.write_bytes(bytes(4096) + segment.read_bytes()[4096:])
    assert "its first line is no header of a decision log" in close(log, SETTINGS, LATER).aside[0]


FOLDERS = st.sampled_from([f"open/{SEGMENT}.jsonl", f"closed/{SEGMENT}.parquet"])
BYTES = st.binary(max_size=300) | st.builds(lambda start, rest: start + rest, st.sampled_from([
    b'{"format":1,"model":"m","model_version":"1","digest":"d","features":["a"]}\n', b'{"format":1', b"PAR1",
]), st.binary(max_size=200))  # fmt: skip


@pytest.mark.slow
@given(FOLDERS, BYTES, st.integers(0, 5_000), st.binary(min_size=1, max_size=30))
@hypothesis.settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_bytes_lie_in_a_folder_the_others_are_closed_and_read(
    log: Path, tmp_path_factory: pytest.TempPathFactory, name: str, content: bytes, at: int, patch: bytes
) -> None:
    for foreign in (content, _patched(log, name, at, patch)):
        copy = tmp_path_factory.mktemp("copy") / "log"
        shutil.copytree(log, copy)
        (copy / "closed").mkdir(exist_ok=True)
        (copy / name).write_bytes(foreign)
        assert (
            12
            <= sum(table.num_rows for table in DecisionLogReader(copy).tables(["time", "probability", "decision"]))
            <= 24
        )
        assert Ages.of(copy, "host").written is None
        assert 12 <= close(copy, SETTINGS, LATER).decisions <= 24
        assert close(copy, SETTINGS, LATER + timedelta(days=800)).segments == 0
        shutil.rmtree(copy.parent)


def _patched(log: Path, name: str, at: int, patch: bytes) -> bytes:
    """A real segment with some bytes replaced."""
    (segment,) = Listing.of(log).open
    whole = segment.read_bytes()
    if name.endswith("parquet"):
        header = read_header(segment)
        assert header
        target = log.parent / f"{SEGMENT}.parquet"
        write_segment(decision_table(header, list(read_lines(segment))), target)
        whole = target.read_bytes()
    return whole[:at] + patch + whole[at + len(patch) :]


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_nobody_but_the_owner_reads_a_log(small: StoredModel, tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        worker = Worker(small, tmp_path / "counts", tmp_path / "log", now=LATER.timestamp())
        worker.record(300)
        worker.recorder.publish()
        modes = {path: path.stat().st_mode & 0o777 for path in (tmp_path / "log").rglob("*")}
        modes |= {path: path.stat().st_mode & 0o777 for path in (tmp_path / "counts").rglob("*")}
        worker.recorder.close()
        (tmp_path / "log" / "open" / "foreign").mkdir()
        close(tmp_path / "log", SETTINGS, LATER)
    finally:
        os.umask(before)
    closed = [path for name in ("", "open", "closed", "aside") for path in [tmp_path / "log" / name]]
    modes |= {path: path.stat().st_mode & 0o777 for path in closed}
    modes |= {path: path.stat().st_mode & 0o777 for path in (tmp_path / "log" / "closed").iterdir()}
    assert {path: mode for path, mode in modes.items() if mode & 0o077} == {}


def test_folders_that_were_open_to_others_are_closed_to_them(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o755)
    make_folders(tmp_path)
    assert (tmp_path / "open").stat().st_mode & 0o777 == 0o700


def test_a_segment_is_on_the_disk_before_it_has_its_name(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed = []
    flush = os.fsync

    def noted(descriptor: int) -> None:
        flush(descriptor)
        flushed.append((Path(f"/proc/self/fd/{descriptor}").readlink(), len(list((log / "open").iterdir()))))

    monkeypatch.setattr(os, "fsync", noted)
    (segment,) = Listing.of(log).open
    close(log, SETTINGS, LATER)
    (scratch, folder), (left, still) = zip(*flushed, strict=True)
    assert (scratch.parent, folder) == (log / "closed", log / "closed")
    assert scratch.name.startswith(f".{segment.stem}.parquet-")
    assert (left, still) == (1, 1)


def test_a_segment_is_as_old_as_its_last_decision_in_whatever_group(log: Path) -> None:
    close(log, SETTINGS, LATER)
    (path,) = Listing.of(log).closed
    table = parquet.read_table(path)
    time = table.schema.get_field_index("time")
    old = pa.array([LATER - timedelta(days=900)] * 12, table.schema.field("time").type)
    newer = pa.concat_tables([table.set_column(time, table.schema.field("time"), old), table])
    parquet.write_table(newer, path, row_group_size=12)
    assert close(log, SETTINGS, LATER + timedelta(days=10)).expired == 0
    parquet.write_table(newer.slice(0, 24).take([*range(12, 24), *range(12)]), path, row_group_size=12)
    assert close(log, SETTINGS, LATER + timedelta(days=10)).expired == 0
