"""The pydantic models of one raw application and of its client's histories, made from a portfolio's declaration."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from functools import partial
from operator import itemgetter
from types import NoneType
from typing import Annotated, Any, ClassVar, Literal, Self, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    create_model,
    model_validator,
)
from pydantic_core import PydanticCustomError

from features.histories import Histories, History
from features.portfolio import Portfolio
from features.rollups import HistoryRows, roll_up
from features.schema import Column, ColumnKind, Order, Schema, day_number
from features.transformer import Columns

LONGEST_LEVEL = 100
"""The most characters that a category may have."""

LONGEST_CLIENT_ID = 64
"""The most characters that a caller's name for an applicant may have."""

ClientId = Annotated[str, Field(strict=True, min_length=1, max_length=LONGEST_CLIENT_ID, pattern=r"\S")]
"""A caller's name for an applicant, in requests and in files; it must not be blank."""


class Record(BaseModel):
    """Base of all bodies: it refuses unknown fields, NaN and infinity, and no error message quotes a value."""

    # A misspelt column must not pass as a missing one, and an applicant's value must not reach a log.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True)


class ApplicationRecord(Record):
    """One raw application, with its columns under the names of fields.

    A portfolio's own model derives from this one. Its fields have the names c0, c1, ... in the order of the columns,
    and the columns' names as aliases: a column may have any name, such as `json` or `a b`.
    """

    declaration: ClassVar[Schema]
    fields: ClassVar[dict[str, str]]
    """The field of each column."""
    levels_of: ClassVar[Callable[[Mapping[str, Any]], tuple[str | None, ...]]]
    """Takes the levels of the categorical columns out of the values of the fields."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        stated = self.__dict__
        for order in self.declaration.orders:
            smaller, larger = stated[self.fields[order.smaller]], stated[self.fields[order.larger]]
            if smaller is not None and larger is not None and smaller > larger and not self._are_codes(order):
                raise PydanticCustomError("order", "{name} {rule}", {"name": order.smaller, "rule": order.rule})
        return self

    def _are_codes(self, order: Order) -> bool:
        """Whether one of the two columns holds a code for missing."""
        return any(self[name] in self.declaration[name].missing for name in (order.smaller, order.larger))

    @property
    def levels(self) -> tuple[str | None, ...]:
        """The levels of the categorical columns, None where one is missing; there are no other texts."""
        return type(self).levels_of(self.__dict__)

    def __getitem__(self, column: str) -> Any:
        """The stated value of a column, None where it is missing."""
        return self.__dict__[self.fields[column]]


class Applications:
    """Reads applications of one portfolio.

    Attributes
    ----------
    model : the pydantic model of one application
    """

    def __init__(self, portfolio: Portfolio) -> None:
        self.portfolio = portfolio
        self.schema = schema = portfolio.schema
        fields = {column.name: f"c{i}" for i, column in enumerate(schema.stated)}
        self._levels = _getter([fields[column.name] for column in schema.categorical])
        # The class that is made takes the schema along as class variables, which pydantic does not check.
        base = type(
            "Application",
            (ApplicationRecord,),
            {
                "declaration": schema,
                "fields": fields,
                "levels_of": staticmethod(self._levels),
                "__doc__": ApplicationRecord.__doc__,
            },
        )
        parts: Any = {fields[column.name]: _field_of(column) for column in schema.stated}
        self.model = cast("type[ApplicationRecord]", create_model("Application", __base__=base, **parts))
        self.model.__doc__ = _DOC
        stated = [column for column in schema.numeric if not column.history]
        self._numbers = _getter([fields[column.name] for column in stated])
        self._stated, self._rolled_up = len(stated), len(schema.rolled_up)
        self._plain = _PlainReader(schema)

    def columns_of(self, applications: Sequence[Record]) -> Columns:
        """The applications as columns, one row each, in order; None becomes NaN in the numeric columns."""
        values = [application.__dict__ for application in applications]
        numbers = np.empty((len(values), len(self.schema.numeric)))
        numbers[:, self._stated :] = np.nan  # the roll-ups of histories
        levels = np.empty((len(values), len(self.schema.categorical)), dtype=object)
        for row, value in enumerate(values):
            numbers[row, : self._stated], levels[row] = self._numbers(value), self._levels(value)
        return Columns(numbers, levels, self.portfolio)

    def plain(self, stated: Sequence[Mapping[str, Any]]) -> tuple[Columns, NDArray[np.bool_]]:
        """Parsed JSON objects as columns, and which of them are certainly valid; only the model can judge the others.

        Where it says that one is valid, the columns are those that the model would give.
        """
        numbers, levels, sound = self._plain.read(stated)
        return Columns(self._padded(numbers), levels, self.portfolio), sound

    def _padded(self, numbers: NDArray[np.float64]) -> NDArray[np.float64]:
        """The numbers with the roll-ups of histories behind them, all missing."""
        if not self._rolled_up:
            return numbers
        padded = np.full((len(numbers), self._stated + self._rolled_up), np.nan)
        padded[:, : self._stated] = numbers
        return padded


class _PlainReader:
    """Checks many applications at once, by column, where the model of pydantic checks one value after the other."""

    def __init__(self, schema: Schema) -> None:
        numeric = [column for column in schema.numeric if not column.history]
        count = len(numeric)
        self._schema = schema
        self._absent: dict[str, Any] = {column.name: None for column in schema.stated}
        self._nothing = (None,) * count
        self._numbers = _getter([column.name for column in numeric])
        self._levels = _getter([column.name for column in schema.categorical])
        self._optional = np.array([not column.required for column in numeric], dtype=np.bool_)
        self._low, self._high, self._whole = schema.low[:count], schema.high[:count], schema.whole[:count]
        self._codes = [(i, one) for i, column in enumerate(numeric) for one in column.missing]
        self._orders = [(schema.position[one.smaller], schema.position[one.larger]) for one in schema.orders]

    def read(
        self, stated: Sequence[Mapping[str, Any]]
    ) -> tuple[NDArray[np.float64], NDArray[np.object_], NDArray[np.bool_]]:
        """The numbers, the levels, and which rows are certainly valid."""
        complete, numbers, levels = self._complete(stated)
        sound = np.array(
            [
                len(one) == len(self._absent)
                and _NUMBERS.issuperset(map(type, row))
                and _TEXTS.issuperset(map(type, texts))
                for one, row, texts in zip(complete, numbers, levels, strict=True)
            ],
            dtype=np.bool_,
        )
        try:
            known = np.array(
                [row if one else self._nothing for row, one in zip(numbers, sound, strict=True)], dtype=np.float64
            )
        except OverflowError:  # a whole number of hundreds of digits
            known, sound = np.full((len(stated), len(self._nothing)), np.nan), np.zeros(len(stated), dtype=np.bool_)
        known = known.reshape(len(stated), len(self._nothing))
        texts = np.empty((len(stated), len(self._schema.categorical)), dtype=object)
        for i, row in enumerate(levels):
            texts[i] = row if sound[i] else None
        return known, texts, sound & self._numbers_legal(known, numbers) & self._levels_legal(texts)

    def _complete(self, stated: Sequence[Mapping[str, Any]]) -> _Stated:
        """The applications with None for what they do not state, their numbers and their levels."""
        try:  # as it is if all state every column: to copy them would take a tenth of the time of a batch
            if all(len(one) == len(self._absent) for one in stated):
                return stated, [self._numbers(one) for one in stated], [self._levels(one) for one in stated]
        except KeyError:  # one has a name that is not declared
            pass
        complete = [{**self._absent, **one} for one in stated]
        return complete, [self._numbers(one) for one in complete], [self._levels(one) for one in complete]

    def _numbers_legal(self, known: NDArray[np.float64], stated: Sequence[Sequence[Any]]) -> NDArray[np.bool_]:
        legal = (known >= self._low) & (known <= self._high) & (np.abs(known) < _EXACT)
        legal &= (np.rint(known) == known) | ~self._whole
        legal |= np.isnan(known) & self._optional
        for i, code in self._codes:
            coded = known[:, i] == code
            if np.count_nonzero(coded):
                legal[[row for row in np.flatnonzero(coded).tolist() if type(stated[row][i]) is int], i] = True
        found = legal.all(axis=1)
        for smaller, larger in self._orders:
            found &= ~(known[:, smaller] > known[:, larger])
        return np.asarray(found, dtype=np.bool_)

    def _levels_legal(self, texts: NDArray[np.object_]) -> NDArray[np.bool_]:
        legal = np.ones(len(texts), dtype=np.bool_)
        for column, values in zip(self._schema.categorical, texts.T.tolist(), strict=True):
            if wrong := {level for level in set(values) if not _is_legal(level, column)}:
                legal &= [level not in wrong for level in values]
        return legal


_Stated = tuple[Sequence[Mapping[str, Any]], Sequence[tuple[Any, ...]], Sequence[tuple[Any, ...]]]
_NUMBERS, _TEXTS = frozenset({int, float, NoneType}), frozenset({str, NoneType})
_EXACT = 2.0**53
"""A larger whole number in JSON may be none that a float holds."""


def _is_legal(level: str | None, column: Column) -> bool:
    if level is None:
        return not column.required
    if column.required and level not in column.levels and column.is_missing(level):
        return False
    return len(level) <= LONGEST_LEVEL


_DOC = (
    "One raw loan application. A column that is absent, null or a word for missing is missing; `required` columns must "
    "be there."
)


def _getter(names: Sequence[str]) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
    """Several values of a dictionary as a tuple; itemgetter alone gives no tuple for one name, and fails for none."""
    if len(names) > 1:
        return itemgetter(*names)
    return lambda values: tuple(values[name] for name in names)


def _number(column: Column) -> Any:
    multiple = 1 if column.whole else None
    low, high = (None if np.isinf(bound) else bound for bound in (column.low, column.high))
    legal: Any = Annotated[float, Field(strict=True, ge=low, le=high, multiple_of=multiple)]
    if column.kind is ColumnKind.FLAG:
        return Annotated[legal | StrictBool, Field(union_mode="left_to_right")]
    codes = [code for code in column.missing if isinstance(code, float) and not column.low <= code <= column.high]
    # A code such as 365243 lies beyond the bounds. Type checkers allow no float in a Literal (PEP 586).
    whole = [int(code) for code in codes if code.is_integer()]
    others = [Annotated[float, Field(strict=True, ge=code, le=code)] for code in codes if not code.is_integer()]
    for other in [*([Literal[tuple(whole)]] if whole else []), *others]:
        legal = other | legal
    return legal


def _date(column: Column) -> Any:
    return Annotated[date, Field(strict=True), AfterValidator(partial(_day, column))]


def _day(column: Column, stated: date) -> float:
    days = day_number(stated.isoformat())
    if not column.low <= days <= column.high:
        raise PydanticCustomError("range", "Input should be {range}", {"range": column.range})
    return days


def _level(column: Column) -> Any:
    legal: Any = Annotated[str, Field(strict=True, max_length=LONGEST_LEVEL)]
    if column.coded:
        legal = Annotated[legal, BeforeValidator(_code, json_schema_input_type=int | str)]
    return Annotated[legal, AfterValidator(partial(_present, column))] if column.required else legal


def _code(stated: object) -> object:
    """A whole number as the text of its level."""
    if isinstance(stated, float) and stated.is_integer():  # infinity is none
        return str(int(stated))
    return str(stated) if isinstance(stated, int) and not isinstance(stated, bool) else stated


def _present(column: Column, level: str) -> str:
    # A declared level never means missing, and nearly every level is declared: the cheap test comes first.
    if level not in column.levels and column.is_missing(level):
        raise PydanticCustomError("missing", "Field required")
    return level


def _field_of(column: Column) -> tuple[Any, Any]:
    """Type and default of the field of a column, as pydantic makes models of them."""
    kind = _date if column.kind is ColumnKind.DATE else _number if column.numeric else _level
    annotation = kind(column)
    description = f"{column.description} [{column.unit}]"
    if column.required:
        return annotation, Field(alias=column.name, title=column.name, description=description)
    return annotation | None, Field(default=None, alias=column.name, title=column.name, description=description)


MOST_ROWS = 5_000
"""Rows that a request may have in one table."""

_CLIENT = np.zeros(1, dtype=np.int64)
"""The one client of a request, whatever the caller's name for it is."""

