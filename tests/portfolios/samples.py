"""Drawn applications of any portfolio, as records and as files, and what breaks each rule of its columns."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from features.drawing import draw_legal
from features.portfolio import Portfolio
from features.schema import Column, ColumnKind
from features.transformer import Columns

LEVELS = 5_000
"""As many levels are drawn for a category that declares none."""

Row = dict[str, Any]


def levels_of(portfolio: Portfolio) -> dict[str, list[str]]:
    """Drawn levels for each category that declares none."""
    open_ended = (column.name for column in portfolio.schema.categorical if not column.levels)
    return {name: [f"{number:05}" for number in range(LEVELS)] for name in open_ended}


def drawn(portfolio: Portfolio, rows: int, seed: int = 1) -> Columns:
    """Legal applications."""
    return draw_legal(portfolio, rows, seed=seed, vocabularies=levels_of(portfolio))


def applied(portfolio: Portfolio, rows: int, seed: int = 1) -> Columns:
    """Legal applications as requests state them: of histories nothing is known."""
    columns, rolled_up = drawn(portfolio, rows, seed), len(portfolio.schema.rolled_up)
    columns.numbers[:, columns.numbers.shape[1] - rolled_up :] = np.nan
    return columns


def write_csv(path: Path, portfolio: Portfolio, rows: Sequence[Row], **others: Sequence[object]) -> Path:
    """The records as the portfolio's CSV files are written, with further columns."""
    files, names = portfolio.declared.files, [*rows[0], *others]
    beside = zip(*others.values(), strict=True) if others else ((),) * len(rows)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=files.separator)
        writer.writerow(names)
        for row, more in zip(rows, beside, strict=True):
            writer.writerow([_text(value, files.decimal) for value in (*row.values(), *more)])
    return path


def _text(value: object, decimal: str) -> str:
    if isinstance(value, float):
        return repr(value).replace(".", decimal)
    return "" if value is None else str(value)


def write_parquet(path: Path, portfolio: Portfolio, rows: Sequence[Row]) -> Path:
    """The records with the types that a data warehouse gives their columns."""
    stored = {column.name: _array(column, [row[column.name] for row in rows]) for column in portfolio.schema.stated}
    parquet.write_table(pa.table(stored), path)
    return path


def _array(column: Column, values: list[Any]) -> pa.Array:
    if column.kind is ColumnKind.DATE:
        return pa.array([value and date.fromisoformat(value) for value in values], pa.date32())
    kinds = {ColumnKind.NUMBER: pa.float64(), ColumnKind.CATEGORY: pa.string(), ColumnKind.FLAG: pa.int8()}
    return pa.array(values, kinds.get(column.kind, pa.int64()))


@dataclass(frozen=True)
class Break:
    """A value that breaks a rule of a column, and the change that brings it into a legal record."""

    column: str
    values: Row


def breaks(portfolio: Portfolio) -> Iterator[Break]:
    """One value for each rule that each column has."""
    for column in portfolio.schema.stated:
        for value in _illegal(column):
            yield Break(column.name, {column.name: value})
    schema = portfolio.schema
    for order in schema.orders:
        high = _in_bounds(schema[order.smaller], top=True)
        yield Break(order.smaller, {order.smaller: high, order.larger: _in_bounds(schema[order.larger], top=False)})


def _illegal(column: Column) -> Iterator[Any]:
    if column.required:
        yield None
    if not column.numeric:
        yield "x" * 101
        return
    if column.kind is ColumnKind.DATE:
        yield from ("2026-13-45", "last year")
        beyond = [("1000-01-01", column.low), ("9000-01-01", column.high)]
        yield from (text for text, bound in beyond if math.isfinite(bound))
        return
    yield "many"
    yield from (value for value in _beyond(column) if value not in column.missing)
    if column.whole:
        yield column.low + 0.5


def _beyond(column: Column) -> Iterator[float | int]:
    kind = int if column.whole else float
    if math.isfinite(column.low):
        yield kind(column.low - 4)
    if math.isfinite(column.high):
        yield kind(column.high + 4)


def _in_bounds(column: Column, *, top: bool) -> float | int | str:
    if column.kind is ColumnKind.DATE:
        return "2016-01-02" if top else "2016-01-01"
    bound = column.high if top else column.low
    return int(bound) if column.whole else bound
