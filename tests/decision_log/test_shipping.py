"""Closed segments are copied elsewhere by `close`: each once, and again after an erasure."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest

from decision_log.closing import close
from decision_log.erasure import erase
from decision_log.errors import CheckpointError
from decision_log.notary import Notary
from decision_log.segments import Listing
from tests.decision_log.logs import signed_log
from tests.decision_log.test_erasure import CLIENT, NOW
from tests.monitoring.recording import settings
from tests.monitoring.test_closing import LATER


def test_each_closed_segment_is_copied_once_and_again_after_an_erasure(tmp_path: Path) -> None:
    signed = signed_log(tmp_path / "signed", records=200, every=50)
    chosen = settings(log={"ship": str(tmp_path / "copies")}).recording.log
    assert close(signed.log, chosen, LATER).shipped == 2
    closed = Listing.of(signed.log).closed

    def copies() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (tmp_path / "copies").iterdir()}

    assert copies() == {path.name: path.read_bytes() for path in closed}
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "copies").iterdir()} == {0o600}
    assert close(signed.log, chosen, LATER).shipped == 0
    erase(signed.log, CLIENT, Notary.of(signed.keys.environment(signed.vault), signed.log), NOW)
    assert close(signed.log, chosen, LATER).shipped == 2
    assert copies() == {path.name: path.read_bytes() for path in closed}


def test_an_address_of_fsspec_gets_the_same_bytes(tmp_path: Path) -> None:
    signed = signed_log(tmp_path / "signed", records=20, every=10)
    chosen = settings(log={"ship": "memory://records/closed"}).recording.log
    assert close(signed.log, chosen, LATER).shipped == 1
    (path,) = Listing.of(signed.log).closed
    assert fsspec.filesystem("memory").cat_file(f"/records/closed/{path.name}") == path.read_bytes()


def test_an_address_that_fails_is_an_error_after_all_is_closed_and_is_tried_again(tmp_path: Path) -> None:
    signed = signed_log(tmp_path / "signed", records=20, every=10)
    (tmp_path / "copies").write_text("in the way")
    chosen = settings(log={"ship": str(tmp_path / "copies")}).recording.log
    with pytest.raises(CheckpointError, match=r"copies: File exists$"):
        close(signed.log, chosen, LATER)
    assert len(Listing.of(signed.log).closed) == 1
    (tmp_path / "copies").unlink()
    assert close(signed.log, chosen, LATER).shipped == 1
