"""An ordered set of declared columns, with the look-ups that the rest of the code needs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .column import Column, Protected
from .errors import SchemaError


@dataclass(frozen=True, slots=True)
class Order:
    """Two numeric columns of which the first is at most the second in any application that states both."""

    smaller: str
    larger: str

    @property
    def rule(self) -> str:
        """What is said of an application that breaks it, after the first column's name."""
        return f"must be at most {self.larger}"


@dataclass(frozen=True)
class Schema:
    """The raw columns of one table, in file order, and what holds between two of them.

    `id_column` and `target_column` name the identifier and the outcome: they are part of a file, never of a feature.
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
            raise SchemaError("an order is one of two numeric columns that are declared")

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

    def protected(self, attributes: tuple[Protected, ...] = tuple(Protected)) -> frozenset[str]:
        """Names of the columns that state one of the protected attributes."""
        return frozenset(column.name for column in self.columns if column.protected in attributes)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the declaration, hexadecimal: equal exactly when every declared property is equal.

        `calendar` is left out: it says how windows are judged, and not what a value means to a model.
        """
        columns = [
            {name: value for name, value in asdict(column).items() if name != "calendar"} for column in self.columns
        ]
        text = json.dumps([self.id_column, self.target_column, *columns, *map(asdict, self.orders)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()
