"""Drawn applications: legal values of every column, its codes, its bounds, gaps and unknown levels; nobody's data.

They serve wherever a portfolio needs applications and has none at hand: conformance rows of an artefact, the comparison
of two ways to the same score, load and tests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from features.portfolio import Portfolio
from features.schema import Column, ColumnKind, Order, day_number, day_text
from features.transformer import Columns

UNKNOWN_LEVEL = "a level that nobody declared"

_LARGEST_DRAWN = 1e6
"""The largest value drawn for a column without bounds."""
_FIRST_DAY, _LAST_DAY = day_number("1900-01-01"), day_number("2100-01-01")
"""The days between which a date without bounds is drawn."""
_FREQUENT = 0.3
"""The share of numbers that are special: missing, codes for missing, bounds and zero."""
_RARE = 0.2
"""The share of levels that are special: missing, codes for missing, and a level that nobody declared."""


def draw_columns(
    portfolio: Portfolio,
    rows: int,
    *,
    seed: int,
    edges: Mapping[str, Sequence[float]] | None = None,
    vocabularies: Mapping[str, Sequence[str]] | None = None,
) -> Columns:
    """Drawn applications with every edge case; an order between two columns may be broken.

    Parameters
    ----------
    edges : for a column the bounds of bins from which its numbers are drawn evenly; its own bounds without any
    vocabularies : for a category the levels that are drawn beside the declared ones
    """
    generator, schema = np.random.default_rng(seed), portfolio.schema
    numbers = np.empty((rows, len(schema.numeric)))
    for i, column in enumerate(schema.numeric):
        numbers[:, i] = _numbers(column, rows, (edges or {}).get(column.name, ()), generator)
    levels = np.empty((rows, len(schema.categorical)), dtype=object)
    for i, column in enumerate(schema.categorical):
        levels[:, i] = _levels(column, rows, (vocabularies or {}).get(column.name, ()), generator)
    return Columns(numbers, levels, portfolio)


def draw_legal(
    portfolio: Portfolio, rows: int, *, seed: int, vocabularies: Mapping[str, Sequence[str]] | None = None
) -> Columns:
    """Drawn applications that break no rule: required columns are there, and orders hold; see `draw_columns`."""
    columns, schema = draw_columns(portfolio, rows, seed=seed, vocabularies=vocabularies), portfolio.schema
    for i, column in enumerate(schema.numeric):
        if column.required:
            values = columns.numbers[:, i]
            columns.numbers[:, i] = np.where(
                np.isnan(values) | np.isin(values, column.missing), _legal_value(column), values
            )
    for i, column in enumerate(schema.categorical):
        if column.required:
            legal = next(iter(column.levels), UNKNOWN_LEVEL)
            texts = columns.levels[:, i].tolist()
            columns.levels[:, i] = [legal if text is None or column.is_missing(text) else text for text in texts]
    for order in schema.orders:
        smaller, larger = (columns.numbers[:, schema.position[name]] for name in (order.smaller, order.larger))
        broken = smaller > larger
        optional = order.larger if not schema[order.larger].required else order.smaller
        columns.numbers[broken, schema.position[optional]] = np.nan
    return columns


def keep_orders(columns: Columns) -> None:
    """Change the numbers of rows that break an order: a smaller value is lowered, else the optional one is missing."""
    schema = columns.schema
    for _ in schema.orders:  # one change may break an order that was looked at before
        for order in schema.orders:
            _keep_order(columns, order)
    for order in schema.orders:
        broken = _broken(columns, order)[0]
        if broken.any() and not (schema[order.smaller].required and schema[order.larger].required):
            name = order.larger if not schema[order.larger].required else order.smaller
            columns.numbers[broken, schema.position[name]] = np.nan


def _keep_order(columns: Columns, order: Order) -> None:
    broken, smaller, larger = _broken(columns, order)
    for name, values in ((order.smaller, np.floor(larger)), (order.larger, np.ceil(smaller))):
        column = columns.schema[name]
        wanted = values if column.whole else larger if name == order.smaller else smaller
        legal = broken & (wanted >= column.low) & (wanted <= column.high) & ~np.isin(wanted, column.missing)
        columns.numbers[legal, columns.schema.position[name]] = wanted[legal]
        broken = broken & ~legal


def _broken(columns: Columns, order: Order) -> tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.float64]]:
    """Which rows break an order, and the values of both columns, NaN for codes."""
    schema, found = columns.schema, []
    for name in (order.smaller, order.larger):
        values = columns.numbers[:, schema.position[name]]
        found.append(np.where(np.isin(values, schema[name].missing), np.nan, values))
    return found[0] > found[1], found[0], found[1]


def records_of(columns: Columns) -> list[dict[str, float | int | str | None]]:
    """The applications as the API takes them: a dictionary of each row, null for a missing value, without roll-ups."""
    names = [column.name for column in columns.schema.stated]
    place = columns.schema.position
    rows = []
    for numbers, levels in zip(columns.numbers.tolist(), columns.levels.tolist(), strict=True):
        rows.append({
            name: _stated(columns.schema[name], numbers[place[name]])
            if columns.schema[name].numeric
            else levels[place[name]]
            for name in names
        })  # fmt: skip
    return rows


def _stated(column: Column, value: float) -> float | int | str | None:
    if np.isnan(value):
        return None
    if column.kind is ColumnKind.DATE:
        return day_text(value)
    return int(value) if column.whole else value


def _legal_value(column: Column) -> float:
    """A legal value that is no code for missing."""
    low, high = _bounds(column)
    candidates = (low, high, (low + high) / 2) if not column.whole else (low, high, np.floor((low + high) / 2))
    return next((float(value) for value in candidates if value not in column.missing), low)


def _bounds(column: Column) -> tuple[float, float]:
    if column.kind is ColumnKind.DATE:  # 1e6 days before 1970 are no date
        return max(column.low, _FIRST_DAY), min(column.high, _LAST_DAY)
    return max(column.low, -_LARGEST_DRAWN), min(column.high, _LARGEST_DRAWN)


def _numbers(column: Column, rows: int, edges: Sequence[float], generator: np.random.Generator) -> NDArray[np.float64]:
    low, high = _bounds(column)
    bounds = np.clip(edges if len(edges) > 1 else (low, high), column.low, column.high)
    place = generator.integers(0, len(bounds) - 1, rows)
    values = generator.uniform(bounds[place], bounds[place + 1])
    special = [np.nan, np.nan, *map(float, column.missing), low, high, *([0.0] if low <= 0 <= high else [])]
    chosen = generator.choice(np.array(special), rows)
    values = np.where(generator.random(rows) < _FREQUENT, chosen, np.rint(values) if column.whole else values)
    values[:2] = (np.nan, np.rint(bounds[0]) if column.whole else bounds[0])[:rows]
    return np.asarray(values, dtype=np.float64)


def _levels(column: Column, rows: int, known: Sequence[str], generator: np.random.Generator) -> list[str | None]:
    special = [None, UNKNOWN_LEVEL, *map(str, column.missing)]
    legal = list(dict.fromkeys([*known, *column.levels])) or [UNKNOWN_LEVEL]
    rare = generator.random(rows) < _RARE
    places = generator.integers(0, 1 << 30, rows).tolist()
    drawn = [special[i % len(special)] if odd else legal[i % len(legal)] for i, odd in zip(places, rare, strict=True)]
    return [None, legal[0], *drawn[2:]][:rows]
