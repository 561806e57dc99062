"""Histories: tables of what is known of a client before the application, and their roll-ups, by one declaration.

A roll-up turns all of a client's rows in one table into one number. It is a column like those of the application: only
where its value comes from differs. A table may hang on another one, as monthly balances hang on a credit; its roll-ups
are columns of that table's rows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from features.declaration import ColumnDeclaration
from features.errors import SchemaError
from features.formulas import Expression, read_formula
from features.schema import Column, ColumnKind, Schema
from jobs.settings import Settings

if TYPE_CHECKING:
    from features.portfolio import IdentityDeclaration

DAYS_OF_MONTH = 30.4375
"""Days of a mean month, a twelfth of 365.25 days."""


class Aggregate(StrEnum):
    """What a roll-up computes from the rows that it takes; rows in which the value is missing are passed over."""

    COUNT = "count"
    """How many rows; never missing."""
    SUM = "sum"
    MEAN = "mean"
    MAX = "max"
    MIN = "min"
    LAST = "last"
    """The value in the newest row."""
    SHARE = "share"
    """The share of rows in which the value is not 0."""
    TREND = "trend"
    """The slope, by least squares, of the value against time, per year; missing unless two times differ."""
    DAYS_SINCE = "days_since"
    """Days from the newest row to the application."""


_TIMED = frozenset({Aggregate.LAST, Aggregate.TREND, Aggregate.DAYS_SINCE})
_WITHOUT_VALUE = frozenset({Aggregate.COUNT, Aggregate.DAYS_SINCE})
_WHOLE = frozenset({Aggregate.COUNT})
_UNITS = {Aggregate.COUNT: "rows", Aggregate.SHARE: "share", Aggregate.DAYS_SINCE: "days"}


class TimeDeclaration(Settings):
    """The column that tells when a row happened. Rows later than the application are never used.

    A date is compared with the day of the application. Any other column counts from the application.
    """

    column: str
    unit: Literal["days", "months"] = "days"
    sign: Literal["negative", "positive"] = "negative"
    """How 30 days before the application are written: as -30 or as 30."""


class RollupDeclaration(Settings):
    """One roll-up; with several windows or counts of rows, one for each, named `NAME_60d` or `NAME_last3`."""

    aggregate: Aggregate
    of: str | None = Field(default=None, max_length=2000)
    """A formula over the columns of the table."""
    where: str | None = Field(default=None, max_length=2000)
    """Only rows in which this formula is present and not 0."""
    within: int | tuple[int, ...] = ()
    """Only rows of at most so many days before the application."""
    last: int | tuple[int, ...] = ()
    """Only so many of the newest rows, of those that `where` takes."""
    unit: str = ""
    description: str = ""

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if (self.of is None) != (self.aggregate in _WITHOUT_VALUE) and self.aggregate is not Aggregate.COUNT:
            raise ValueError(f"{self.aggregate} takes {'no value' if self.of else 'the value of a formula: of'}")
        numbers = [*_several(self.within), *_several(self.last)]
        if any(number < 1 for number in numbers) or len(set(numbers)) < len(numbers):
            raise ValueError("within and last are different whole numbers from 1")
        if self.within and self.last:
            raise ValueError("within and last exclude each other")
        return self

    def named(self, name: str) -> Iterator[tuple[str, int | None, int | None]]:
        """Name, `within` and `last` of each roll-up that is declared under a name."""
        for days in _several(self.within):
            yield (f"{name}_{days}d" if isinstance(self.within, tuple) else name), days, None
        for rows in _several(self.last):
            yield (f"{name}_last{rows}" if isinstance(self.last, tuple) else name), None, rows
        if not self.within and not self.last:
            yield name, None, None


def _several(stated: int | tuple[int, ...]) -> tuple[int, ...]:
    return stated if isinstance(stated, tuple) else (stated,)


class HistoryDeclaration(Settings):
    """One table of a portfolio's histories."""

    file: str | None = None
    """Name of its file, without suffix; by default that of the table."""
    key: str | None = None
    """The column that says whose a row is: the client's identity by default, or the `id` of the `parent` row."""
    id: str | None = None
    """The column that names a row, where another table hangs on this one."""
    parent: str | None = None
    """The table that this one hangs on."""
    time: TimeDeclaration | None = None
    columns: dict[str, ColumnDeclaration] = Field(min_length=1)
    """Columns that are not named here are not read. A category needs its levels."""
    derived: dict[str, str] = Field(default={})
    """Further columns by their formulas, each of which may read those above it."""
    rollups: dict[str, RollupDeclaration] = Field(min_length=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollup:
    """One roll-up of a table.

    Attributes
    ----------
    column : what it is as a column of the application, or of the parent's rows
    of : the value in each row; None for the aggregates that take none
    where : rows in which it is missing or 0 are passed over; None takes all
    within : most days before the application; None without a bound
    last : most rows, the newest; None without a bound
    """

    column: Column
    aggregate: Aggregate
    of: Expression | None
    where: Expression | None
    within: int | None
    last: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """One table of histories.

    Attributes
    ----------
    schema : its declared columns, and behind them the roll-ups of the tables that hang on it
    stated : the declared columns, which a file or a request has
    days : days of one unit of the time column, negative where times before the application are; None for a date
    """

    name: str
    file: str
    key: str
    id: str | None
    parent: str | None
    time: Column | None
    days: float | None
    schema: Schema
    stated: tuple[Column, ...]
    rollups: tuple[Rollup, ...]


@dataclass(frozen=True)
class Histories:
    """All histories of a portfolio: a table that hangs on another one stands before it. Equal by their declarations.

    Attributes
    ----------
    tables : at least one
    content : their declaration as canonical JSON
    whole_keys : whether clients have whole numbers for names, and not texts
    """

    tables: tuple[History, ...] = field(compare=False)
    content: bytes
    whole_keys: bool = field(compare=False)

    @classmethod
    def of(cls, declared: Mapping[str, HistoryDeclaration], identity: IdentityDeclaration | None) -> Self:
        """The histories of a declaration; SchemaError, which names the fault, if they cannot be."""
        if identity is None:
            raise SchemaError("histories: an identity must say whose they are")
        found: dict[str, History] = {}
        for name in _children_first(declared):
            try:
                found[name] = _history(name, declared, found, identity.column)
            except (SchemaError, ValueError) as error:
                raise SchemaError(f"histories.{name}: {error}") from None
        values = {
            name: one.model_dump(mode="json", by_alias=True, exclude_defaults=True) for name, one in declared.items()
        }
        content = json.dumps({"identity": identity.kind, "histories": values}, sort_keys=True).encode()
        histories = cls(tuple(found.values()), content, identity.kind == "whole")
        names = [column.name for column in histories.columns]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise SchemaError(f"histories: declared twice: {', '.join(twice)}")
        return histories

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the declaration, hexadecimal: roll-ups of another digest are others."""
        return hashlib.sha256(self.content).hexdigest()

    @cached_property
    def of_clients(self) -> tuple[History, ...]:
        """The tables that hang on the client, in the order of the declaration of those on which none hangs first."""
        return tuple(table for table in self.tables if table.parent is None)

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """The roll-ups as columns of an application."""
        return tuple(rollup.column for table in self.of_clients for rollup in table.rollups)

    def children(self, name: str) -> tuple[History, ...]:
        """The tables that hang on a table."""
        return tuple(table for table in self.tables if table.parent == name)


def _children_first(declared: Mapping[str, HistoryDeclaration]) -> list[str]:
    """The tables, those that hang on others before these; SchemaError if one hangs on none, or on itself."""

    def depth(name: str) -> int:
        above: list[str] = []
        while (parent := declared[name].parent) is not None:
            if parent not in declared or parent in above:
                raise SchemaError(f"histories.{name}: parent {parent} is no table, or hangs on this one")
            above.append(name := parent)
        return len(above)

    return sorted(declared, key=depth, reverse=True)


def _history(
    name: str, declared: Mapping[str, HistoryDeclaration], below: Mapping[str, History], identity: str
) -> History:
    """The history of a name; `below` holds the tables that hang on it."""
    one = declared[name]
    key = one.key or (identity if one.parent is None else declared[one.parent].id)
    if key is None:
        raise SchemaError(f"the table {one.parent} needs an id, which names its rows")
    stated = tuple(column.build(each) for each, column in one.columns.items())
    for column in stated:
        if column.protected:
            raise SchemaError(f"columns.{column.name}: a history cannot state a protected attribute")
        if not column.numeric and not column.levels:
            raise SchemaError(f"columns.{column.name}: a category of a history needs its levels")
    made = tuple(rollup.column for child in below.values() if child.parent == name for rollup in child.rollups)
    schema = Schema(id_column=None, target_column="", columns=(*stated, *made))
    if {key, one.id} & {column.name for column in schema}:
        raise SchemaError("key and id are no columns: no formula reads them")
    above: dict[str, Expression] = {}
    for each, formula in one.derived.items():
        if each in schema or each in above:
            raise SchemaError(f"derived.{each}: is a column already")
        above[each] = _formula(f"derived.{each}", formula, schema, above)
    time, days = _time(one, schema)
    rollups = tuple(
        rollup
        for each, declaration in one.rollups.items()
        for rollup in _rollups(each, declaration, name, schema, above, timed=time is not None)
    )
    return History(
        name=name, file=one.file or name, key=key, id=one.id, parent=one.parent, time=time, days=days,
        schema=schema, stated=stated, rollups=rollups,
    )  # fmt: skip


def _time(one: HistoryDeclaration, schema: Schema) -> tuple[Column | None, float | None]:
    if one.time is None:
        return None, None
    column = schema[one.time.column]
    if not column.numeric or column.kind is ColumnKind.FLAG:
        raise SchemaError(f"time: {column.name} is no number, count or date")
    if column.kind is ColumnKind.DATE:
        return column, None
    days = 1.0 if one.time.unit == "days" else DAYS_OF_MONTH
    return column, -days if one.time.sign == "negative" else days


def _rollups(
    name: str, declared: RollupDeclaration, table: str, schema: Schema, above: Mapping[str, Expression], *, timed: bool
) -> Iterator[Rollup]:
    where = None if declared.where is None else _formula(f"rollups.{name}.where", declared.where, schema, above)
    of = None if declared.of is None else _formula(f"rollups.{name}.of", declared.of, schema, above)
    if not timed and (declared.aggregate in _TIMED or declared.within or declared.last):
        raise SchemaError(f"rollups.{name}: needs the time of the table")
    for each, within, last in declared.named(name):
        told = f", {within} days" if within else f", last {last}" if last else ""
        column = Column(
            name=each,
            kind=ColumnKind.COUNT if declared.aggregate in _WHOLE else ColumnKind.NUMBER,
            description=(declared.description or name) + told,
            unit=declared.unit or _UNITS.get(declared.aggregate, "number"),
            history=table,
        )
        yield Rollup(column=column, aggregate=declared.aggregate, of=of, where=where, within=within, last=last)


def _formula(place: str, text: str, schema: Schema, above: Mapping[str, Expression]) -> Expression:
    try:
        return read_formula(text, schema, above)
    except SchemaError as error:
        raise SchemaError(f"{place}: {error}") from None
