"""Writing tables chunk by chunk, as CSV or Parquet."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from .category import Category
from .columns import Columns, Floats, Integers
from .errors import SynthesisError
from .tables import Table

FileFormat = Literal["csv", "parquet"]
FILE_FORMATS = ("csv", "parquet")


class Writer:
    """Open files of one directory, one per table; the first chunk of a table opens its file."""

    def __init__(self, directory: Path, file_format: FileFormat) -> None:
        self._directory = directory
        self._format = file_format
        self._files: dict[str, pyarrow.csv.CSVWriter | pyarrow.parquet.ParquetWriter] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def write(self, table: Table, columns: Columns) -> None:
        """Append rows to the table's file, with its columns taken from `columns` in the table's order.

        SynthesisError if one of them is not there.
        """
        absent = [name for name in table.columns if name not in columns]
        if absent:
            raise SynthesisError(f"the generator makes no {', '.join(absent)}, which {table.name} declares")
        batch = pa.table({name: _to_arrow(columns[name]) for name in table.columns})
        self._file(table, batch.schema).write_table(batch)

    def _file(self, table: Table, schema: pa.Schema) -> pyarrow.csv.CSVWriter | pyarrow.parquet.ParquetWriter:
        if table.name not in self._files:
            path = self._directory / f"{table.name}.{self._format}"
            open_file = pyarrow.csv.CSVWriter if self._format == "csv" else pyarrow.parquet.ParquetWriter
            self._files[table.name] = self._stack.enter_context(open_file(path, schema))
        return self._files[table.name]


def _to_arrow(values: Floats | Integers | Category) -> pa.Array:
    if isinstance(values, Category):
        levels = pa.array(values.levels, type=pa.string())
        return levels.take(pa.array(values.codes, mask=values.codes < 0))
    if values.dtype == np.float64:
        return pa.array(values + 0.0, from_pandas=True)
    return pa.array(values, type=pa.int64())
