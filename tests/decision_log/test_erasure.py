"""Erasure: one client's records are gone, and all others still prove."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from prometheus_client import CollectorRegistry

from decision_log.cli import erase as command
from decision_log.closing import close
from decision_log.erasure import Erased, erase
from decision_log.errors import DecisionLogError
from decision_log.format import ClientHash
from decision_log.notary import Notary, Vault
from decision_log.overrides import OverrideLog, OverrideReader, newest_decision
from decision_log.proofs import Verification, prove, verify_log
from decision_log.reader import DecisionLogReader
from decision_log.segments import Listing
from jobs.commandline import run_command
from scoring.policy import DecisionKind
from scoring.store import public_key
from tests.decision_log.logs import HEADER, KeyPair, Scribe, Signed, rewrite, signed_log
from tests.monitoring.recording import KEY, settings
from tests.monitoring.test_closing import LATER, SETTINGS

CLIENT = ClientHash(b"k" * 32).digest("client-3")
NOW = datetime(2026, 11, 28, tzinfo=UTC)
ERASED = [number for number in range(300) if number % 7 == 3]
"""The records of client-3."""


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Signed:
    return signed_log(tmp_path_factory.mktemp("original"), records=300, every=20)


@pytest.fixture
def signed(original: Signed, tmp_path: Path) -> Signed:
    return original.copy(tmp_path / "copy")


def notary(signed: Signed) -> Notary | None:
    return Notary.of(signed.keys.environment(signed.vault), signed.log)


def verified(signed: Signed) -> Verification:
    return verify_log(signed.log, Vault(str(signed.vault)), [public_key(signed.keys.public)])


def requests(signed: Signed) -> set[str]:
    tables = list(DecisionLogReader(signed.log).tables(["request_id"]))
    return set(pa.concat_tables(tables)["request_id"].to_pylist()) if tables else set()


LEFT = {f"request-{number}" for number in range(300) if number not in ERASED}


@pytest.mark.parametrize("steps", ["erase", "close erase", "erase close", "erase close erase"])
def test_the_records_are_gone_and_all_others_prove(signed: Signed, steps: str) -> None:
    done = []
    for step in steps.split():
        if step == "close":
            close(signed.log, SETTINGS, LATER, notary(signed))
        else:
            done.append(erase(signed.log, CLIENT, notary(signed), NOW))
    assert done[0] == Erased(len(ERASED), 3)
    assert done[1:] in ([], [Erased(0, 0)])
    assert requests(signed) == LEFT
    assert verified(signed) == Verification(segments=3, records=300, covered=300, erased=len(ERASED))
    content = b"".join(path.read_bytes() for path in signed.log.rglob("*") if path.is_file())
    assert b'request-3"' not in content
    assert CLIENT.hex().encode() not in content
    found = {number for number in range(300) if newest_decision(signed.log, f"request-{number}", 0)}
    assert found == set(range(300)) - set(ERASED)
    reader = DecisionLogReader(signed.log)
    assert sum(table.num_rows for table in reader.tables(["time"])) == len(LEFT)
    assert reader.passed_over == {}
    proof = prove(signed.log, Vault(str(signed.vault)), [public_key(signed.keys.public)], "request-11")
    assert json.loads(proof["line"])["request_id"] == "request-11"
    assert proof["index"] == 11


def test_two_clients_are_erased_one_after_another(signed: Signed) -> None:
    close(signed.log, SETTINGS, LATER, notary(signed))
    for client in (3, 0, 5):
        assert erase(signed.log, ClientHash(b"k" * 32).digest(f"client-{client}"), notary(signed), NOW).segments == 3
    left = {number for number in range(300) if number % 7 not in (0, 3, 5)}
    assert requests(signed) == {f"request-{number}" for number in left}
    assert verified(signed) == Verification(segments=3, records=300, covered=300, erased=300 - len(left))


def test_a_segment_that_a_worker_still_writes_is_erased_in_place(tmp_path: Path) -> None:
    signed = Signed(tmp_path, KeyPair(tmp_path / "keys"))
    scribe = Scribe(signed.log, signed.keys, signed.vault)
    scribe.write(10)
    scribe.attest()
    assert erase(signed.log, CLIENT, notary(signed), NOW) == Erased(1, 1)
    scribe.write(10)
    scribe.close()
    assert requests(signed) == {f"request-{number}" for number in range(20) if number != 3}
    assert verified(signed) == Verification(segments=1, records=20, covered=20, erased=1)


@pytest.mark.parametrize("is_closed", [False, True])
def test_overrides_of_the_decisions_are_gone_and_all_others_prove(signed: Signed, is_closed: bool) -> None:
    overrides = OverrideLog(
        signed.log, HEADER, settings().recording.log, signed.keys.environment(signed.vault),
        clock=NOW.timestamp, registry=CollectorRegistry(),
    )  # fmt: skip
    for number in (3, 4, 10):
        overrides.override(
            f"request-{number}", 0, actor="somebody", decision=DecisionKind.DECLINE, reason=f"words about {number}"
        )
    overrides.close()
    if is_closed:
        close(signed.log, SETTINGS, LATER, notary(signed))
    assert erase(signed.log, CLIENT, notary(signed), NOW) == Erased(len(ERASED), 3, overrides=2)
    reader = OverrideReader(signed.log)
    reader.look()
    assert [one.reason for one in reader.records] == ["words about 4"]
    content = b"".join(path.read_bytes() for path in signed.log.rglob("*") if path.is_file())
    assert b"words about 3" not in content
    vault, key = Vault(str(signed.vault / "overrides")), [public_key(signed.keys.public)]
    assert verify_log(signed.log / "overrides", vault, key) == Verification(1, 3, 3, erased=2)
    assert verified(signed).erased == len(ERASED)


def test_a_destroyed_record_that_no_statement_names_is_found(signed: Signed) -> None:
    erase(signed.log, CLIENT, notary(signed), NOW)
    for folder in (signed.log, signed.vault):
        (folder / "erasures").unlink()
    findings = verified(signed).findings
    assert next((one.record, one.what) for one in findings) == (
        3, "was destroyed, and no signed statement says that it was erased",
    )  # fmt: skip
    assert len(findings) == 3


def test_an_erased_line_with_another_hash_is_found(signed: Signed) -> None:
    erase(signed.log, CLIENT, notary(signed), NOW)
    path = Listing.of(signed.log).open[0]
    rewrite(path, lambda lines: [*lines[:3], lines[3].replace(b'":"', b'":"0', 1).replace(b'"}', b"}", 1), *lines[4:]])
    assert (path.stem, 3) in [(one.segment, one.record) for one in verified(signed).findings]


def test_a_log_with_checkpoints_is_not_erased_without_the_key(signed: Signed) -> None:
    with pytest.raises(DecisionLogError, match=r"^the log has checkpoints: RECORD_KEY_FILE must name the key"):
        erase(signed.log, CLIENT, None, NOW)
    assert len(requests(signed)) == 300


@pytest.mark.parametrize(
    "act",
    [
        lambda log, alone: erase(log, CLIENT, alone, NOW),
        lambda log, alone: close(log, SETTINGS, LATER, alone),
    ],
    ids=["erase", "close"],
)
def test_with_the_key_alone_nothing_is_changed_where_checkpoints_are(
    signed: Signed, act: Callable[[Path, Notary | None], object]
) -> None:
    alone, before = Notary.of(signed.keys.environment(None), signed.log), contents(signed.log)
    with pytest.raises(DecisionLogError, match=r"^the log has checkpoints: RECORD_CHECKPOINTS must name the address"):
        act(signed.log, alone)
    assert contents(signed.log) == before
    assert verified(signed) == Verification(segments=3, records=300, covered=300)


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("place", ["log", "vault"])
def test_a_statement_counts_in_the_log_and_beside_the_checkpoints(signed: Signed, place: str) -> None:
    erase(signed.log, CLIENT, notary(signed), NOW)
    (signed.folder / place / "erasures").unlink()
    assert verified(signed) == Verification(segments=3, records=300, covered=300, erased=len(ERASED))


def test_a_statement_in_the_log_that_another_key_has_signed_says_nothing(signed: Signed) -> None:
    erase(signed.log, CLIENT, Notary.of(signed.keys.other.environment(signed.vault), signed.log), NOW)
    assert len(verified(signed).findings) == 3


def test_a_segment_of_which_nothing_is_left_proves_and_expires(tmp_path: Path) -> None:
    signed = Signed(tmp_path, KeyPair(tmp_path / "keys"))
    scribe = Scribe(signed.log, signed.keys, signed.vault)
    scribe.write(4)
    scribe.close()
    for client in range(4):
        erase(signed.log, ClientHash(b"k" * 32).digest(f"client-{client}"), notary(signed), LATER)
    for later in (LATER, LATER + timedelta(days=700)):
        close(signed.log, SETTINGS, later, notary(signed))
        assert verified(signed) == Verification(segments=1, records=4, covered=4, erased=4)
    assert close(signed.log, SETTINGS, LATER + timedelta(days=731), notary(signed)).expired == 1


def test_the_command_says_what_it_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    signed = signed_log(tmp_path / "signed", records=20, every=20)
    for name, value in {**signed.keys.environment(signed.vault), "DECISION_LOG_KEY": KEY}.items():
        monkeypatch.setenv(name, value)
    assert run_command(command, ["--client", "client-3", "--log", str(signed.log)], program="erase") == 0
    assert capsys.readouterr().out == "0 records in 0 segments and 0 overrides were destroyed\n"
    monkeypatch.delenv("DECISION_LOG_KEY")
    assert run_command(command, ["--client", "client-3", "--log", str(signed.log)], program="erase") == 1
    assert capsys.readouterr().err.startswith("error: the decision log hashes client ids: DECISION_LOG_KEY or the file")
