"""How long rolling up the histories of a data folder takes, and in how much memory, as the clients become more."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from benchmarks.errors import BenchmarkError
from benchmarks.process import free_port, redis_serving, run_job
from benchmarks.results import record
from features.histories import Histories, History
from features.history_files import HistoryFolder, roll_up_folder
from features.portfolio import Portfolio
from jobs.commandline import Progress
from training.dataset import find_table

PARTS = (8, 4, 2, 1)
"""The clients are divided by each of these."""
SQLITE, REDIS, TRAINING = "materialize, SQLite", "materialize, Redis", "features of training"
_BATCH = 1 << 20


@dataclass(frozen=True, slots=True)
class RollingUp:
    """One process on so many clients and rows: wall and processor time in seconds, peak memory in megabytes."""

    what: str
    clients: int
    rows: int
    seconds: float
    cpu_seconds: float
    peak_mb: float


def measure_rolling_up(
    data: Path, portfolio: Path, parts: Sequence[int], scratch: Path, progress: Progress
) -> list[RollingUp]:
    """Fill empty stores and roll up for training, with parts of the clients of a folder of Parquet files.

    Nothing is measured of Redis where there is no redis-server, and a line says so. BenchmarkError if a command fails.
    """
    declared = Portfolio.load(portfolio)
    histories, clients = declared.histories, HistoryFolder.open(data, declared).clients()
    if histories is None:
        raise BenchmarkError(f"the portfolio {declared.name} declares no histories")
    found = []
    for part in parts:
        chosen = clients[::part]
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            with progress.step(f"{len(chosen):,} clients"):
                rows = write_part(data, declared, pa.array(chosen), Path(folder))
            for what in (SQLITE, REDIS, TRAINING):
                with progress.step(what):
                    measured = _measured(what, Path(folder), portfolio, len(chosen), rows)
                if measured is None:
                    progress.line("redis-server is not installed: Redis is left out")
                else:
                    found.append(measured)
    return found


def record_rolling_up(found: Sequence[RollingUp], command: str, output: Path) -> None:
    """Write the figures with their command and date."""
    record(output, command, rolled_up=[asdict(one) for one in found])


def roll_up_for_training(data: Path, portfolio: Path) -> None:
    """Roll up the histories of the applications in a folder that have an outcome, as training does."""
    declared = Portfolio.load(portfolio)
    identity = declared.declared.identity
    if identity is None:
        raise BenchmarkError(f"the portfolio {declared.name} names no clients")
    table = parquet.read_table(find_table(data, declared.declared.files.train), columns=[identity.column])
    roll_up_folder(data, declared, table[identity.column].to_numpy(), progress=Progress(quiet=True))


def _measured(what: str, data: Path, portfolio: Path, clients: int, rows: int) -> RollingUp | None:
    """One process from its start to its end; None for Redis without a server."""
    common = ["--data", str(data), "--portfolio", str(portfolio.absolute())]
    fill = [sys.executable, "-m", "features", "materialize", *common, "--store"]
    if what == REDIS:
        with redis_serving(free_port(), log=data / "redis.log") as address:
            return None if address is None else _timed(what, [*fill, address], data, clients, rows)
    if what == SQLITE:
        return _timed(what, [*fill, f"sqlite:///{data}/features.sqlite"], data, clients, rows)
    code = f"from pathlib import Path; import {__name__} as m; m.roll_up_for_training(*map(Path, sys.argv[1:]))"
    train = [sys.executable, "-c", f"import sys; {code}", str(data), str(portfolio.absolute())]
    return _timed(what, train, data, clients, rows)


def _timed(what: str, command: Sequence[str], data: Path, clients: int, rows: int) -> RollingUp:
    cost = run_job(command, environment=os.environ, cwd=Path.cwd(), log=data / "command.log")
    seconds, cpu_seconds = round(cost.seconds, 2), round(cost.cpu_seconds, 2)
    return RollingUp(what, clients, rows, seconds, cpu_seconds, round(cost.peak_mb, 1))


def write_part(data: Path, portfolio: Portfolio, clients: pa.Array, folder: Path) -> int:
    """Write the rows of some clients into a folder; how many rows of histories there are."""
    histories, identity = portfolio.histories, portfolio.declared.identity
    if histories is None or identity is None:
        raise BenchmarkError(f"the portfolio {portfolio.name} names no clients")
    train = portfolio.declared.files.train
    _write_chosen(find_table(data, train), identity.column, clients, folder)
    return sum(_write_history(data, histories, one, clients, folder) for one in histories.of_clients)


def _write_history(data: Path, histories: Histories, history: History, names: pa.Array, folder: Path) -> int:
    """Write the rows of a table whose keys are among the names, and of those that hang on it."""
    table = find_table(data, history.file)
    rows = _write_chosen(table, history.key, names, folder)
    if history.id is None:
        return rows
    ids = parquet.read_table(folder / table.name, columns=[history.id])[history.id].combine_chunks()
    return rows + sum(_write_history(data, histories, one, ids, folder) for one in histories.children(history.name))


def _write_chosen(table: Path, column: str, names: pa.Array, folder: Path) -> int:
    if table.suffix != ".parquet":
        raise BenchmarkError(f"{table}: is no Parquet file")
    source, rows = parquet.ParquetFile(table), 0
    with parquet.ParquetWriter(folder / table.name, source.schema_arrow) as writer:
        for batch in source.iter_batches(_BATCH):
            chosen = batch.filter(pc.is_in(batch[column], value_set=names.cast(batch[column].type)))
            writer.write_batch(chosen)
            rows += len(chosen)
    return rows
