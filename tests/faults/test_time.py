"""Time that is not what it was: the clock jumps, a certificate expires."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import httpx
import pytest

from decision_log.segments import Listing, read_lines
from tests.certificates import certificate
from tests.faults.conftest import Note
from tests.faults.rehearsal import Asked, assert_proven, assert_right, eventually, recording_service, under_load
from tests.server import Server
from training.run import Delivered

_FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
_HOUR = 3600
_JUMPS = ("+1d", "-2d")


@pytest.mark.skipif(_FAKETIME is None, reason="libfaketime is not installed: `apt-get install libfaketime`")
def test_the_clock_jumps(delivered: Delivered, asked: Asked, tmp_path: Path, note: Note) -> None:
    """A day ahead, then three days back: nobody is refused, and nothing is lost."""
    clock = tmp_path / "clock"
    clock.write_text("+0")
    environment = {
        "LD_PRELOAD": str(_FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    with recording_service(tmp_path, delivered.tag, environment=environment) as server:
        with under_load(server, asked, tmp_path / "log") as watch:
            watch.strike()
            for jump in _JUMPS:
                clock.write_text(jump)
                time.sleep(3)
        assert set(watch.account["requests"]) == {"200"}
        assert 0 < _default_rate(server) < 1
    assert _jumped(tmp_path / "log") == [24, -72]
    assert_proven(tmp_path)
    note("the clock jumps", watch.account, jumps="a day ahead, then three days back")


def _default_rate(server: Server) -> float:
    metric = "credit_scoring_default_rate "
    (line,) = [line for line in httpx.get(f"{server.url}/metrics").text.splitlines() if line.startswith(metric)]
    return float(line.removeprefix(metric))


def _jumped(log: Path) -> list[int]:
    """The jumps between one line of the log and the next, in hours."""
    times = [datetime.fromisoformat(line["time"]) for path in Listing.of(log).open for line in read_lines(path)]
    hours = [round((b - a).total_seconds() / _HOUR) for a, b in pairwise(times)]
    return [jump for jump in hours if jump]


def test_the_certificate_expires(delivered: Delivered, asked: Asked, tmp_path: Path, note: Note) -> None:
    """Callers refuse the connection and send nothing; another certificate takes a restart."""
    tls = certificate(tmp_path, valid=timedelta(seconds=20))
    with (
        recording_service(tmp_path, delivered.tag, tls=tls) as server,
        under_load(server, asked, tmp_path / "log", tls=tls.trusted()) as watch,
    ):
        watch.strike()
        seconds = eventually(watch.failing)
    results = set(watch.account["requests"])
    assert results == {"200", "SSLCertVerificationError"}
    begun = time.monotonic()
    renewed = certificate(tmp_path, valid=timedelta(days=1))
    with recording_service(tmp_path, delivered.tag, tls=renewed) as server:
        again = time.monotonic() - begun
        assert_right(server, asked, tls=renewed.trusted())
    note(
        "the certificate expires",
        watch.account,
        expired_after=f"{seconds:.0f} s",
        answered_with_another_after=f"{again:.1f} s, a restart",
    )