_RowName = Annotated[StrictInt | Annotated[StrictStr, Field(min_length=1, max_length=LONGEST_LEVEL)], Field()]


class HistoryRequest(Record):
    """What is known of a client before the application: for each table its rows. An absent table has none."""


class HistoryReader:
    """Reads the histories of one client.

    Attributes
    ----------
    model : the pydantic model of the `history` of a request
    """

    def __init__(self, histories: Histories) -> None:
        self._histories = histories
        self._tables = [_TableReader(table) for table in histories.tables]
        parts: Any = {
            f"t{i}": (list[table.model], Field(default=[], alias=table.name, max_length=MOST_ROWS))  # type: ignore[name-defined]
            for i, table in enumerate(self._tables)
        }
        self.model = cast("type[HistoryRequest]", create_model("History", __base__=HistoryRequest, **parts))
        self.model.__doc__ = HistoryRequest.__doc__

    def roll_up(self, history: HistoryRequest, day: float) -> NDArray[np.float64]:
        """The roll-ups of the client on a day since 1970-01-01, shape (n_rollups,)."""
        stated, names = history.__dict__, _Names()
        rows = {
            table.name: table.rows(stated[f"t{i}"], names) for i, table in enumerate(self._tables) if stated[f"t{i}"]
        }
        rolled_up: NDArray[np.float64] = roll_up(self._histories, rows, _CLIENT, np.array([day]))[0]
        return rolled_up


