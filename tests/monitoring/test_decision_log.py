"""The decision log: its lines, its segments, and what happens where there is no room for them."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from decision_log.checkpoints import MerkleTree, leaf_hash
from decision_log.errors import DecisionLogError, NotRecordedError
from decision_log.format import Caller, ClientHash, Header, LineFormat, SegmentBefore, client_hash, stated_hash, vectors
from decision_log.segments import Listing, WorkerId, read_header, read_lines
from decision_log.writer import DecisionLogWriter, Failure, LogSettings, Position
from jobs.heartbeat import Heartbeat
from scoring.store import StoredModel
from tests.monitoring.recording import KEY, Worker, settings
from tests.server import ROOT

WORKER = WorkerId("20260101T000000000000Z", "host-1", 42)
MODEL = Header("model", "1-abc", "abc", ("a",))
HEADER = MODEL.line()
LINE = b'{"n":1}\n'


def log_settings(**changes: object) -> LogSettings:
    return settings(log=changes).recording.log


@pytest.fixture
def log(tmp_path: Path) -> Iterator[DecisionLogWriter]:
    """A log with segments of 64 kB."""
    writer = DecisionLogWriter(tmp_path, WORKER, MODEL, log_settings(segment_bytes=65_536))
    yield writer
    writer.close()


def following(lines: list[bytes]) -> bytes:
    """The header of the segment after the first one, which has these lines."""
    root = MerkleTree.of([leaf_hash(line) for line in lines]).root().hex()
    return MODEL.after(SegmentBefore(WORKER.segment(Path(), 0).stem, len(lines), root)).line()


def wait_for(condition: object) -> None:
    deadline = time.monotonic() + 600
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def put_in_the_way(folder: Path) -> None:
    """A file in place of the folder, which the log's thread may make anew at any moment."""
    while not folder.is_file():
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(IsADirectoryError):
            folder.write_text("in the way")


def test_a_line_holds_what_the_format_says(small: StoredModel) -> None:
    matrix = np.full((2, len(small.scorer.features)), np.nan)
    matrix[1] = 1.5
    scores = small.scorer.score_matrix(matrix)
    explainer = small.scorer.explainer
    assert explainer is not None
    assert any(scores.reasons)
    form = LineFormat(Header.of(small), ClientHash(b"k" * 32))
    callers = [Caller("r-1", "7"), Caller("r-1", None, 3)]
    first, second = map(json.loads, form.lines("/predict", callers, matrix, scores, 1_770_000_000.25).splitlines())
    assert next(iter(first)) == "salt"
    assert len(bytes.fromhex(first["salt"])) == 16
    assert first["salt"] != second["salt"]
    expected = {
        "salt": first["salt"],
        "request_id": "r-1",
        "index": 0,
        "time": "2026-02-02T02:40:00.250000Z",
        "route": "/predict",
        "model": small.name,
        "model_version": small.version,
        "digest": small.scorer.artefact.digest,
        "variant": "champion",
        "policy": small.scorer.artefact.policy_version,
        "client": blake2b(b"7", key=b"k" * 32, digest_size=16).hexdigest(),
        "margin": scores.margin[0],
        "probability": scores.probability[0],
        "prediction": scores.prediction[0],
        "decision": str(scores.decision[0]),
        "risk_level": str(scores.risk_level[0]),
        "missing": scores.missing[0],
        "unknown": 0,
        "withheld": bool(scores.withheld[0]),
        "explained_by": explainer.version,
        "reasons": " ".join(reason.code for reason in scores.reasons[0]),
        "vector": base64.b64encode(matrix[0].astype("<f8").tobytes()).decode(),
    }
    assert first == expected
    assert (second["index"], second["client"]) == (3, None)
    assert vectors([first, second]).tobytes() == matrix.tobytes()


def test_without_a_hash_clients_are_left_out(small: StoredModel) -> None:
    matrix = np.zeros((1, len(small.scorer.features)))
    form = LineFormat(Header.of(small), None)
    line = form.lines("/predict", [Caller("r", "7")], matrix, small.scorer.score_matrix(matrix), 0.0)
    assert json.loads(line)["client"] is None


@pytest.mark.parametrize("key", [None, "", "changeme", "0" * 64, "ab" * 32, KEY[:-1], KEY + "0", KEY[:-1] + "g"])
def test_a_missing_key_and_a_placeholder_are_refused(key: str | None) -> None:
    with pytest.raises(DecisionLogError, match=r"DECISION_LOG_KEY .*must be 64 random hexadecimal digits"):
        client_hash({} if key is None else {"DECISION_LOG_KEY": key})


