"""Databases: applications read from a query in bounded memory, and tables that a job writes each of its parts to once.

SQLAlchemy is imported when a database is used. Its errors quote values and addresses, so that none is shown whole.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pyarrow as pa
from pyarrow import types

from features.errors import ColumnsError, FileError
from features.files import CsvLayout, RowBatch, read_from, read_table
from features.portfolio import Portfolio
from jobs.destination import without_secrets

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, TextClause
    from sqlalchemy.types import TypeEngine

_DIALECTS = frozenset({
    "postgresql", "postgres", "mysql", "mariadb", "mssql", "oracle", "sqlite", "duckdb", "snowflake", "redshift",
    "bigquery", "databricks", "trino",
})  # fmt: skip
_WITH_CONNECT_TIMEOUT = {"postgresql", "mysql", "mariadb"}
_CONNECT_SECONDS = 10
_FETCHED = 8_192
"""Rows that are held as Python's values at a time, whatever size of batches is asked for."""
_SHOWN = 200

Bound = int | date | datetime


def is_database(address: str) -> bool:
    """Whether an address is one of SQLAlchemy.

    >>> is_database("postgresql+psycopg://host/db"), is_database("s3://bucket/folder")
    (True, False)
    """
    scheme, separator, _ = address.partition("://")
    return bool(separator) and scheme.partition("+")[0] in _DIALECTS


@dataclass(frozen=True)
class Database:
    """A database by its SQLAlchemy address. It connects when it is used, so that other processes can be sent it."""

    address: str = field(repr=False)

    def __str__(self) -> str:
        return without_secrets(self.address)

    @contextmanager
    def connected(self) -> Iterator[Connection]:
        """A connection with a transaction, which ends with the block; FileError if the database fails."""
        with self.failures(), self.engine.connect() as connection, connection.begin():
            yield connection

    @cached_property
    def engine(self) -> Engine:
        """SQLAlchemy's engine, without a pool: each process connects for one part at a time."""
        from sqlalchemy import NullPool, create_engine
        from sqlalchemy.engine import make_url
        from sqlalchemy.exc import ArgumentError, NoSuchModuleError

        try:
            url = make_url(self.address)
            bounded = url.get_backend_name() in _WITH_CONNECT_TIMEOUT and "connect_timeout" not in url.query
            bounds = {"connect_timeout": _CONNECT_SECONDS} if bounded else {}
            return create_engine(url, poolclass=NullPool, connect_args=bounds, hide_parameters=True)
        except (ArgumentError, NoSuchModuleError, ImportError, ValueError) as error:
            missing = (
                f"needs the package {error.name}" if isinstance(error, ModuleNotFoundError) else "no such database"
            )
            hint = "; write postgresql+psycopg://" if self.address.startswith("postgres:") else ""
            raise FileError(f"{self}: {missing}{hint}") from None

    def __reduce__(self) -> tuple[type[Database], tuple[str]]:
        return Database, (self.address,)

    @contextmanager
    def failures(self) -> Iterator[None]:
        """Turn the errors of SQLAlchemy and of the driver into a FileError of one line."""
        from sqlalchemy.exc import SQLAlchemyError

        driver: Any = self.engine.dialect.dbapi
        try:
            yield
        except (SQLAlchemyError, driver.Error) as error:
            raise FileError(f"{self}: {self._said(error)}") from None

    def _said(self, error: Exception) -> str:
        """What the database says of an address or a statement; of data it would quote values, so that none is shown."""
        from sqlalchemy.exc import OperationalError, ProgrammingError

        kind = f"the database refuses it ({type(error).__name__})"
        if not isinstance(error, OperationalError | ProgrammingError) or error.orig is None:
            return kind
        said = " ".join(str(error.orig).split("\n", 1)[0].split())[:_SHOWN]
        password = self.engine.url.password
        return kind if not said or (password and str(password) in said) else said


