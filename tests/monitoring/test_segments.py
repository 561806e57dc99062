"""What is a segment of a decision log, whose it is, and what is a decision in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from decision_log.format import Header, is_decision
from decision_log.segments import Listing, WorkerId, read_header, read_lines
from scoring.store import StoredModel
from tests.monitoring.recording import Worker

NAME = "20250101T000000000000Z-host-1-7-0"


@pytest.mark.parametrize(
    "text",
    ["", "worker", "abc-host-5", "20250101T000000000000Z-host", "20250101T000000000000Z--5", f"{NAME[:22]}-host-5x"],
)
def test_what_is_no_worker_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^not a worker$"):
        WorkerId.parse(text)


def test_a_host_may_have_a_hyphen() -> None:
    assert WorkerId.parse("20250101T000000000000Z-a-b.c-5") == WorkerId("20250101T000000000000Z", "a-b.c", 5)


def test_what_is_being_written_is_left_out_and_what_is_no_segment_is_named(tmp_path: Path) -> None:
    for name in ("open", "closed"):
        (tmp_path / name).mkdir()
    (tmp_path / "open" / f"{NAME}.jsonl").touch()
    (tmp_path / "open" / f"{NAME[:-1]}1.jsonl").touch()
    (tmp_path / "open" / f"{NAME[:-1]}2.jsonl").mkdir()
    (tmp_path / "open" / f".{NAME}.jsonl").touch()
    (tmp_path / "open" / f"{NAME[:-1]}3.jsonl").symlink_to(f"{NAME}.jsonl")
    (tmp_path / "closed" / f"{NAME}.parquet").touch()
    (tmp_path / "closed" / "notes.txt").touch()
    found = Listing.of(tmp_path)
    assert found.open == (tmp_path / "open" / f"{NAME[:-1]}1.jsonl",)
    assert found.closed == (tmp_path / "closed" / f"{NAME}.parquet",)
    assert found.closing == (tmp_path / "open" / f"{NAME}.jsonl",)
    folder_and_link = (tmp_path / "open" / f"{NAME[:-1]}{number}.jsonl" for number in (2, 3))
    assert found.others == (*folder_and_link, tmp_path / "closed" / "notes.txt")


@pytest.fixture(scope="module")
def recorded(small: StoredModel, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Header]:
    """A decision as it was recorded, and the header above it."""
    folder = tmp_path_factory.mktemp("recorded")
    worker = Worker(small, folder / "counts", folder / "log")
    worker.record(1)
    path, *_ = Listing.of(folder / "log").open  # the next one may be ready
    header, (line,) = read_header(path), read_lines(path)
    worker.recorder.close()
    assert header is not None
    return dict(line), header


@pytest.mark.parametrize(
    "change",
    [{}, {"probability": 0.0}, {"probability": 1.0}, {"prediction": 0}, {"prediction": 1}, {"client": None},
     {"missing": None, "unknown": None, "withheld": None}, {"missing": 0, "unknown": 0}, {"more": 1}],
    ids=str,
)  # fmt: skip
def test_a_decision_is_one_up_to_its_limits(recorded: tuple[dict[str, Any], Header], change: dict[str, Any]) -> None:
    assert is_decision(recorded[0] | change, recorded[1]) is True


@pytest.mark.parametrize(
    "change",
    [
        {"margin": float("nan")}, {"margin": float("inf")}, {"margin": 1}, {"margin": None},
        {"probability": float("nan")}, {"probability": 1.01}, {"probability": -0.01}, {"probability": 1},
        {"index": -1}, {"index": 0.0}, {"index": True}, {"prediction": 2}, {"prediction": -1}, {"prediction": True},
        {"decision": "perhaps"}, {"risk_level": "low"}, {"missing": -1}, {"missing": 1.0}, {"unknown": -1},
        {"unknown": "1"}, {"withheld": 1}, {"time": "yesterday"}, {"client": ""}, {"client": 7}, {"vector": ""},
        {"vector": None}, {"request_id": 5}, {"route": None}, {"salt": ""}, {"salt": None}, {"salt": "AB" * 16},
        {"variant": 1}, {"policy": "another"}, {"reasons": None}, {"explained_by": "another"},
    ],
    ids=str,
)  # fmt: skip
def test_what_breaks_the_format_is_no_decision(recorded: tuple[dict[str, Any], Header], change: dict[str, Any]) -> None:
    assert is_decision(recorded[0] | change, recorded[1]) is False


def test_a_line_that_lacks_a_part_is_no_decision(recorded: tuple[dict[str, Any], Header]) -> None:
    line, header = recorded
    for name in ("margin", "time", "vector"):
        assert not is_decision({key: value for key, value in line.items() if key != name}, header)