@pytest.mark.parametrize("blanks", ["", "\n", " \r\n"])
def test_a_key_in_a_file_is_the_key_in_the_environment(tmp_path: Path, blanks: str) -> None:
    (tmp_path / "key").write_text(KEY + blanks)
    found = client_hash({"DECISION_LOG_KEY": "", "DECISION_LOG_KEY_FILE": str(tmp_path / "key")})
    assert found("7") == client_hash({"DECISION_LOG_KEY": KEY})("7")


def test_where_neither_variable_is_set_no_key_is_stated() -> None:
    assert stated_hash({"DECISION_LOG_KEY": "", "DECISION_LOG_KEY_FILE": ""}) is None


def test_a_key_in_two_places_is_refused(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY)
    with pytest.raises(DecisionLogError, match="DECISION_LOG_KEY and DECISION_LOG_KEY_FILE are both set"):
        client_hash({"DECISION_LOG_KEY": KEY, "DECISION_LOG_KEY_FILE": str(tmp_path / "key")})


@pytest.mark.parametrize("content", [b"", b"changeme", b"\xff\x00" * 32, KEY.encode() * 100, KEY.encode("utf-16")])
def test_a_file_that_holds_no_key_is_refused_without_what_it_holds(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(DecisionLogError, match="must be 64 random hexadecimal digits") as refused:
        client_hash({"DECISION_LOG_KEY_FILE": str(tmp_path / "key")})
    assert str(tmp_path / "key") in str(refused.value)
    assert KEY[:16] not in str(refused.value)
    assert "changeme" not in str(refused.value)


def test_a_key_file_that_cannot_be_read_is_an_error_of_the_log(tmp_path: Path) -> None:
    with pytest.raises(DecisionLogError) as refused:
        client_hash({"DECISION_LOG_KEY_FILE": str(tmp_path / "key")})
    assert str(refused.value) == f"DECISION_LOG_KEY_FILE: {tmp_path / 'key'} cannot be read (No such file or directory)"


def test_a_header_is_read_as_it_was_written() -> None:
    header = Header("model", "1-abc", "abc", ("a", "b"))
    assert Header.parse(header.line()) == header
    with pytest.raises(ValueError, match="not a header"):
        Header.parse(b'{"format": 2}')


def test_a_worker_is_parsed_as_it_is_written() -> None:
    assert WorkerId.parse(str(WORKER)) == WORKER


def test_lines_are_in_the_file_when_append_returns(log: DecisionLogWriter, tmp_path: Path) -> None:
    ends = [log.append(LINE) for _ in range(3)]
    path = WORKER.segment(tmp_path, 0)
    assert [json.loads(line) for line in (LINE,) * 3] == list(read_lines(path))
    assert ends == [Position(0, len(HEADER) + len(LINE) * count) for count in (1, 2, 3)]
    assert read_header(path) == Header.parse(HEADER)
    assert list(read_lines(path, ends[1].offset)) == [json.loads(LINE)]  # type: ignore[union-attr]


def test_a_full_segment_is_cut_off_and_the_next_one_goes_on(log: DecisionLogWriter, tmp_path: Path) -> None:
    many = LINE * 5_000
    first = log.append(many)
    # The file is there a moment before the writer may use it.
    wait_for(lambda: log._next is not None)
    second = log.append(many)
    next_header = following(many.splitlines())
    assert [first, second] == [Position(0, len(HEADER + many)), Position(1, len(next_header + many))]
    assert read_header(WORKER.segment(tmp_path, 1)) == Header.parse(next_header)
    wait_for(lambda: WORKER.segment(tmp_path, 0).stat().st_size == len(HEADER + many))


def test_lines_that_no_segment_has_room_for_get_one_to_themselves(log: DecisionLogWriter, tmp_path: Path) -> None:
    log.append(LINE * 20_000)
    assert len(list(read_lines(WORKER.segment(tmp_path, 0)))) == 20_000


def test_an_old_segment_is_finished_without_a_new_line(tmp_path: Path) -> None:
    log = DecisionLogWriter(tmp_path, WORKER, MODEL, log_settings(segment_seconds=0.05))
    log.append(LINE)
    wait_for(lambda: WORKER.segment(tmp_path, 0).stat().st_size == len(HEADER + LINE))
    assert log.append(LINE) == Position(1, len(following([LINE[:-1]]) + LINE))
    log.close()


def test_closing_leaves_nothing_but_lines(log: DecisionLogWriter, tmp_path: Path) -> None:
    log.append(LINE)
    log.close()
    assert {path.name: path.read_bytes() for path in (tmp_path / "open").iterdir()} == {
        WORKER.segment(tmp_path, 0).name: HEADER + LINE
    }


def test_a_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DecisionLogError, match="no decision log can be kept there"):
        DecisionLogWriter(tmp_path / "file", WORKER, MODEL, log_settings())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte, if this machine lets us have one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounting is not permitted")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_is_a_failure_until_there_is_room_again(small_disk: Path) -> None:
    log = DecisionLogWriter(small_disk, WORKER, MODEL, log_settings(segment_bytes=400_000))
    many = LINE * 10_000
    outcomes = []
    while not outcomes or outcomes[-1] is not Failure.NO_SPACE:
        outcomes.append(log.append(many))
        assert len(outcomes) < 100
    written = [outcome for outcome in outcomes if isinstance(outcome, Position)]
    segments = {WORKER.segment(small_disk, position.segment) for position in written}
    wait_for(lambda: sum(len(list(read_lines(path))) for path in segments) == 10_000 * len(written))
    for path in segments:
        path.unlink()
    wait_for(lambda: isinstance(log.append(LINE), Position))
    log.close()


