"""A book of generated applications, and what the scorer of the service says of it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet

from features.files import read_table
from scoring.scorer import Scorer
from tests.features.examples import generate

IDENTIFIER = "SK_ID_CURR"
ROWS = int(os.environ.get("ENGINE_APPLICATIONS", "2000"))
"""Applications that each engine scores; `make engines-check` and `make spark-check` say how many."""
RESULTS = os.environ.get("ENGINE_RESULTS")
"""The file that the figures go into, if one is named."""
COMMAND = "make engines-check spark-check"
_FILES = 8
_GROUPS = 3


@dataclass(frozen=True)
class Book:
    """Applications in several files, in no order of their identifiers."""

    folder: Path
    applications: pa.Table

    @classmethod
    def written(cls, folder: Path, rows: int = ROWS) -> Book:
        """A book of so many rows in eight files of three row groups each."""
        generated = parquet.read_table(generate(folder / "generated", 2 * rows, "parquet"))
        shuffled = np.random.default_rng(3).permutation(generated.num_rows)[:rows]
        applications = generated.take(pa.array(shuffled)).drop_columns(["TARGET"])
        book = cls(folder / "book", applications)
        book.folder.mkdir()
        each = -(-rows // _FILES)
        for number in range(_FILES):
            piece = applications.slice(number * each, each)
            parquet.write_table(piece, book.folder / f"{number}.parquet", row_group_size=-(-each // _GROUPS))
        return book

    def probabilities(self, scorer: Scorer) -> NDArray[np.float64]:
        """The scorer's probabilities in the order of the identifiers, of all rows at once."""
        batch = read_table(self.applications, scorer.artefact.portfolio)
        assert batch.violations == []
        identifiers = self.applications[IDENTIFIER].to_numpy()
        return scorer.score(batch.columns).probability[identifiers.argsort()]


def decided(folder: Path) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Identifiers, in their order, and probabilities of what a job has written."""
    table = parquet.read_table([*sorted(folder.glob("part-*.parquet"))]).sort_by(IDENTIFIER)
    return table[IDENTIFIER].to_numpy(), table["probability"].to_numpy()
