"""The declaration of raw columns: each column, and a table of them with its look-ups."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from enum import StrEnum
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from features.errors import SchemaError

_EPOCH = date(1970, 1, 1)


class ColumnKind(StrEnum):
    """How a raw column is stored, checked and turned into a feature."""

    NUMBER = "number"
    """Any finite float64."""
    # Counts and flags are floats too: no integer of NumPy can be NaN.
    COUNT = "count"
    """A whole number, stored as float64."""
    FLAG = "flag"
    """0 or 1, stored as float64."""
    CATEGORY = "category"
    """A non-empty string."""
    DATE = "date"
    """A calendar day, stored as float64 days since 1970-01-01; only differences of two reach a feature."""


class Calendar(StrEnum):
    """The period after which a column's values repeat; a shorter window sees only some of them."""

    DAY = "day"
    WEEK = "week"


@dataclass(frozen=True, slots=True, kw_only=True)
class Protection:
    """A protected attribute that a column states (12 CFR 1002.2(z); EU Charter, article 21), and its groups.

    Attributes
    ----------
    attribute : the attribute's name
    groups : of a category: the name of each group and its levels
    bands : of a number: the first value of each group after the lowest, rising
    elderly : of an age: applicants from this band on are compared with all younger ones (12 CFR 1002.2(o)); else None
    per_unit : a value divided by it is in the unit of `bands`; -365.25 turns days before today into years
    """

    attribute: str
    groups: tuple[tuple[str, tuple[str, ...]], ...] = ()
    bands: tuple[float, ...] = ()
    elderly: float | None = None
    per_unit: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Changeable:
    """How far an applicant can change a column.

    Attributes
    ----------
    lower, higher : the directions
    most : the largest change, as a share of the value; infinity leaves the bounds of the column
    step : changed values are multiples of it
    scaled : columns that are scaled by the same factor, such as the annuity of a smaller credit
    """

    lower: bool
    higher: bool
    step: float
    most: float = math.inf
    scaled: tuple[str, ...] = ()

    def rounded(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The multiples of the step that are nearest to the values, as the decimals that people would write.

        >>> Changeable(lower=True, higher=False, step=0.1).rounded(np.array([0.31, 0.7]))
        array([0.3, 0.7])
        """
        decimals = -int(min(0, Decimal(repr(self.step)).normalize().as_tuple().exponent))
        return np.round(np.round(values / self.step) * self.step, decimals)


# The words that pandas reads as missing, and what databases write: \N is null in exports of MySQL and PostgreSQL.
MISSING_WORDS = frozenset(
    {
        "", "na", "n/a", "#na", "#n/a", "#n/a n/a", "<na>", "nan", "-nan", "nat", "null", "(null)", "none", "\\n",
        "1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan",
    }
)  # fmt: skip
"""Words that mean a missing value in every column, in lower case."""


def is_missing_word(text: str) -> bool:
    """Whether a text is a word for missing, in any case and with any blanks around it; blanks alone are one.

    >>> [is_missing_word(text) for text in ("N/A", " nan ", "  ", "no", "0")]
    [True, True, True, False, False]
    """
    return text.strip().casefold() in MISSING_WORDS


_CHANGEABLE = frozenset({ColumnKind.NUMBER, ColumnKind.COUNT})

MOST_LEVELS = 100
"""Levels of a category that a model knows at most, unless its declaration says otherwise."""


def day_number(text: str) -> float:
    """Days from 1970-01-01 to an ISO date; ValueError if the text is none.

    >>> day_number("1970-02-01")
    31.0
    """
    return float((date.fromisoformat(text) - _EPOCH).days)


def day_text(days: float) -> str:
    """The ISO date so many days after 1970-01-01; infinities stay words."""
    return (_EPOCH + timedelta(days=days)).isoformat() if math.isfinite(days) else f"{days:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One raw column of the application table.

    `low` and `high` are inclusive bounds of the values that are present. `missing` holds the data's own codes for "not
    known"; they, and the texts in `MISSING_WORDS`, become missing before the bounds apply. `levels` are the categories
    of the data dictionary; any other string is legal and becomes the unknown category. `coded` is true where the levels
    are whole numbers: 2, 2.0 and "2" are one level. A model knows the `most_levels` commonest levels at most.
    `calendar` belongs to a column of the time of application: its drift is judged over whole periods only.
    `changeable` says how far an applicant can change the value; no score depends on it. `history` names the table of
    histories that the column is a roll-up of; it is empty for a column of the application.
    """

    name: str
    kind: ColumnKind
    description: str
    unit: str
    low: float = -math.inf
    high: float = math.inf
    required: bool = False
    missing: tuple[float, ...] | tuple[str, ...] = ()
    protections: tuple[Protection, ...] = ()
    levels: tuple[str, ...] = ()
    coded: bool = False
    most_levels: int = MOST_LEVELS
    calendar: Calendar | None = None
    changeable: Changeable | None = None
    history: str = ""

    @property
    def numeric(self) -> bool:
        """True unless the column is a category."""
        return self.kind is not ColumnKind.CATEGORY

    @property
    def whole(self) -> bool:
        """True where only whole numbers are legal."""
        return self.kind in (ColumnKind.COUNT, ColumnKind.FLAG, ColumnKind.DATE)

    @property
    def protected(self) -> bool:
        """True where the column states a protected attribute."""
        return bool(self.protections)

    @property
    def range(self) -> str:
        """The bounds in words; days of a date are written as dates."""
        low, high = (day_text(x) if self.kind is ColumnKind.DATE else f"{x:.12g}" for x in (self.low, self.high))
        if math.isinf(self.low) or math.isinf(self.high):
            return f"at least {low}" if math.isinf(self.high) else f"at most {high}"
        return f"between {low} and {high}"

    def is_missing(self, level: str) -> bool:
        """Whether the text of a category means a missing value: a word for it, or the column's own code.

        A declared level never does, not even one that is such a word elsewhere.
        """
        stated = level.strip()
        return stated not in self.levels and (stated in self.missing or is_missing_word(stated))


@dataclass(frozen=True, slots=True)
class Order:
    """A rule for two numeric columns: the first is at most the second where an application states both."""

    smaller: str
    larger: str

    @property
    def columns(self) -> tuple[str, str]:
        """Both columns."""
        return self.smaller, self.larger

    @property
    def rule(self) -> str:
        """The message for an application that breaks the rule; it follows the first column's name."""
        return f"must be at most {self.larger}"


# No slots: cached_property keeps its values in __dict__.
@dataclass(frozen=True)
class Schema:
    """The raw columns of one table, in file order, and the orders between them.

    `id_column` and `target_column` name the identifier and the outcome: a file has them, and no feature reads them.
    Applications without an identifier have None.
    """

    id_column: str | None
    target_column: str
    columns: tuple[Column, ...]
    orders: tuple[Order, ...] = ()

    def __post_init__(self) -> None:
        names = [*self.beside, *(column.name for column in self.columns)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise SchemaError(f"declared twice: {', '.join(twice)}")
        numeric = {column.name for column in self.columns if column.numeric}
        if any({order.smaller, order.larger} - numeric for order in self.orders):
            raise SchemaError("an order needs two declared numeric columns")
        for column in self.columns:
            self._require_changeable(column)

    def __iter__(self) -> Iterator[Column]:
        return iter(self.columns)

    def __len__(self) -> int:
        return len(self.columns)

    def __getitem__(self, name: str) -> Column:
        try:
            return self._by_name[name]
        except KeyError:
            raise SchemaError(f"column '{name}' is not declared") from None

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    @property
    def beside(self) -> tuple[str, ...]:
        """The columns of a labelled file that are not raw columns: the outcome and, if there is one, the identifier."""
        return (self.target_column,) if self.id_column is None else (self.id_column, self.target_column)

    def _require_changeable(self, column: Column) -> None:
        """SchemaError unless the column, and those that are scaled with it, may be changed together."""
        if column.changeable is None:
            return
        scaled, numeric = column.changeable.scaled, {one.name for one in self.numeric if one.kind in _CHANGEABLE}
        if len({column.name, *scaled}) <= len(scaled) or not numeric.issuperset(scaled):
            raise SchemaError(f"columns.{column.name}.changeable: with needs other numbers or counts, each once")
        for name in (column.name, *scaled):
            if name in self._telling_protected:
                raise SchemaError(
                    f"columns.{column.name}.changeable: {name} states a protected attribute, or is ordered with one"
                )

    @cached_property
    def _telling_protected(self) -> frozenset[str]:
        """The columns that state a protected attribute, and those that an order bounds by it."""
        found = {column.name for column in self.columns if column.protected}
        while (
            more := {name for pair in self.orders for name in pair.columns if not found.isdisjoint(pair.columns)}
            - found
        ):
            found |= more
        return frozenset(found)

    @cached_property
    def _by_name(self) -> dict[str, Column]:
        return {column.name: column for column in self.columns}

    @cached_property
    def stated(self) -> tuple[Column, ...]:
        """The columns of an application itself: all but the roll-ups of histories."""
        return tuple(column for column in self.columns if not column.history)

    @cached_property
    def rolled_up(self) -> tuple[Column, ...]:
        """The roll-ups of histories, which are the last columns in `numeric`."""
        return tuple(column for column in self.columns if column.history)

    @cached_property
    def numeric(self) -> tuple[Column, ...]:
        """The columns held in `Columns.numbers`, in its order."""
        return tuple(column for column in self.columns if column.numeric)

    @cached_property
    def categorical(self) -> tuple[Column, ...]:
        """The columns held in `Columns.levels`, in its order."""
        return tuple(column for column in self.columns if not column.numeric)

    @cached_property
    def position(self) -> dict[str, int]:
        """Position of each column inside `numeric` or `categorical`."""
        return {column.name: i for group in (self.numeric, self.categorical) for i, column in enumerate(group)}

    @cached_property
    def low(self) -> NDArray[np.float64]:
        """Lower bounds, shape (n_numeric,)."""
        return np.array([column.low for column in self.numeric])

    @cached_property
    def high(self) -> NDArray[np.float64]:
        """Upper bounds, shape (n_numeric,)."""
        return np.array([column.high for column in self.numeric])

    @cached_property
    def whole(self) -> NDArray[np.bool_]:
        """Which numeric columns hold whole numbers only, shape (n_numeric,)."""
        return np.array([column.whole for column in self.numeric], dtype=np.bool_)

    @cached_property
    def attributes(self) -> tuple[str, ...]:
        """The protected attributes that some column states, in the order of the columns."""
        return tuple(dict.fromkeys(one.attribute for column in self.columns for one in column.protections))

    def protected(self, attributes: Collection[str]) -> frozenset[str]:
        """Names of the columns that state one of the protected attributes."""
        return frozenset(
            column.name for column in self.columns if any(one.attribute in attributes for one in column.protections)
        )

    def stating(self, attribute: str) -> tuple[Column, Protection]:
        """The first column that states a protected attribute; SchemaError if none does."""
        for column in self.columns:
            for protection in column.protections:
                if protection.attribute == attribute:
                    return column, protection
        raise SchemaError(f"no column states the protected attribute '{attribute}'")