class _TableReader:
    """Reads the rows of one table; `model` is the pydantic model of a row."""

    def __init__(self, history: History) -> None:
        self.name = history.name
        fields = {column.name: f"c{i}" for i, column in enumerate(history.stated)}
        parts: Any = {fields[column.name]: _field_of(column) for column in history.stated}
        if history.id is not None:
            parts["row"] = (_RowName, Field(alias=history.id, description="Names the row"))
        self._named = history.id is not None
        self._hangs = history.parent is not None
        if self._hangs:
            parts["of"] = (_RowName, Field(alias=history.key, description=f"The row of {history.parent} it belongs to"))
        self.model = create_model("Row", __base__=Record, **parts)
        self.model.__doc__ = f"One row of {history.name}."
        self._values = _getter([fields[column.name] for column in history.stated])
        self._codes = [
            (i, {level: float(code) for code, level in enumerate(column.levels)}, float(len(column.levels)), column)
            for i, column in enumerate(history.stated)
            if not column.numeric
        ]

    def rows(self, records: Sequence[Record], names: _Names) -> HistoryRows:
        """The rows of the one client."""
        stated = [list(self._values(record.__dict__)) for record in records]
        for i, codes, unknown, column in self._codes:
            for row in stated:
                level = row[i]
                row[i] = None if level is None or column.is_missing(level) else codes.get(level, unknown)
        values = np.ascontiguousarray(np.array(stated, dtype=np.float64).T)
        keys = names.of(records, "of") if self._hangs else np.zeros(len(records), dtype=np.int64)
        return HistoryRows(values, keys, names.of(records, "row") if self._named else None)


class _Names:
    """Numbers the names of the rows of one request, as texts: 7 and "7" are one name, as in a file."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def of(self, records: Sequence[Record], field: str) -> NDArray[np.int64]:
        """The number of the name in a field of each row."""
        known = self._numbers
        return np.array([known.setdefault(str(one.__dict__[field]), len(known)) for one in records], dtype=np.int64)
