"""What a look-up in a feature store costs, and what a history adds to a request: processor time of one thread."""

from __future__ import annotations

import json
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry

from benchmarks.errors import BenchmarkError
from benchmarks.process import free_port, redis_serving
from benchmarks.results import record
from features.drawing import draw_legal, records_of
from features.histories import Histories, History
from features.materialize import RolledUp, materialize
from features.portfolio import Portfolio
from features.schema import Column
from features.store import HistorySource, open_store
from jobs.commandline import Progress
from serving.histories import ClientHistories
from serving.request_metrics import Traffic
from serving.schemas import Requests, decode, history_of
from serving.settings import HistorySettings, WithoutHistory

HISTORY_ROWS = 50
"""Rows in the history of a request."""
_BODIES = 100
"""Different requests, in turn."""
_WARM = 500
"""Calls before the first that is timed."""
_MOST = 1e6
_OLDEST = 720


@dataclass(frozen=True, slots=True)
class Timing:
    """Processor time of the calling thread, in microseconds, of one call of so many."""

    what: str
    calls: int
    median_us: float
    p99_us: float


def measure_look_ups(portfolio: Portfolio, *, clients: int, times: int, seed: int, progress: Progress) -> list[Timing]:
    """Time look-ups of random clients in a store of so many, and requests without and with a history.

    Nothing is timed of Redis where there is no redis-server, and a line says so. BenchmarkError if a client is not
    found.
    """
    histories, rng = portfolio.histories, np.random.default_rng(seed)
    if histories is None:
        raise BenchmarkError(f"the portfolio {portfolio.name} declares no histories")
    rolled_up = RolledUp([str(one) for one in range(clients)], rng.normal(size=(clients, len(histories.columns))))
    chosen = [str(one) for one in rng.integers(clients, size=times + _WARM)]
    found = list[Timing]()
    with (
        tempfile.TemporaryDirectory() as folder,
        redis_serving(free_port(), log=Path(folder) / "redis.log") as redis,
    ):
        if redis is None:
            progress.line("redis-server is not installed: Redis is left out")
        for name, address in (("SQLite", f"sqlite:///{folder}/features.sqlite"), ("Redis", redis)):
            if address is not None:
                with progress.step(f"look-ups in {name}"):
                    materialize(address, portfolio, rolled_up, datetime.now(UTC))
                    found += _of_store(name, address, portfolio, chosen)
    with progress.step("requests"):
        found += _of_requests(portfolio, times, rng)
    return found


def record_look_ups(found: Sequence[Timing], clients: int, command: str, output: Path) -> None:
    """Write the figures with their command and date."""
    record(
        output,
        command,
        sqlite=sqlite3.sqlite_version,
        clients=clients,
        history_rows=HISTORY_ROWS,
        timings=[asdict(one) for one in found],
    )


def _of_store(name: str, address: str, portfolio: Portfolio, chosen: Sequence[str]) -> Iterator[Timing]:
    """A look-up alone, and what the service does on top of it: age, digest, count and columns."""
    requests, histories = Requests(portfolio), portfolio.histories
    if histories is None or requests.histories is None:
        raise BenchmarkError(f"the portfolio {portfolio.name} declares no histories")
    store = open_store(address, histories, seconds=10)

    def look_up(client: str) -> None:
        if store.look_up(client) is None:
            raise BenchmarkError(f"{name}: a client is not there")

    def fill(client: str) -> None:
        if (source := service.fill_now(client, None, columns)) is not HistorySource.STORE:
            raise BenchmarkError(f"{name}: the history is {source}")

    yield _timed(f"look-up in {name}", chosen, look_up)
    columns = draw_legal(portfolio, 1, seed=0)
    service = _service(portfolio, requests, address)
    yield _timed(f"fill_now from {name}", chosen, fill)


def _of_requests(portfolio: Portfolio, times: int, rng: np.random.Generator) -> Iterator[Timing]:
    """From the body to the columns with their roll-ups, for the same applications without and with a history."""
    requests, histories = Requests(portfolio), portfolio.histories
    if histories is None:
        raise BenchmarkError(f"the portfolio {portfolio.name} declares no histories")
    service = _service(portfolio, requests, None)
    stated = {column.name for column in portfolio.schema.stated}
    drawn = records_of(draw_legal(portfolio, _BODIES, seed=int(rng.integers(1 << 31))))
    plain = [{"application": {name: value for name, value in one.items() if name in stated}} for one in drawn]
    told = [one | {"history": draw_history(histories, HISTORY_ROWS, rng)} for one in plain]

    def read(body: bytes) -> None:
        request = decode(requests.predict, body)
        service.fill_now(None, history_of(request), requests.applications.columns_of([request.application]))

    for what, bodies in (("request without a history", plain), (f"request with {HISTORY_ROWS} rows", told)):
        encoded = [json.dumps(one).encode() for one in bodies]
        yield _timed(what, [encoded[one % _BODIES] for one in range(times // 10 + _WARM)], read)


def _service(portfolio: Portfolio, requests: Requests, address: str | None) -> ClientHistories:
    if requests.histories is None:
        raise BenchmarkError(f"the portfolio {portfolio.name} declares no histories")
    traffic = Traffic([1.0], registry=CollectorRegistry())
    # Patient, so that nothing is timed of a store that answers late on a busy machine.
    settings = HistorySettings(ttl_days=1, milliseconds=10_000, without=WithoutHistory.SCORE)
    return ClientHistories(portfolio, requests.histories, settings, address, traffic, retry_after=1)


def _timed(what: str, inputs: Sequence[Any], call: Callable[[Any], object]) -> Timing:
    for one in inputs[:_WARM]:
        call(one)
    spent = np.empty(len(inputs) - _WARM, dtype=np.int64)
    for place, one in enumerate(inputs[_WARM:]):
        begun = time.thread_time_ns()
        call(one)
        spent[place] = time.thread_time_ns() - begun
    median, p99 = np.percentile(spent / 1e3, [50, 99]).round(1).tolist()
    return Timing(what, len(spent), median, p99)


def draw_history(histories: Histories, rows: int, rng: np.random.Generator) -> dict[str, list[dict[str, Any]]]:
    """A legal history of so many rows, spread over all tables; each row of a table belongs to one of its parent's."""
    drawn = dict[str, list[dict[str, Any]]]()
    # A parent stands behind what hangs on it.
    tables = histories.tables[::-1]
    for place, table in enumerate(tables):
        count = len(range(place, rows, len(tables)))
        drawn[table.name] = [_row(table, number, drawn, rng) for number in range(count)]
    return drawn


def _row(
    table: History, number: int, drawn: dict[str, list[dict[str, Any]]], rng: np.random.Generator
) -> dict[str, Any]:
    row = {column.name: _value(column, table.time == column, rng) for column in table.stated}
    if table.id is not None:
        row[table.id] = number
    if table.parent is not None:
        row[table.key] = int(rng.integers(len(drawn[table.parent])))
    return row


def _value(column: Column, is_time: bool, rng: np.random.Generator) -> object:
    if not column.numeric:
        return str(rng.choice(column.levels))
    low, high = (-_OLDEST, -1) if is_time else (max(column.low, -_MOST), min(column.high, _MOST))
    return int(rng.integers(int(low), int(high) + 1)) if column.whole else float(rng.uniform(low, high))
