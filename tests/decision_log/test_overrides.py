"""Overrides are records: written beside the log, found again, proven like decisions, and kept as long."""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from decision_log.closing import close
from decision_log.durability import Durability
from decision_log.errors import CheckpointError, DecisionLogError, NotRecordedError, StandsError, UnknownDecisionError
from decision_log.format import Header
from decision_log.notary import Vault
from decision_log.overrides import (
    FIELDS,
    OVERRIDES,
    OverrideLog,
    OverrideReader,
    OverrideRecord,
    keep_overrides,
    notary_of,
)
from decision_log.proofs import Verification, verify_log
from decision_log.segments import Listing, read_header, read_lines, read_raw
from scoring.policy import DecisionKind
from scoring.store import StoredModel, public_key
from tests.decision_log.logs import KeyPair
from tests.monitoring.recording import Worker, settings

SETTINGS = settings().recording.log
NOW = 1_770_000_000.25
DECLINE, APPROVE = DecisionKind.DECLINE, DecisionKind.APPROVE


@pytest.fixture
def log(small: StoredModel, tmp_path: Path) -> Path:
    """A log of decisions of each kind, `request-0` with indexes from 0 on."""
    worker = Worker(small, tmp_path / "counts", tmp_path / "log", now=NOW - 3600)
    worker.record(200)
    worker.recorder.close()
    return tmp_path / "log"


class Clock:
    now = NOW

    def __call__(self) -> float:
        return self.now


def opened(log: Path, model: StoredModel, environment: dict[str, str] | None = None) -> OverrideLog:
    return OverrideLog(log, Header.of(model), SETTINGS, environment or {}, clock=Clock(), registry=CollectorRegistry())


@pytest.fixture
def overrides(log: Path, small: StoredModel) -> Iterator[OverrideLog]:
    made = opened(log, small)
    yield made
    made.close()


def first(log: Path, kind: DecisionKind) -> int:
    lines = [line for path in Listing.of(log).open for line in read_lines(path)]
    return next(int(line["index"]) for line in lines if line["decision"] == kind)


def override(log: OverrideLog, index: int, decision: DecisionKind, actor: str | None = "anna") -> OverrideRecord:
    return log.override("request-0", index, actor=actor, decision=decision, reason="Income was verified")


def test_an_override_is_a_record_of_who_why_and_what_stood(overrides: OverrideLog, log: Path) -> None:
    index = first(log, DecisionKind.REFER)
    record = override(overrides, index, APPROVE)
    assert record == OverrideRecord(
        "request-0", index, "2026-02-02T02:40:00.250000Z", "anna", DecisionKind.REFER, APPROVE, "Income was verified"
    )
    (segment,) = [path for path in Listing.of(log / OVERRIDES).open if path.read_bytes()[:1] == b"{"]
    (line,) = read_lines(segment)
    assert tuple(line) == FIELDS
    assert len(bytes.fromhex(line["salt"])) == 16
    assert OverrideRecord.of(line) == record
    assert stat.S_IMODE(segment.stat().st_mode) == 0o600


def test_nothing_is_made_before_the_first_override(overrides: OverrideLog, log: Path) -> None:
    with pytest.raises(UnknownDecisionError, match=r"^No such decision is recorded\.$"):
        overrides.override("request-9", 0, actor=None, decision=APPROVE, reason="x")
    assert not (log / OVERRIDES).exists()


def test_what_stands_already_is_not_overridden(overrides: OverrideLog, log: Path) -> None:
    refer, approve = first(log, DecisionKind.REFER), first(log, APPROVE)
    with pytest.raises(StandsError, match=r"^The decision is approve already\.$"):
        override(overrides, approve, APPROVE)
    override(overrides, refer, DECLINE)
    with pytest.raises(StandsError, match=r"^The decision is decline already\.$"):
        override(overrides, refer, DECLINE)
    assert override(overrides, refer, APPROVE).was == DECLINE


