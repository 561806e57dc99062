"""Generated data: a portfolio may name a Python module that writes files of applications where `run` gets none.

Applications that were drawn otherwise are written as the portfolio declares its files.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import csv, parquet

from features.portfolio import Portfolio
from features.schema import Column, ColumnKind
from features.transformer import Columns
from training.dataset import TRUE_PD
from training.errors import DataError

FileFormat = Literal["csv", "parquet"]
Tables = Literal["all", "applications"]


class Generator(Protocol):
    """What the module offers that a portfolio's `generator` names."""

    def synthesize(
        self,
        output: Path,
        *,
        clients: int,
        seed: int,
        file_format: FileFormat = "csv",
        tables: Tables = "all",
        progress: Callable[[int], object] | None = None,
    ) -> None:
        """Write the portfolio's files of `clients` applications into the folder `output`, or nothing at all.

        `progress` is called with the number of clients finished since the last call. The table `true_pd`, which marks
        the data as generated, is always written.
        """
        ...

    def total_clients(self, clients: int) -> int:
        """Clients of all files together, those of later applications included."""
        ...


def generator_of(portfolio: Portfolio) -> Generator:
    """The generator of a portfolio; DataError if it names none, or one that cannot be imported."""
    name = portfolio.declared.generator
    if name is None:
        raise DataError(f"the portfolio {portfolio.name} has no generator: give --data")
    try:
        return cast("Generator", import_module(name))
    except ImportError as error:
        raise DataError(f"the generator {name} of the portfolio {portfolio.name} cannot be imported: {error}") from None


class LabelledWriter:
    """Writes drawn applications as a portfolio declares its labelled file, and the table that marks them."""

    def __init__(self, folder: Path, portfolio: Portfolio, file_format: FileFormat, files: ExitStack) -> None:
        self._folder, self._portfolio, self._format, self._files = folder, portfolio, file_format, files
        self._open: dict[str, Any] = {}
        self._rows = 0

    def write(self, columns: Columns, target: NDArray[np.int64], pd: NDArray[np.float64]) -> None:
        """Append applications with their outcomes and PDs; identifiers are counted from 1 on."""
        declared, first = self._portfolio.declared, self._rows + 1
        ids: dict[str, pa.Array] = {}
        if declared.identity is not None:
            kind = pa.string() if declared.identity.kind == "text" else pa.int64()
            ids = {declared.identity.column: pa.array(range(first, first + len(columns))).cast(kind)}
        outcomes = np.where(target == 1, declared.outcome.bad[0], declared.outcome.good[0])
        stated = {column.name: _stored(columns, column) for column in columns.schema}
        self._append(declared.files.train, ids | {declared.outcome.column: pa.array(outcomes, pa.string())} | stated)
        self._append(TRUE_PD, ids | {"TRUE_PD": pa.array(pd)})
        self._rows += len(columns)

    def _append(self, name: str, columns: dict[str, pa.Array]) -> None:
        table = pa.table({name: self._shown(values) for name, values in columns.items()})
        if name not in self._open:
            self._open[name] = self._files.enter_context(self._file(f"{name}.{self._format}", table.schema))
        self._open[name].write_table(table)

    def _file(self, name: str, schema: pa.Schema) -> csv.CSVWriter | parquet.ParquetWriter:
        if self._format == "parquet":
            return parquet.ParquetWriter(self._folder / name, schema)
        options = csv.WriteOptions(delimiter=self._portfolio.declared.files.separator)
        return csv.CSVWriter(self._folder / name, schema, write_options=options)

    def _shown(self, values: pa.Array) -> pa.Array:
        mark = self._portfolio.declared.files.decimal
        if self._format == "parquet" or mark == "." or not pa.types.is_floating(values.type):
            return values
        return pc.replace_substring(values.cast(pa.string()), ".", mark)


def _stored(columns: Columns, column: Column) -> pa.Array:
    """One column for a file: whole numbers and dates as such, missing values as null."""
    place = columns.schema.position[column.name]
    if not column.numeric:
        return pa.array(columns.levels[:, place].tolist(), pa.string())
    values = pa.array(columns.numbers[:, place] + 0.0, from_pandas=True)  # -0.0 would be written as -0
    if column.kind is ColumnKind.DATE:
        return values.cast(pa.int32()).cast(pa.date32())
    whole = column.whole and all(float(code).is_integer() for code in column.missing)
    return values.cast(pa.int64()) if whole else values
