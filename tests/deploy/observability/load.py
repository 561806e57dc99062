"""Load on the service: applications that are like those of training, or not, and too many at once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from random import Random
from typing import Any

import httpx

from tests.applications import Application

_BATCH = 100
_CALLERS = 48
_PAUSE = 0.2
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

    async def run(self) -> None:
        """Send rounds of requests until the end."""
        async with httpx.AsyncClient(base_url=self._url, timeout=600) as client:
            for turn in count():
                await asyncio.gather(self._round(client, turn), asyncio.sleep(_PAUSE))
                if self._over.is_set():
                    return

    def stop(self) -> None:
        """Let the current round be the last one."""
        self._over.set()

    async def _round(self, client: httpx.AsyncClient, turn: int) -> None:
        batch = await client.post("/predict/batch", json={"applications": self._drawn(_BATCH)})
        batch.raise_for_status()
        for request in [*self._drawn(8), *([] if turn % 4 else [_INVALID])]:
            await client.post("/predict", json=request)
        if self.storm.is_set():
            await asyncio.gather(*(client.post("/predict", json=request) for request in self._drawn(_CALLERS)))

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
        running = pool.submit(asyncio.run, load.run())
        try:
            yield load
        finally:
            load.stop()
            running.result()