@dataclass(frozen=True, slots=True)
class QueryRange:
    """The rows of a query, or those whose key is from `low` and below `high`.

    Attributes
    ----------
    statement : the query, or the name of a table
    key : the column that splits the query; None for all rows
    """

    database: Database
    statement: str
    is_table: bool = False
    key: str | None = None
    low: Bound | None = None
    high: Bound | None = None

    @property
    def name(self) -> str:
        """The database, and the range, as messages name them."""
        return str(self.database) if self.key is None else f"{self.database}: {self.key} from {self.low} to {self.high}"

    @property
    def fingerprint(self) -> str:
        """What differs when something else is read. A database does not tell that rows have changed."""
        return f"{self.name}: {'table ' if self.is_table else ''}{self.statement}"

    def header(self) -> tuple[str, ...]:
        """The names of the columns; FileError if the database refuses the query."""
        with self.database.connected() as connection:
            names = connection.execute(self._selected(connection, "*", "where 1 = 0")).keys()
            return tuple(names)

    def split(self, key: str, splits: int) -> tuple[QueryRange, ...]:
        """The query in ranges of a key, from the least to the greatest one that it holds."""
        with self.database.connected() as connection:
            named = connection.dialect.identifier_preparer.quote(key)
            columns = f"min({named}), max({named}), count(*) - count({named})"
            least, most, missing = connection.execute(self._selected(connection, columns)).one()
        if missing:
            raise ColumnsError(f"{self.database}: {key}: is missing in {missing} rows, so that it cannot split them")
        if least is None:
            return (self,)
        bounds = _bounds(f"{self.database}: {key}", least, most, splits)
        return tuple(replace(self, key=key, low=low, high=high) for low, high in pairwise(bounds))

    def batches(self, rows: int, portfolio: Portfolio, *, others: Sequence[str] = ()) -> Iterator[RowBatch]:
        """The rows in batches of at most `rows`, by a cursor of the server; FileError if the database fails."""
        decimal, first_row = CsvLayout.of(portfolio).decimal, 0
        for table in self._tables(portfolio, others, min(rows, _FETCHED)):
            yield read_table(table, portfolio, first_row=first_row, others=others, decimal=decimal)
            first_row += table.num_rows

    def _tables(self, portfolio: Portfolio, others: Sequence[str], rows: int) -> Iterator[pa.Table]:
        with self.database.connected() as connection:
            limits = {} if self.key is None else {"low": self.low, "high": self.high}
            options = {"stream_results": True, "yield_per": rows}
            result = connection.execute(self._rows(connection), limits, execution_options=options)
            names = list(result.keys())
            columns = list(dict.fromkeys([*read_from(names, portfolio), *others]))
            absent = [name for name in columns if name not in names]
            if absent:
                raise ColumnsError(f"{self.name}: column missing: {', '.join(absent)}")
            at = [names.index(name) for name in columns]
            for fetched in result.partitions(rows):
                values = list(zip(*fetched, strict=True))
                yield pa.table({name: _array(values[i]) for name, i in zip(columns, at, strict=True)})

    def _rows(self, connection: Connection) -> TextClause:
        if self.key is not None:
            named = connection.dialect.identifier_preparer.quote(self.key)
            return self._selected(connection, "*", f"where {named} >= :low and {named} < :high")
        # As it stands, since a query may order its rows.
        return self._selected(connection, "*") if self.is_table else _literal(self.statement)

    def _selected(self, connection: Connection, columns: str, rest: str = "") -> TextClause:
        from sqlalchemy import text

        quote = connection.dialect.identifier_preparer.quote
        place = ".".join(map(quote, self.statement.split("."))) if self.is_table else f"({_bare(self.statement)}\n)"
        return text(f"select {columns} from {_escaped(place)} applications {rest}")  # noqa: S608 - the user's own query


def _bare(query: str) -> str:
    return query.strip().rstrip(";")  # it may end with a comment, which takes the rest of its line


def _escaped(sql: str) -> str:
    # SQLAlchemy would take :name for a parameter.
    return sql.replace(":", r"\:")


def _literal(query: str) -> TextClause:
    from sqlalchemy import text

    return text(_escaped(_bare(query)))


def _bounds(where: str, least: Any, most: Any, splits: int) -> list[Bound]:
    """The ends of at most `splits` ranges, each below the next; the last one is beyond `most`."""
    match least:
        case datetime():
            first, last = least.date().toordinal(), most.date().toordinal() + 1
            days = [date.fromordinal(day) for day in _cut(first, last, splits)]
            return [datetime.combine(day, time(), least.tzinfo) for day in days]
        case date():
            first, last = least.toordinal(), (most + timedelta(days=1)).toordinal()
            return [date.fromordinal(day) for day in _cut(first, last, splits)]
        case bool():
            pass
        case int() | Decimal() | float() if math.isfinite(least) and math.isfinite(most):
            return [*_cut(math.floor(least), math.floor(most) + 1, splits)]
    raise ColumnsError(f"{where}: neither numbers nor dates, so that it cannot split the rows")


def _cut(first: int, last: int, splits: int) -> list[int]:
    splits = min(splits, last - first)
    return [first + (last - first) * i // splits for i in range(splits + 1)]


def _array(values: Sequence[Any]) -> pa.Array[Any]:
    """The values of a column as a database gives them."""
    stated = next((value for value in values if value is not None), None)
    if isinstance(stated, UUID) or (
        isinstance(stated, Decimal) and not all(value is None or value.is_finite() for value in values)
    ):
        return pa.array([None if value is None else str(value) for value in values], pa.string())
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError):  # SQLite's columns may hold anything
        return pa.array([None if value is None else str(value) for value in values], pa.string())


