"""The exported scorer in DuckDB and PostgreSQL: whether it decides as the service does, and what a row costs.

The rows are drawn from the bins of the model's drift reference, with missing values, codes, bounds and unknown levels.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import duckdb
import numpy as np
import psutil
import psycopg
import pyarrow as pa

from benchmarks.errors import BenchmarkError
from benchmarks.results import record
from features.drawing import draw_columns, keep_orders
from features.schema import Column, ColumnKind
from features.transformer import Columns
from features.validation import find_violations
from jobs.commandline import Progress
from scoring.artefact import Artefact
from scoring.export import RESULTS, Target, statement, table_statement
from scoring.scorer import Scorer
from scoring.sql import Dialect
from scoring.store import StoredModel
from scoring.trees import read_trees

Decisions = Mapping[str, Sequence[Any]]
"""The results of each row by their names."""
_NUMBERS = ("margin", "probability")


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far a database and the service agree on the same rows.

    Attributes
    ----------
    different : for each result that some rows have otherwise, how many; margin and probability are not among them
    margin, probability : the largest difference of each
    """

    rows: int
    rejected: int
    different: Mapping[str, int]
    margin: float
    probability: float


@dataclass(frozen=True, slots=True)
class ExportCost:
    """What a database found, and the processor time: of planning once, and of one row in microseconds."""

    database: str
    agreement: Agreement
    plan_seconds: float
    us_per_row: float


@dataclass(frozen=True, slots=True)
class ExportMeasure:
    """The size of a model, and what each database makes of its export."""

    trees: int
    most_leaves: int
    features: int
    databases: tuple[ExportCost, ...]


def measure_export(
    artefact: Path, *, rows: int, postgresql: str | None, seed: int, progress: Progress
) -> ExportMeasure:
    """Run the export in DuckDB and, at an address, in PostgreSQL on this machine, where a table of its own is made."""
    scorer = Scorer(Artefact.read(artefact))
    model, columns = StoredModel("exported", "1", scorer), drawn_for(scorer, rows, seed=seed)
    expected = decisions_of(model, columns)
    with progress.step("DuckDB"), DuckDB() as memory:
        costs = [_measured(f"DuckDB {duckdb.__version__}", memory, model, columns, expected)]
    for jit in (False, True) if postgresql else ():
        with progress.step("PostgreSQL"), PostgreSQL(str(postgresql), jit=jit) as database:
            name = f"PostgreSQL {database.version}, jit {'on' if jit else 'off'}"
            costs.append(_measured(name, database, model, columns, expected))
    leaves = max((len(tree.value) for tree in read_trees(scorer.artefact.model_text, sys.maxsize) or ()), default=1)
    return ExportMeasure(scorer.model.trees, leaves, len(scorer.features), tuple(costs))


def drawn_for(scorer: Scorer, rows: int, *, seed: int) -> Columns:
    """Applications from the bins of the drift reference; most of them break no rule."""
    artefact = scorer.artefact
    bins = {name: one.edges for name, one in artefact.reference.features.items() if one.kind == "numeric"}
    columns = draw_columns(artefact.portfolio, rows, seed=seed, edges=bins, vocabularies=artefact.features.vocabularies)
    keep_orders(columns)
    return columns


def decisions_of(model: StoredModel, columns: Columns) -> Decisions:
    """What the scorer decides, as the batch job writes it."""
    found = find_violations(columns)
    broken: dict[int, list[str]] = {}
    for violation in found:
        for row in violation.rows.tolist():
            broken.setdefault(row, []).append(f"{violation.column}: {violation.rule}")
    with np.errstate(all="ignore"):  # rows that break a rule may hold infinity
        scores = model.scorer.score(columns)
    results: dict[str, list[Any]] = {
        "margin": scores.margin.tolist(),
        "probability": scores.probability.tolist(),
        "prediction": scores.prediction.tolist(),
        "decision": list(map(str, scores.decision)),
        "risk_level": list(map(str, scores.risk_level)),
        "score": scores.points.tolist(),
        "missing": scores.missing.tolist(),
        "unknown": list(map(len, scores.unknown)),
        "unknown_columns": ["; ".join(names) or None for names in scores.unknown],
        "withheld": ["; ".join(reasons) or None for reasons in scores.withheld],
    }
    for values in results.values():
        for row in broken:
            values[row] = None
    every = range(len(columns))
    return {
        "status": ["rejected" if row in broken else "scored" for row in every],
        **results,
        "model_version": [model.version] * len(columns),
        "errors": ["; ".join(broken[row]) if row in broken else None for row in every],
    }


def agreement_of(found: Decisions, expected: Decisions) -> Agreement:
    """How far two sets of decisions on the same rows agree; BenchmarkError for other rows."""
    rows, status = len(expected["status"]), expected["status"]
    if {len(found[name]) for name in RESULTS} != {rows}:
        raise BenchmarkError("the database has decided on other rows than it was given")
    counts = {
        name: sum(one != other for one, other in zip(found[name], expected[name], strict=True))
        for name in RESULTS
        if name not in _NUMBERS
    }
    margin, probability = (_largest_difference(found[name], expected[name]) for name in _NUMBERS)
    different = {name: count for name, count in counts.items() if count}
    return Agreement(rows, status.count("rejected"), different, margin, probability)