def test_another_worker_and_a_later_one_know_what_stands(overrides: OverrideLog, log: Path, small: StoredModel) -> None:
    index = first(log, DecisionKind.REFER)
    other = opened(log, small)
    override(overrides, index, DECLINE)
    assert override(other, index, APPROVE).was == DECLINE
    with pytest.raises(StandsError):
        override(overrides, index, APPROVE)
    other.close()
    overrides.close()
    later = opened(log, small)
    with pytest.raises(StandsError):
        override(later, index, APPROVE)
    later.close()


def test_a_decision_in_a_closed_segment_is_overridden(overrides: OverrideLog, log: Path) -> None:
    index = first(log, DecisionKind.REFER)
    close(log, SETTINGS, datetime.now(UTC) + timedelta(hours=1))
    assert override(overrides, index, APPROVE).was == DecisionKind.REFER


@pytest.mark.parametrize("is_closed", [False, True])
def test_a_newer_decision_with_the_same_request_id_stands_before_an_older_override(
    overrides: OverrideLog, log: Path, small: StoredModel, tmp_path: Path, is_closed: bool
) -> None:
    index = first(log, DecisionKind.REFER)
    override(overrides, index, APPROVE)
    worker = Worker(small, tmp_path / "more", log, now=NOW + 60)
    worker.record(200)
    worker.recorder.close()
    if is_closed:
        close(log, SETTINGS, datetime.now(UTC) + timedelta(hours=1))
    assert override(overrides, index, DECLINE).was == DecisionKind.REFER


def test_without_keys_nobody_is_named(overrides: OverrideLog, log: Path) -> None:
    override(overrides, first(log, DECLINE), APPROVE, actor=None)
    reader = OverrideReader(log)
    reader.look()
    assert [record.actor for record in reader.records] == [None]


def test_a_look_reads_only_what_is_new_and_passes_over_damage(overrides: OverrideLog, log: Path) -> None:
    reader = OverrideReader(log)
    reader.look()
    assert reader.records == []
    indexes = [first(log, DecisionKind.REFER), first(log, DECLINE)]
    override(overrides, indexes[0], APPROVE)
    reader.look()
    override(overrides, indexes[1], APPROVE)
    reader.look()
    reader.look()
    assert [record.index for record in reader.records] == indexes
    overrides.close()
    (segment,) = Listing.of(log / OVERRIDES).open
    header, line, _ = segment.read_bytes().splitlines(keepends=True)
    wrong = [b"x\n", b"{}\n", line.replace(b'"approve"', b'"refuse"'), line.replace(b"verified", b"\\n"), line[:-9]]
    segment.write_bytes(b"".join([header, line, *wrong]))
    again = OverrideReader(log)
    again.look()
    assert [record.index for record in again.records] == indexes[:1]


def test_an_override_that_cannot_be_written_is_an_error(overrides: OverrideLog, log: Path) -> None:
    (log / OVERRIDES).write_text("")
    with pytest.raises(DecisionLogError, match="no decision log can be kept there"):
        override(overrides, first(log, DecisionKind.REFER), APPROVE)
    (log / OVERRIDES).unlink()
    assert override(overrides, first(log, DecisionKind.REFER), APPROVE).decision == APPROVE


def test_a_log_that_is_gone_is_an_error(small: StoredModel, tmp_path: Path) -> None:
    with pytest.raises(NotRecordedError, match=r"^the override: No such file or directory$"):
        opened(tmp_path / "log", small).override("r", 0, actor=None, decision=APPROVE, reason="x")
    assert list(tmp_path.iterdir()) == []


def test_overrides_have_the_checkpoints_and_proofs_of_decisions(log: Path, small: StoredModel, tmp_path: Path) -> None:
    keys, vault = KeyPair(tmp_path / "keys"), tmp_path / "vault"
    overrides = opened(log, small, keys.environment(vault))
    override(overrides, first(log, DecisionKind.REFER), APPROVE)
    override(overrides, first(log, DECLINE), APPROVE)
    overrides.close()
    folder, kept = log / OVERRIDES, Vault(str(vault / OVERRIDES))
    found = verify_log(folder, kept, [public_key(keys.public)])
    assert (found.records, found.covered, found.findings) == (2, 2, [])
    (segment,) = Listing.of(folder).open
    header = read_header(segment)
    assert header is not None
    assert header.features == FIELDS
    segment.write_bytes(segment.read_bytes().replace(b"verified", b"invented", 1))
    (finding,) = verify_log(folder, kept, [public_key(keys.public)]).findings
    assert finding.record == 0


