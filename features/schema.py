"""The declaration of raw columns: each column, and a table of them with its look-ups."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from features.errors import SchemaError


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


class Calendar(StrEnum):
    """The period after which a column's values repeat; a shorter window sees only some of them."""

    DAY = "day"
    WEEK = "week"


class ProtectedAttribute(StrEnum):
    """Attributes that fair-lending law protects (12 CFR 1002.2(z); EU Charter, article 21)."""

    SEX = "sex"
    MARITAL_STATUS = "marital_status"
    AGE = "age"


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One raw column of the application table.

    `low` and `high` are inclusive bounds of the values that are present. `missing` holds the data's own codes for "not
    known"; they, and the texts in `MISSING_WORDS`, become missing before the bounds apply. `levels` are the categories
    of the data dictionary; any other string is legal and becomes the unknown category. `calendar` belongs to a column
    of the time of application: its drift is judged over whole periods only.
    """

    name: str
    kind: ColumnKind
    description: str
    unit: str
    low: float = -math.inf
    high: float = math.inf
    required: bool = False
    missing: tuple[float, ...] | tuple[str, ...] = ()
    protected: ProtectedAttribute | None = None
    levels: tuple[str, ...] = ()
    calendar: Calendar | None = None

    @property
    def numeric(self) -> bool:
        """True unless the column is a category."""
        return self.kind is not ColumnKind.CATEGORY

    @property
    def whole(self) -> bool:
        """True where only whole numbers are legal."""
        return self.kind in (ColumnKind.COUNT, ColumnKind.FLAG)

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
    def rule(self) -> str:
        """The message for an application that breaks the rule; it follows the first column's name."""
        return f"must be at most {self.larger}"


# No slots: cached_property keeps its values in __dict__.
@dataclass(frozen=True)
class Schema:
    """The raw columns of one table, in file order, and the orders between them.

    `id_column` and `target_column` name the identifier and the outcome: a file has them, and no feature reads them.
    """

    id_column: str
    target_column: str
    columns: tuple[Column, ...]
    orders: tuple[Order, ...] = ()

    def __post_init__(self) -> None:
        names = [self.id_column, self.target_column, *(column.name for column in self.columns)]
        if len(set(names)) != len(names):
            raise SchemaError("a column is declared twice")
        numeric = {column.name for column in self.columns if column.numeric}
        if any({order.smaller, order.larger} - numeric for order in self.orders):
            raise SchemaError("an order needs two declared numeric columns")

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

    @cached_property
    def _by_name(self) -> dict[str, Column]:
        return {column.name: column for column in self.columns}

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
        return np.array([column.whole for column in self.numeric])

    def protected(self, attributes: tuple[ProtectedAttribute, ...] = tuple(ProtectedAttribute)) -> frozenset[str]:
        """Names of the columns that state one of the protected attributes."""
        return frozenset(column.name for column in self.columns if column.protected in attributes)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the declaration, hexadecimal: equal exactly when every property but `calendar` is equal.

        `calendar` tells how windows are judged, and not what a value means to a model.
        """
        # Sorted keys: the digest must not change when a field of `Column` moves.
        columns = [
            {name: value for name, value in asdict(column).items() if name != "calendar"} for column in self.columns
        ]
        text = json.dumps([self.id_column, self.target_column, *columns, *map(asdict, self.orders)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()