@dataclass(frozen=True, slots=True)
class DecisionTable:
    """A table of a database that a job appends its parts to, each exactly once.

    The table NAME_parts holds the numbers of the parts that are written: a part's rows and its number are written in
    one transaction. FileError of one line if the database fails.
    """

    database: Database
    name: str
    job: str

    @classmethod
    def at(cls, address: str, name: str, *, job: str) -> DecisionTable:
        """The table of that name, for the parts of a job."""
        return cls(Database(address), name, job)

    def prepare(self, schema: pa.Schema) -> None:
        """Make the tables unless they are there; ColumnsError if the table has other columns or types."""
        wanted = {column.name: _stored_as(column) for column in schema}
        self._create(wanted)
        with self.database.connected() as connection:
            from sqlalchemy import inspect

            place, name = self._place()
            held = {one["name"]: one["type"] for one in inspect(connection).get_columns(name, schema=place)}
        differing = [name for name in {**wanted, **held} if not _alike(wanted.get(name), held.get(name))]
        if differing:
            raise ColumnsError(f"{self.database}: the table {self.name} has other columns: {', '.join(differing)}")

    def written(self) -> frozenset[int]:
        """The numbers of the parts that are in the table."""
        from sqlalchemy import select

        ledger = self._ledger()
        with self.database.connected() as connection:
            parts = connection.execute(select(ledger.c.part).where(ledger.c.job == self.job))
            return frozenset(parts.scalars())

    def write(self, part: int, tables: Iterable[pa.Table]) -> bool:
        """Append the rows of a part in one transaction; False, and nothing is written, if they are there already."""
        from sqlalchemy import insert, update
        from sqlalchemy.exc import IntegrityError

        ledger, rows = self._ledger(), 0
        with self.database.connected() as connection:
            # The key makes another process with the same part wait here, and then fail.
            try:
                connection.execute(insert(ledger), {"job": self.job, "part": part, "rows": 0})
            except IntegrityError:
                connection.get_transaction().rollback()  # type: ignore[union-attr]
                return False
            for table in tables:
                self._append(connection, table)
                rows += table.num_rows
            here = (ledger.c.job == self.job) & (ledger.c.part == part)
            connection.execute(update(ledger).where(here).values(rows=rows))
        return True

    def _append(self, connection: Connection, table: pa.Table) -> None:
        columns = [_in_microseconds(column).to_pylist() for column in table.columns]
        if connection.dialect.driver == "psycopg":
            quote = connection.dialect.identifier_preparer.quote
            listed = ", ".join(map(quote, table.column_names))
            target = ".".join(map(quote, filter(None, self._place())))
            driver: Any = connection.connection.driver_connection
            with driver.cursor() as cursor, cursor.copy(f"copy {target} ({listed}) from stdin") as copy:
                for row in zip(*columns, strict=True):
                    copy.write_row(row)
            return
        names = table.column_names
        rows = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
        if rows:
            connection.execute(self._table(dict.fromkeys(names)).insert(), rows)

    def _create(self, wanted: Mapping[str, TypeEngine[Any]]) -> None:
        from sqlalchemy.exc import SQLAlchemyError

        for table in (self._table(wanted), self._ledger()):
            try:
                with self.database.engine.begin() as connection:
                    table.create(connection, checkfirst=True)
            except SQLAlchemyError:
                # Another process may have made it in the same moment.
                with self.database.connected() as connection:
                    table.create(connection, checkfirst=True)

    def _place(self) -> tuple[str | None, str]:
        schema, _, name = self.name.rpartition(".")
        return schema or None, name

    def _table(self, columns: Mapping[str, TypeEngine[Any] | None]) -> Any:
        from sqlalchemy import Column, MetaData, Table

        schema, name = self._place()
        return Table(name, MetaData(), *(Column(one, kind) for one, kind in columns.items()), schema=schema)

    def _ledger(self) -> Any:
        from sqlalchemy import BigInteger, Column, MetaData, String, Table

        schema, name = self._place()
        keys = Column("job", String(255), primary_key=True), Column("part", BigInteger, primary_key=True)
        return Table(f"{name}_parts", MetaData(), *keys, Column("rows", BigInteger), schema=schema)


def _stored_as(column: pa.Field[Any]) -> TypeEngine[Any]:
    """The type of a database that holds a column of Arrow."""
    from sqlalchemy import BigInteger, Boolean, Date, DateTime, Double, Numeric, Text

    stored = column.type.value_type if types.is_dictionary(column.type) else column.type
    if types.is_integer(stored):
        return BigInteger()
    if types.is_floating(stored):
        return Double()
    if (
        types.is_string(stored)
        or types.is_large_string(stored)
        or types.is_string_view(stored)
        or types.is_null(stored)
    ):
        return Text()
    if types.is_boolean(stored):
        return Boolean()
    if types.is_decimal(stored):
        return Numeric(stored.precision, stored.scale)
    if types.is_date(stored):
        return Date()
    if types.is_timestamp(stored):
        return DateTime(timezone=stored.tz is not None)
    raise ColumnsError(f"{column.name}: {stored} has no type in a database")


def _in_microseconds(values: pa.ChunkedArray[Any]) -> pa.ChunkedArray[Any]:
    # Python's times have no nanoseconds.
    stored = values.type
    return values.cast(pa.timestamp("us", stored.tz), safe=False) if types.is_timestamp(stored) else values


def _alike(wanted: TypeEngine[Any] | None, held: TypeEngine[Any] | None) -> bool:
    """Whether a column of a table takes the values of another type without a loss."""
    if wanted is None or held is None:
        return False
    return wanted.python_type is held.python_type or {wanted.python_type, held.python_type} == {float, Decimal}
