"""Arrow tables from CSV and Parquet files. The only module that needs pyarrow, which the serving image leaves out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
from pyarrow import csv, parquet

from .application import APPLICATION
from .column import MISSING_WORDS
from .diagnosis import not_utf8, refuse_unreadable, uneven_rows
from .errors import FileError

_SPELLINGS = {form(word) for word in MISSING_WORDS for form in (str, str.upper, str.capitalize)}
_NULLS = sorted((_SPELLINGS | {"NaN", "-NaN", "NaT"}) - {level for column in APPLICATION for level in column.levels})
"""Words for missing in their usual case, which the reader of CSV finds fastest; `values` knows every other form."""

_CSV_BLOCK_BYTES = 8 << 20


def header(path: Path) -> list[str]:
    """The column names of the file; FileError if it is empty, damaged or neither CSV nor Parquet."""
    kind = refuse_unreadable(path)
    with _reading(path):
        if kind == "parquet":
            return list(parquet.read_schema(path).names)
        return list(_csv_reader(path, []).schema.names)


def tables(path: Path, columns: Sequence[str], rows: int) -> Iterator[pa.Table]:
    """The chosen columns in tables of at most `rows` rows. Every CSV column is text."""
    with _reading(path):
        if path.suffix.lower() == ".parquet":
            with parquet.ParquetFile(path) as file:
                for batch in file.iter_batches(batch_size=rows, columns=list(columns)):
                    yield pa.Table.from_batches([batch])
        else:
            yield from _rebatched(_csv_reader(path, columns), rows)


def _csv_reader(path: Path, columns: Sequence[str]) -> csv.CSVStreamingReader:
    return csv.open_csv(
        path,
        read_options=csv.ReadOptions(use_threads=False, block_size=_CSV_BLOCK_BYTES),
        parse_options=csv.ParseOptions(newlines_in_values=True),
        convert_options=csv.ConvertOptions(
            include_columns=list(columns),
            column_types=dict.fromkeys(columns, pa.string()),
            null_values=_NULLS,
            strings_can_be_null=True,
        ),
    )


def _rebatched(reader: csv.CSVStreamingReader, rows: int) -> Iterator[pa.Table]:
    held = reader.schema.empty_table()
    for batch in reader:
        held = pa.concat_tables([held, pa.Table.from_batches([batch])])
        while held.num_rows >= rows:
            yield held.slice(0, rows)
            held = held.slice(rows)
    if held.num_rows:
        yield held


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn Arrow's errors, which quote the data, into one line that does not."""
    try:
        yield
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise FileError(f"{path}: {_reason(path, error)}") from None
    except OSError as error:
        raise FileError(f"{path}: cannot be read ({type(error).__name__})") from None


def _reason(path: Path, error: Exception) -> str:
    if path.suffix.lower() == ".csv":
        if "Empty CSV file" in str(error):
            return "is empty"
        fault = not_utf8(path) or uneven_rows(path)
        if fault is not None:
            return fault
    if isinstance(error, pa.ArrowNotImplementedError):
        return "is written in a form of its format that is not read here"
    return "is damaged or not in the format of its suffix"