def test_the_address_of_checkpoints_must_not_be_within_the_overrides(log: Path, tmp_path: Path) -> None:
    keys = KeyPair(tmp_path / "keys")
    with pytest.raises(CheckpointError, match="is within the log"):
        notary_of(keys.environment(log), log)


def test_segments_of_killed_workers_are_sealed_and_old_ones_removed(
    log: Path, small: StoredModel, tmp_path: Path
) -> None:
    keys, vault = KeyPair(tmp_path / "keys"), tmp_path / "vault"
    overrides = opened(log, small, keys.environment(vault))
    override(overrides, first(log, DecisionKind.REFER), APPROVE)
    notary = notary_of(keys.environment(vault), log)
    now = datetime.now(UTC)
    assert keep_overrides(log, SETTINGS, now, notary) == 0  # still written
    overrides.close()
    (segment,) = Listing.of(log / OVERRIDES).open
    assert keep_overrides(log, SETTINGS, now, notary) == 0
    assert [path.name for path in (log / OVERRIDES / "seals").iterdir()] == [segment.stem]
    old = time.time() - 86_400 * (SETTINGS.retention_days + 1)
    os.utime(segment, (old, old))
    assert keep_overrides(log, SETTINGS, now, notary) == 1
    assert Listing.of(log / OVERRIDES).open == ()


def test_segments_that_are_removed_for_their_age_are_not_missed(log: Path, small: StoredModel, tmp_path: Path) -> None:
    keys, vault = KeyPair(tmp_path / "keys"), tmp_path / "vault"
    overrides = opened(log, small, keys.environment(vault))
    index = first(log, DecisionKind.REFER)
    reason = "x" * 1_000
    for _ in range(35):
        for decision in (APPROVE, DECLINE):
            overrides.override("request-0", index, actor="anna", decision=decision, reason=reason)
    overrides.close()
    old, new = Listing.of(log / OVERRIDES).open
    was = time.time() - 86_400 * (SETTINGS.retention_days + 1)
    now, notary, key = datetime.now(UTC), notary_of(keys.environment(vault), log), [public_key(keys.public)]
    for gone, left in ((old, 70 - len(list(read_raw(old)))), (new, 0)):
        os.utime(gone, (was, was))
        assert keep_overrides(log, SETTINGS, now, notary) == 1
        found = verify_log(log / OVERRIDES, Vault(str(vault / OVERRIDES)), key)
        assert found == Verification(int(left > 0), left, left, expired=70 - left)


def test_with_durability_power_the_disk_has_confirmed_the_override(log: Path, small: StoredModel) -> None:
    chosen = SETTINGS.model_copy(update={"durability": Durability.POWER})
    overrides = OverrideLog(log, Header.of(small), chosen, {}, clock=Clock(), registry=CollectorRegistry())
    override(overrides, first(log, DecisionKind.REFER), APPROVE)
    assert overrides._writer is not None
    assert overrides._writer.unconfirmed is not None
    assert overrides._writer.unconfirmed._files == {}
    overrides.close()


def test_a_reason_in_any_script_is_kept_as_it_was_written(overrides: OverrideLog, log: Path) -> None:
    index = first(log, DecisionKind.REFER)
    reason = 'Доход "подтверждён" \\ 收入已核实'
    overrides.override("request-0", index, actor="anna", decision=APPROVE, reason=reason)
    reader = OverrideReader(log)
    reader.look()
    assert reader.records[0].reason == reason
    assert json.loads(reader.records[0].line())["reason"] == reason
