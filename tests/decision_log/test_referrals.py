"""The queue of referrals: what the model left to a person and no person has decided."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from prometheus_client import CollectorRegistry

from decision_log.cli import referrals
from decision_log.closing import close
from decision_log.format import Header
from decision_log.overrides import OverrideLog, override_directions
from decision_log.reader import DecisionLogReader, open_referrals
from decision_log.segments import Listing, read_lines
from scoring.policy import DecisionKind
from scoring.store import StoredModel
from tests.monitoring.recording import Worker, settings

SETTINGS = settings().recording.log
NOW = datetime(2026, 2, 2, 12, tzinfo=UTC)
Record = Callable[[float, int], None]


@pytest.fixture
def record(small: StoredModel, tmp_path: Path) -> Record:
    """Records so many decisions of `request-0` so many hours after noon, by a worker of its own."""

    def run(hours: float, rows: int) -> None:
        worker = Worker(small, tmp_path / f"counts-{hours}", tmp_path / "log", now=NOW.timestamp() + 3600 * hours)
        worker.record(rows)
        worker.recorder.close()

    return run


def lines(log: Path) -> list[dict[str, Any]]:
    return [line for path in Listing.of(log).open for line in read_lines(path)]


def referred(log: Path) -> list[int]:
    return [line["index"] for line in lines(log) if line["decision"] == "refer"]


def decide(log: Path, small: StoredModel, index: int, hours: float) -> None:
    overrides = OverrideLog(
        log, Header.of(small), SETTINGS, {}, clock=lambda: NOW.timestamp() + 3600 * hours, registry=CollectorRegistry()
    )
    overrides.override("request-0", index, actor="anna", decision=DecisionKind.APPROVE, reason="known")
    overrides.close()


@pytest.mark.parametrize("is_closed", [False, True])
def test_the_queue_is_what_nobody_has_decided_oldest_first(
    record: Record, small: StoredModel, tmp_path: Path, is_closed: bool
) -> None:
    log = tmp_path / "log"
    record(0, 100)
    indexes = referred(log)
    assert len(indexes) > 2
    written = {line["index"]: line for line in lines(log)}
    decide(log, small, indexes[1], hours=1)
    if is_closed:
        close(log, SETTINGS, datetime.now(UTC) + timedelta(hours=1))
    waiting = open_referrals(DecisionLogReader(log))
    assert [(one.request_id, one.index) for one in waiting] == [
        ("request-0", index) for index in indexes if index != indexes[1]
    ]
    assert [one.probability for one in waiting] == [written[one.index]["probability"] for one in waiting]
    assert {one.time for one in waiting} == {NOW}
    assert {one.points for one in waiting} == {None}  # the model is in no store
    assert waiting[0].waiting(NOW + timedelta(hours=2)) == 7_200.0
    assert override_directions(log) == {"refer to approve": 1}


def test_a_newer_decision_replaces_an_older_one_and_its_override(
    record: Record, small: StoredModel, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    record(0, 100)
    indexes = referred(log)
    decide(log, small, indexes[0], hours=1)
    record(2, 100)
    waiting = open_referrals(DecisionLogReader(log))
    assert [one.index for one in waiting] == indexes
    assert {one.time for one in waiting} == {NOW + timedelta(hours=2)}


def test_a_referral_that_was_decided_again_by_the_model_waits_no_more(
    record: Record, small: StoredModel, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    record(0, 100)
    index = referred(log)[0]
    (segment,) = Listing.of(log).open
    content = segment.read_text().splitlines(keepends=True)
    (line,) = [text for text in content if f'"index":{index},' in text]
    newer = line.replace('"decision":"refer"', '"decision":"decline"').replace("T12:00:00", "T13:00:00")
    segment.write_text("".join([*content, newer]))
    assert index not in [one.index for one in open_referrals(DecisionLogReader(log))]


def test_since_leaves_out_what_is_older(record: Record, tmp_path: Path) -> None:
    record(0, 100)
    assert open_referrals(DecisionLogReader(tmp_path / "log", since=NOW + timedelta(seconds=1))) == []


def test_the_command_prints_a_table_or_json(record: Record, tmp_path: Path) -> None:
    log = tmp_path / "log"
    record(0, 100)
    indexes = referred(log)
    table = CliRunner().invoke(referrals, ["--log", str(log)])
    assert table.exit_code == 0
    head, first, *_ = table.stdout.splitlines()
    assert head.split() == ["request_id", "index", "time", "PD", "points", "risk_level", "waiting"]
    assert first.split()[:3] == ["request-0", str(indexes[0]), "2026-02-02T12:00:00Z"]
    told = CliRunner().invoke(referrals, ["--log", str(log), "--since", "2026-02-02", "--json"])
    assert [one["index"] for one in json.loads(told.stdout)] == indexes