def test_where_lines_are_dropped_decisions_go_on_and_are_counted(
    small: StoredModel, small_disk: Path, tmp_path: Path
) -> None:
    dropping = settings(log={"on_failure": "drop", "segment_bytes": 65_536})
    worker = Worker(small, tmp_path / "counts", small_disk, dropping)
    for _ in range(20):
        worker.record(100)
    worker.recorder.publish()
    lost = worker.value("decision_log_failures_total", reason="no_space")
    assert lost
    assert lost + (worker.value("decision_log_lines_total") or 0) == 2_000
    assert worker.value("applications_total", model_version=small.version) == 2_000
    worker.recorder.close()


def test_where_lines_are_required_nothing_is_decided_without_one(
    small: StoredModel, small_disk: Path, tmp_path: Path
) -> None:
    worker = Worker(small, tmp_path / "counts", small_disk, settings(log={"segment_bytes": 65_536}))
    recorded = 0

    def until_refused() -> None:
        nonlocal recorded
        while True:
            worker.record(100)
            recorded += 100

    with pytest.raises(NotRecordedError, match="no_space"):
        until_refused()
    worker.recorder.publish()
    assert worker.value("decision_log_failures_total", reason="no_space") == 100
    assert worker.value("decision_log_lines_total") == recorded
    assert worker.value("applications_total", model_version=small.version) == recorded
    worker.recorder.close()
    lines = [line for path in Listing.of(small_disk).open for line in read_lines(path)]
    assert len(lines) == recorded