def _largest_difference(found: Sequence[float | None], expected: Sequence[float | None]) -> float:
    """Infinity where one of two numbers is missing."""
    pairs = [(one, other) for one, other in zip(found, expected, strict=True) if one != other]
    return max((np.inf if one is None or other is None else abs(one - other) for one, other in pairs), default=0.0)


def table_of(columns: Columns, identifier: str) -> pa.Table:
    """The applications as a database holds them, numbered from 0."""
    stored = {column.name: _stored(columns, column) for column in columns.schema}
    return pa.table({identifier: pa.array(range(len(columns))), **stored})


def _stored(columns: Columns, column: Column) -> pa.Array[Any]:
    place = columns.schema.position[column.name]
    if not column.numeric:
        return pa.array(columns.levels[:, place].tolist(), pa.string())
    values = columns.numbers[:, place]
    if column.kind is not ColumnKind.DATE:
        return pa.array(values)
    missing = np.isnan(values)
    return pa.array(np.where(missing, 0, values).astype(np.int32), pa.int32(), mask=missing).cast(pa.date32())


class DuckDB:
    """A DuckDB in memory, on one thread."""

    dialect = Dialect.DUCKDB

    def __init__(self) -> None:
        self._connection = duckdb.connect()
        self._connection.execute("SET threads = 1")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def load(self, ddl: str, rows: pa.Table) -> None:
        """Make the table of applications and fill it."""
        self._connection.execute(ddl)
        self._connection.register("loaded", rows)
        self._connection.execute("INSERT INTO applications SELECT * FROM loaded")

    def run(self, query: str) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        return list(self._connection.execute(query).fetchall())

    def processor_seconds(self) -> float:
        """Processor time so far."""
        return time.process_time()


class PostgreSQL:
    """A PostgreSQL on this machine, with a table of its own that vanishes at the end."""

    dialect = Dialect.POSTGRESQL

    def __init__(self, address: str, *, jit: bool = False) -> None:
        self._connection = psycopg.connect(address, autocommit=True)
        self._connection.execute(f"SET jit = {'on' if jit else 'off'}")
        self.version = self._connection.info.server_version // 10_000

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def load(self, ddl: str, rows: pa.Table) -> None:
        """Make the table of applications and fill it."""
        self._connection.execute(ddl.replace("CREATE TABLE", "CREATE TEMPORARY TABLE", 1))
        cursor = self._connection.cursor()
        with cursor.copy("COPY applications FROM STDIN") as copy:
            for batch in rows.to_batches(max_chunksize=1_000):
                for row in zip(*batch.to_pydict().values(), strict=True):
                    copy.write_row(row)
        self._connection.execute("ANALYZE applications")

    def run(self, query: str) -> list[tuple[Any, ...]]:
        """All rows of a query; none of a statement that gives none."""
        cursor = self._connection.execute(query.encode())
        return cursor.fetchall() if cursor.description else []

    def processor_seconds(self) -> float:
        """Processor time of the server's process so far."""
        times = psutil.Process(self._connection.info.backend_pid).cpu_times()
        return float(times.user + times.system)


def decided(
    database: DuckDB | PostgreSQL, model: StoredModel, columns: Columns, identifier: str | None = None
) -> Decisions:
    """What the export decides in a database, in the order of the rows."""
    target = _load(database, model, columns, identifier)
    return _by_name(database.run(statement(model, target)))


def _load(database: DuckDB | PostgreSQL, model: StoredModel, columns: Columns, identifier: str | None = None) -> Target:
    portfolio = model.scorer.artefact.portfolio
    target = Target.of(portfolio, database.dialect, table="applications", identifier=identifier)
    database.load(table_statement(portfolio, target), table_of(columns, target.identifier))
    return target


def _by_name(rows: Sequence[tuple[Any, ...]]) -> Decisions:
    ordered = sorted(rows, key=lambda row: int(row[0]))
    return dict(zip(RESULTS, map(list, list(zip(*ordered, strict=True))[1:]), strict=True))


def _measured(
    name: str, database: DuckDB | PostgreSQL, model: StoredModel, columns: Columns, expected: Decisions
) -> ExportCost:
    query = statement(model, _load(database, model, columns))
    planned, made = _spent(database, f"EXPLAIN {query}"), f"CREATE TEMPORARY TABLE decisions AS {query}"
    whole = _spent(database, made)
    agreement = agreement_of(_by_name(database.run("SELECT * FROM decisions")), expected)
    return ExportCost(name, agreement, round(planned, 2), round(1e6 * (whole - planned) / len(columns), 1))


def _spent(database: DuckDB | PostgreSQL, query: str) -> float:
    before = database.processor_seconds()
    database.run(query)
    return database.processor_seconds() - before


def record_export(found: ExportMeasure, command: str, output: Path) -> None:
    """Write the figures with their command and date."""
    record(output, command, **asdict(found))


def export_lines(found: ExportMeasure) -> Iterator[str]:
    """The figures, a line for each database."""
    for one in found.databases:
        agreed, different = one.agreement, ", ".join(one.agreement.different) or "nothing"
        yield f"{one.database}: {one.us_per_row} us a row, and {one.plan_seconds} s for the plan"
        yield (
            f"  {agreed.rows} rows, {agreed.rejected} rejected; different: {different}; "
            f"by at most: margin {agreed.margin:.2g}, PD {agreed.probability:.2g}"
        )
