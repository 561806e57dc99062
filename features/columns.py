"""Raw applications as numpy columns: what every feature is computed from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .errors import ColumnsError
from .schema import Schema


@dataclass(frozen=True, slots=True)
class Columns:
    """The raw columns of n applications, row i of both arrays being application i.

    Attributes
    ----------
    numbers : float64, shape (n, len(schema.numeric)); NaN is a missing value
    levels : object, shape (n, len(schema.categorical)); str, or None where the value is missing
    """

    numbers: NDArray[np.float64]
    levels: NDArray[np.object_]

    def __len__(self) -> int:
        return len(self.numbers)

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_] | slice) -> Columns:
        """The chosen rows, in the order given."""
        return Columns(self.numbers[rows], self.levels[rows])

    def check(self, schema: Schema) -> None:
        """Raise ColumnsError unless both arrays have the shape that `schema` asks for."""
        expected = (len(self.numbers), len(schema.numeric)), (len(self.numbers), len(schema.categorical))
        if (self.numbers.shape, self.levels.shape) != expected:
            raise ColumnsError(
                f"columns have shapes {self.numbers.shape} and {self.levels.shape}, "
                f"the declaration asks for {expected[0]} and {expected[1]}"
            )


def concatenate(parts: Sequence[Columns]) -> Columns:
    """All rows of `parts`, one after the other."""
    if len(parts) == 1:
        return parts[0]
    return Columns(
        np.concatenate([part.numbers for part in parts]),
        np.concatenate([part.levels for part in parts]),
    )