@pytest.mark.slow
def test_a_limit_of_file_size_is_a_failure_too(tmp_path: Path) -> None:
    code = f"""
import resource
from pathlib import Path
from tests.monitoring.test_decision_log import LINE, MODEL, WORKER, log_settings
from decision_log.writer import DecisionLogWriter as DecisionLog
resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, 65_536))
log = DecisionLog(Path({str(tmp_path)!r}), WORKER, MODEL, log_settings(segment_bytes=131_072))
print(log.append(LINE))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "no_space\n"
    assert list((tmp_path / "open").iterdir()) == []


def removed(open_: Path) -> None:
    for path in open_.iterdir():
        path.unlink()


def moved(open_: Path) -> None:
    open_.rename(open_.parent / "elsewhere")


def moved_as_a_whole(open_: Path) -> None:
    open_.parent.rename(open_.parent.with_name("elsewhere"))


def replaced(open_: Path) -> None:
    for path in open_.iterdir():
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content)


def cut_short(open_: Path) -> None:
    for path in open_.iterdir():
        os.truncate(path, 0)


def covered(open_: Path) -> None:
    """As a file system that is mounted over the folder does."""
    open_.rename(open_.parent / "below")
    open_.mkdir(exist_ok=True)  # the log may be quicker


REMOVALS = [removed, moved, moved_as_a_whole, replaced, cut_short, covered]


@pytest.mark.parametrize("remove", REMOVALS)
def test_a_line_whose_file_is_gone_is_in_the_next_file_and_what_was_lost_is_counted(
    tmp_path: Path, remove: Callable[[Path], None]
) -> None:
    lost: list[int] = []
    log = DecisionLogWriter(tmp_path / "log", WORKER, MODEL, log_settings(segment_bytes=65_536), lost=lost.append)
    log.append(LINE * 3)
    log.append(LINE)
    remove(tmp_path / "log" / "open")
    written = log.append(LINE * 2)
    assert isinstance(written, Position)
    assert list(read_lines(WORKER.segment(tmp_path / "log", written.segment))) == [json.loads(LINE)] * 2
    log.close()
    assert sum(lost) == 4


@pytest.mark.parametrize("remove", REMOVALS)
def test_a_file_that_is_gone_is_missed_without_a_request(tmp_path: Path, remove: Callable[[Path], None]) -> None:
    lost: list[int] = []
    log = DecisionLogWriter(tmp_path / "log", WORKER, MODEL, log_settings(), lost=lost.append)
    log.append(LINE * 3)
    remove(tmp_path / "log" / "open")
    wait_for(lambda: lost == [3] and (tmp_path / "log" / "open").is_dir() and log._next is not None)
    log.close()


@pytest.mark.parametrize("remove", REMOVALS)
def test_a_file_that_is_gone_at_the_end_is_missed_too(tmp_path: Path, remove: Callable[[Path], None]) -> None:
    lost: list[int] = []
    log = DecisionLogWriter(tmp_path / "log", WORKER, MODEL, log_settings(), lost=lost.append)
    log.append(LINE * 3)
    remove(tmp_path / "log" / "open")
    log.close()
    assert lost == [3]


def test_a_cut_file_loses_only_what_was_cut(tmp_path: Path) -> None:
    lost: list[int] = []
    log = DecisionLogWriter(tmp_path, WORKER, MODEL, log_settings(), lost=lost.append)
    log.append(LINE * 5)
    os.truncate(WORKER.segment(tmp_path, 0), len(HEADER) + 2 * len(LINE) + 3)
    wait_for(lambda: lost == [3])
    log.close()
    assert list(read_lines(WORKER.segment(tmp_path, 0))) == [json.loads(LINE)] * 2


def test_where_no_file_can_be_made_any_more_nothing_is_decided(small: StoredModel, tmp_path: Path) -> None:
    worker = Worker(small, tmp_path / "counts", tmp_path / "log")
    worker.record(3)
    put_in_the_way(tmp_path / "log")
    for _ in range(2):
        with pytest.raises(NotRecordedError, match="io"):
            worker.record(2)
    worker.recorder.publish()
    assert worker.value("decision_log_failures_total", reason="removed") == 3
    assert worker.value("decision_log_failures_total", reason="io") == 4
    assert worker.value("applications_total", model_version=small.version) == 3
    (tmp_path / "log").unlink()
    wait_for(lambda: recorded(worker))
    worker.recorder.close()
    assert [len(list(read_lines(path))) for path in Listing.of(tmp_path / "log").open] == [1]


def recorded(worker: Worker) -> bool:
    try:
        worker.record(1)
    except NotRecordedError:
        return False
    return True


def test_a_failure_is_logged_once_until_it_goes_well_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = DecisionLogWriter(tmp_path / "log", WORKER, MODEL, log_settings())
    for count in (1, 2):
        put_in_the_way(tmp_path / "log")
        wait_for(lambda: log.append(LINE) is Failure.IO)
        assert [log.append(LINE) for _ in range(3)] == [Failure.IO] * 3
        log._allocate()  # as the thread tries every second
        log._allocate()
        said = [record for record in caplog.records if record.message.startswith("the decision log cannot be written")]
        assert [record.name for record in said] == ["bentoml.credit_scoring"] * count
        (tmp_path / "log").unlink()
        wait_for(lambda: isinstance(log.append(LINE), Position))
    log.close()


def test_the_thread_tells_that_it_lives_and_rests_at_the_end(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    log = DecisionLogWriter(
        tmp_path, WORKER, MODEL, log_settings(), heartbeat=Heartbeat("decision-log", registry=registry)
    )

    def beat() -> float:
        name = "credit_scoring_thread_heartbeat_timestamp_seconds"
        return registry.get_sample_value(name, {"thread": "decision-log"}) or 0.0

    first = beat()
    wait_for(lambda: beat() > first)
    log.close()
    assert beat() == float("inf")


def test_a_worker_id_is_not_shared() -> None:
    assert replace(WORKER, pid=43).segment(Path(), 0) != WORKER.segment(Path(), 0)
