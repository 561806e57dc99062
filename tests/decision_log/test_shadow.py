"""The log of challengers in shadow: commands on the decision log reach it, and no figure of decisions has it."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from decision_log.closing import Closed, close
from decision_log.erasure import erase
from decision_log.notary import Notary, Vault
from decision_log.proofs import verify_log
from decision_log.reader import DecisionLogReader
from decision_log.segments import SHADOW, Listing
from scoring.store import public_key
from tests.decision_log.logs import Signed, rewrite, signed_log
from tests.decision_log.test_erasure import CLIENT
from tests.monitoring.recording import settings
from tests.monitoring.test_closing import LATER, SETTINGS

NOW = datetime(2026, 11, 28, tzinfo=UTC)
RECORDS = 80
ERASED = len([number for number in range(RECORDS) if number % 7 == 3])


@pytest.fixture
def signed(tmp_path: Path) -> Signed:
    """A log with checkpoints, and in it one of a challenger with checkpoints of its own."""
    decided = signed_log(tmp_path / "decided", records=RECORDS, every=20)
    shadow = signed_log(tmp_path / "other", records=RECORDS, every=20)
    shutil.copytree(shadow.log, decided.log / SHADOW)
    shutil.copytree(shadow.vault, decided.vault / SHADOW)
    shutil.copy(shadow.keys.public, tmp_path / "shadow.pem")
    return decided


def notary(signed: Signed) -> Notary | None:
    return Notary.of(signed.keys.environment(signed.vault), signed.log)


def rows(log: Path) -> int:
    return sum(table.num_rows for table in DecisionLogReader(log).tables(["request_id"]))


def test_closing_reaches_the_shadow_and_counts_none_of_its_decisions(signed: Signed) -> None:
    assert rows(signed.log) == RECORDS
    done = close(signed.log, SETTINGS, LATER, notary(signed))
    segments = len(Listing.of(signed.log).closed)
    assert done == Closed(segments, RECORDS, 0, 0, shadow=len(Listing.of(signed.log / SHADOW).closed))
    assert (rows(signed.log), rows(signed.log / SHADOW)) == (RECORDS, RECORDS)


def test_closed_segments_of_the_shadow_are_shipped_to_a_folder_of_their_own(signed: Signed, tmp_path: Path) -> None:
    chosen = settings(log={"ship": str(tmp_path / "copies")}).recording.log
    done = close(signed.log, chosen, LATER, notary(signed))
    closed = Listing.of(signed.log / SHADOW).closed
    assert {path.name for path in (tmp_path / "copies" / SHADOW).iterdir()} == {path.name for path in closed}
    assert done.shipped == len(closed) + len(Listing.of(signed.log).closed)


@pytest.mark.parametrize("closes", [False, True])
def test_an_erasure_reaches_the_shadow(signed: Signed, closes: bool) -> None:
    if closes:
        close(signed.log, SETTINGS, LATER, notary(signed))
    done = erase(signed.log, CLIENT, notary(signed), NOW)
    assert (done.records, done.shadow) == (ERASED, ERASED)
    assert (rows(signed.log), rows(signed.log / SHADOW)) == (RECORDS - ERASED, RECORDS - ERASED)


def test_the_shadow_is_held_against_its_own_checkpoints(signed: Signed, tmp_path: Path) -> None:
    log, vault = signed.log / SHADOW, Vault(str(signed.vault)).below(SHADOW)
    key = public_key(tmp_path / "shadow.pem")
    found = verify_log(log, vault, [key])
    assert (found.findings, found.covered) == ([], RECORDS)
    whole = verify_log(signed.log, Vault(str(signed.vault)), [public_key(signed.keys.public)])
    assert (whole.findings, whole.covered) == ([], RECORDS)
    path = Listing.of(log).open[0]
    rewrite(path, lambda lines: [lines[0].replace(b'"index":0', b'"index":9'), *lines[1:]])
    [finding] = verify_log(log, vault, [key]).findings
    assert (finding.segment, finding.record) == (path.stem, 0)
