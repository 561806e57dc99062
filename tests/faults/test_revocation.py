"""A key is revoked by mending a file of keys that was broken, in every way that is known."""

from __future__ import annotations

import shutil
import time
from functools import partial
from pathlib import Path

import httpx

from scoring.keys import Scope
from tests.broken_files import KINDS, mend, put
from tests.faults.conftest import Note
from tests.faults.rehearsal import WAIT_SECONDS, Asked, eventually, recording_service, under_load
from tests.keys import Keys
from training.run import Delivered

_LIMIT_SECONDS = 3.0
"""`access.reload_seconds` is 2."""
_REFUSALS = 20
"""In a row, each over a connection of its own: then both workers refuse."""
_THREADS, _PER_SECOND = 2, 20.0
"""Of a load that goes on for minutes, with a key that stays."""


def test_a_file_of_keys_is_broken(delivered: Delivered, asked: Asked, tmp_path: Path, note: Note) -> None:
    keys, told, revoked = Keys(tmp_path / "keys.yaml"), dict[str, float](), dict[str, float]()
    load, admin = keys.create("load", Scope.PREDICT), keys.create("admin", Scope.ADMIN)
    leaving = keys.create("leaving", Scope.PREDICT)
    with (
        recording_service(tmp_path, delivered.tag, workers=2, environment=keys.environment) as server,
        under_load(server, asked, tmp_path / "log", threads=_THREADS, per_second=_PER_SECOND, key=load) as watch,
    ):
        watch.strike()
        for kind in KINDS:
            good = Keys(Path(shutil.copy2(keys.path, keys.path.with_name("spare"))))
            good.revoke("leaving")
            following = good.create("leaving", Scope.PREDICT)
            put(kind, keys.path)
            told[kind] = eventually(partial(_is_stale, server.url, admin))
            assert _status(server.url, leaving) == httpx.codes.OK
            mend(keys.path, good.path)
            revoked[kind] = _seconds_until_refused(server.url, leaving)
            assert revoked[kind] <= _LIMIT_SECONDS, kind
            eventually(partial(_is_current, server.url, admin))
            leaving = following
    assert set(watch.account["requests"]) == {"200"}
    note(
        "the file of keys is broken, and mended without one of the keys",
        watch.account,
        kinds=len(revoked),
        told_by_the_gauge_after=f"{max(told.values()):.1f} s at most",
        the_key_is_refused_after=f"{max(revoked.values()):.1f} s at most, with two workers",
    )


def _seconds_until_refused(url: str, secret: str) -> float:
    """From now until both workers refuse the key."""
    begun = first = time.monotonic()
    refusals = 0
    while refusals < _REFUSALS:
        refused = _status(url, secret) == httpx.codes.UNAUTHORIZED
        refusals = refusals + 1 if refused else 0
        if refusals <= 1:
            first = time.monotonic()
        assert time.monotonic() - begun < WAIT_SECONDS
    return first - begun


def _status(url: str, secret: str) -> int:
    return httpx.get(f"{url}/model/info", headers={"X-API-Key": secret}).status_code


def _is_stale(url: str, admin: str) -> bool:
    """Whether the expression of the alert CreditScoringKeysStale holds."""
    return _stale(url, admin) == "1.0"


def _is_current(url: str, admin: str) -> bool:
    return _stale(url, admin) == "0.0"


def _stale(url: str, admin: str) -> str:
    metric = "credit_scoring_keys_stale "
    text = httpx.get(f"{url}/metrics", headers={"X-API-Key": admin}).text
    (line,) = [line for line in text.splitlines() if line.startswith(metric)]
    return line.removeprefix(metric)
