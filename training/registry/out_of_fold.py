"""The out-of-fold PDs of a training, kept with its MLflow run so that a later model can be compared with this one."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet

from features import APPLICATION
from training.data import Dataset

_FINGERPRINT_BYTES = 8


@dataclass(frozen=True, slots=True, eq=False)
class OutOfFold:
    """For every row of the training data, the PD from the fold model that was not fitted on it.

    Attributes
    ----------
    applications : uint64, shape (n,); see `fingerprints`
    probability : float64, shape (n,)
    """

    applications: NDArray[np.uint64]
    probability: NDArray[np.float64]

    @classmethod
    def of(cls, dataset: Dataset, probability: NDArray[np.float64]) -> Self:
        """The record of a training on `dataset`."""
        return cls(fingerprints(dataset), probability)

    def write(self, path: Path) -> None:
        """Write a Parquet file of two columns."""
        parquet.write_table(pa.table({"application": self.applications, "probability": self.probability}), path)

    @classmethod
    def read(cls, path: Path) -> Self:
        """The record that `write` wrote."""
        table = parquet.read_table(path)
        return cls(table["application"].to_numpy(), table["probability"].to_numpy())

    def of_rows(self, dataset: Dataset) -> NDArray[np.float64]:
        """The recorded PD of each row, shape (len(dataset),); NaN where the model was not fitted on the row."""
        known = dict(zip(self.applications.tolist(), self.probability.tolist(), strict=True))
        return np.array([known.get(row, np.nan) for row in fingerprints(dataset).tolist()])


def fingerprints(dataset: Dataset) -> NDArray[np.uint64]:
    """What tells one application from another, uint64 of shape (len(dataset),).

    A digest of the identifier and the required columns: other people under the same identifiers, as in data generated
    from two seeds, differ, and declaring a further optional column changes nothing.
    """
    required = [column for column in APPLICATION if column.required]
    position = APPLICATION.position
    numbers = dataset.columns.numbers[:, [position[column.name] for column in required if column.numeric]]
    levels = dataset.columns.levels[:, [position[column.name] for column in required if not column.numeric]]
    rows = zip(dataset.ids.tolist(), numbers.tolist(), levels.tolist(), strict=True)
    return np.array([_digest(repr(row)) for row in rows], dtype=np.uint64)


def _digest(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=_FINGERPRINT_BYTES).digest())
