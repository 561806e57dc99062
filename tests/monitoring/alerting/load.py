"""Load on the service: applications that are like those of training, or not, and too many at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from random import Random
from typing import Any

import httpx

Application = dict[str, Any]

_BATCH = 250
_CALLERS = 48
_INVALID = {"application": {"AMT_CREDIT": -1}}


class Load:
    """Callers of the service, who do what they are told until the end.

    Attributes
    ----------
    drifted : applications come without the external scores
    storm : many callers ask at the same time
    """

    def __init__(self, url: str, applications: Sequence[Application], *, seed: int) -> None:
        self._url = url
        self._applications = applications
        self._random = Random(seed)
        self._over = threading.Event()
        self.drifted = threading.Event()
        self.storm = threading.Event()

    def run(self) -> None:
        """Send rounds of requests until the end."""
        with httpx.Client(base_url=self._url, timeout=30) as client, ThreadPoolExecutor(_CALLERS) as callers:
            for turn in count():
                if self._over.wait(0.05):
                    return
                self._round(client, turn)
                if self.storm.is_set():
                    list(callers.map(lambda request: client.post("/predict", json=request), self._drawn(_CALLERS)))

    def stop(self) -> None:
        """Let the current round be the last one."""
        self._over.set()

    def _round(self, client: httpx.Client, turn: int) -> None:
        client.post("/predict/batch", json={"applications": self._drawn(_BATCH)}).raise_for_status()
        for request in self._drawn(8):
            client.post("/predict", json=request)
        if turn % 4 == 0:
            client.post("/predict", json=_INVALID)

    def _drawn(self, size: int) -> list[dict[str, Any]]:
        drawn = self._random.choices(self._applications, k=size)
        return [{"application": _without_scores(one) if self.drifted.is_set() else one} for one in drawn]


def _without_scores(application: Application) -> Application:
    return {name: None if name.startswith("EXT_SOURCE") else value for name, value in application.items()}


@contextmanager
def loading(url: str, applications: Sequence[Application], *, seed: int) -> Iterator[Load]:
    """Load on the service at `url` until the block ends; a request that could not be sent fails the block."""
    load = Load(url, applications, seed=seed)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(load.run)
        try:
            yield load
        finally:
            load.stop()
            running.result()
