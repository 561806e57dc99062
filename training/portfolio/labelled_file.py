"""Reads a labelled file that no portfolio declares: its separator and decimal mark are found in the file itself."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from features.diagnosis import SEPARATORS
from features.files import CsvLayout, open_table
from features.values import as_numbers, as_texts
from training.errors import DataError

_HEAD_BYTES = 1 << 16
_HEAD_ROWS = 200
_ROWS_PER_BLOCK = 100_000
_MOST_NUMBERS_AS_NAMES = 1 / 3
_VALUES_AS_NAMES = "its first line holds values: it must name the columns"

LEVEL_WORDS = frozenset({"none", "None", "NONE"})
"""Texts that are read as missing unless they are declared as levels; in some columns they mean that there is none."""


class _Everything:
    """Contains every name."""

    def __contains__(self, _: object) -> bool:
        return True


@dataclass(frozen=True, slots=True, eq=False)
class LabelledFile:
    """A table as it is stored, every column of a CSV file as text.

    Attributes
    ----------
    separator : what separates the columns of a CSV file
    decimal : the decimal mark of its numbers
    mixed : columns with the other decimal mark
    """

    path: Path
    table: pa.Table
    separator: str = ","
    decimal: str = "."
    mixed: tuple[str, ...] = ()


def read_labelled(path: Path) -> LabelledFile:
    """Return the .csv or .parquet file at `path`.

    FileError or ColumnsError if it cannot be read; DataError if it has no rows, one column only, or no names.
    """
    lines = _head(path)
    separator = _separator(lines)
    _refuse_numbers_as_names(path, lines, separator)
    opened = open_table(path, known=_Everything(), layout=CsvLayout(separator, levels=LEVEL_WORDS))
    if len(opened.header) < 2:
        raise DataError(f"{path}: it has one column: {', '.join(SEPARATORS.values())} may separate columns")
    blocks = list(opened.blocks(opened.header, _ROWS_PER_BLOCK))
    if not any(block.num_rows for block in blocks):
        raise DataError(f"{path}: has no rows")
    table = _plain(pa.concat_tables(blocks))
    if any(_repeats_name(table[name], name) for name in table.column_names):
        raise DataError(f"{path}: {_VALUES_AS_NAMES}")
    decimal, mixed = _decimal(table) if separator != "," else (".", ())
    return LabelledFile(path, table, separator, decimal, mixed)


def _plain(table: pa.Table) -> pa.Table:
    """The table without dictionaries, and with any text as `string`."""
    fields = []
    for field in table.schema:
        stored = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        text = pa.types.is_large_string(stored) or pa.types.is_string_view(stored)
        fields.append(field.with_type(pa.string() if text else stored))
    return table.cast(pa.schema(fields))


def _head(path: Path) -> list[str]:
    """The first lines of a CSV file; none of any other file, or of one that cannot be read."""
    if not path.is_file() or path.suffix.lower() != ".csv":
        return []
    try:
        with path.open("rb") as file:
            return file.read(_HEAD_BYTES).decode("utf-8-sig", errors="replace").splitlines(keepends=True)
    except OSError:
        return []


def _separator(lines: list[str]) -> str:
    """The separator that divides the first rows into as many fields each; a comma where none does."""
    widths = {separator: _width(lines[: _HEAD_ROWS + 1], separator) for separator in SEPARATORS}
    return max(widths, key=lambda separator: widths[separator])


def _width(lines: list[str], separator: str) -> int:
    """The number of fields of every row, the last aside, which may be cut; 1 where rows differ."""
    try:
        rows = [row for row in csv.reader(lines, delimiter=separator) if row]
    except csv.Error:
        return 1
    widths = {len(row) for row in (rows[:-1] if len(rows) > 2 else rows)}
    return widths.pop() if len(widths) == 1 else 1


def _refuse_numbers_as_names(path: Path, lines: list[str], separator: str) -> None:
    """DataError if the first line seems to be an application's; no message may quote it, not even as repeated names."""
    names = [name for name in next(csv.reader(lines[:1], delimiter=separator), []) if name.strip()]
    if sum(map(_is_number, names)) > _MOST_NUMBERS_AS_NAMES * len(names):
        raise DataError(f"{path}: {_VALUES_AS_NAMES}")


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", "."))
    except ValueError:
        return False
    return True


def _repeats_name(values: pa.ChunkedArray[Any], name: str) -> bool:
    return bool(name.strip() and pa.types.is_string(values.type)) and name in values.slice(0, _HEAD_ROWS).to_pylist()


def _decimal(table: pa.Table) -> tuple[str, tuple[str, ...]]:
    """The decimal mark of most columns that have one, and the columns with the other."""
    marks = {name: mark for name in table.column_names for mark in _marks(table[name])}
    commas = tuple(name for name, mark in marks.items() if mark == ",")
    points = tuple(name for name, mark in marks.items() if mark == ".")
    return (",", points) if len(commas) > len(points) else (".", commas)


def _marks(values: pa.ChunkedArray[Any]) -> Iterator[str]:
    """The decimal mark of a column that only one of the two marks makes numbers of most values; none otherwise."""
    if not pa.types.is_string(values.type):
        return
    texts, _ = as_texts(values)
    stated = len(texts) - texts.null_count
    read = {mark: int(np.sum(~np.isnan(as_numbers(texts, decimal=mark)[0]))) for mark in (".", ",")}
    for mark, other in ((".", ","), (",", ".")):
        if read[mark] > read[other] and read[mark] > stated / 2:
            yield mark
