"""Validation finds the rows that break a declared rule. It never quotes a value."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from features.request import LONGEST_LEVEL
from features.schema import Column, Schema
from features.transformer import Columns, missing_as_nan

_SHOWN = 5
# Numbers that are judged at a time: these and what is made of them stay in a processor's cache.
_VALUES_AT_ONCE = 1 << 15
# A request and a file must be judged alike, so that this is the tolerance of pydantic's `multiple_of`.
WHOLE_WITHIN = 1e-9
"""How far a number may be from a whole one that it is taken for."""


@dataclass(frozen=True, slots=True, eq=False)
class RuleViolation:
    """One rule that one column breaks, and the rows that break it, counted from 0."""

    column: str
    rule: str
    rows: NDArray[np.intp]

    def shifted(self, rows: int) -> RuleViolation:
        """The same violation, with `rows` added to each row number."""
        return RuleViolation(self.column, self.rule, self.rows + rows)

    @property
    def count(self) -> int:
        """How many rows break the rule."""
        return len(self.rows)

    def __str__(self) -> str:
        if self.count == 0:
            return f"{self.column}: {self.rule}"
        shown = ", ".join(str(row + 1) for row in self.rows[:_SHOWN])
        more = ", ..." if self.count > _SHOWN else ""
        return f"{self.column}: {self.rule} ({self.count} row{'s' if self.count > 1 else ''}: {shown}{more})"


def find_violations(columns: Columns) -> list[RuleViolation]:
    """The violations of every declared rule: finite, whole, bounds, required, length of a category, orders."""
    columns.check()
    known, schema = missing_as_nan(columns), columns.schema
    return [
        *_number_violations(known, schema),
        *_level_violations(columns),
        *_order_violations(known, schema),
    ]


def merge_violations(violations: Sequence[RuleViolation]) -> list[RuleViolation]:
    """The violations, merged where column and rule are the same."""

    # groupby joins neighbours only, so that the violations are sorted by the same key.
    def key(violation: RuleViolation) -> tuple[str, str]:
        return violation.column, violation.rule

    return [
        RuleViolation(column, rule, np.concatenate([violation.rows for violation in group]))
        for (column, rule), group in groupby(sorted(violations, key=key), key=key)
    ]


def _number_violations(known: NDArray[np.float64], schema: Schema) -> Iterator[RuleViolation]:
    at_once = max(1, _VALUES_AT_ONCE // max(1, len(known)))
    for start in range(0, len(schema.numeric), at_once):
        columns = slice(start, start + at_once)
        yield from _violations_of(known[:, columns].T, schema, range(len(schema.numeric))[columns])


def _violations_of(known: NDArray[np.float64], schema: Schema, columns: range) -> Iterator[RuleViolation]:
    """The violations of some numeric columns, shape (columns, n)."""
    chosen = slice(columns.start, columns.stop)
    required = np.array([[schema.numeric[i].required] for i in columns], dtype=np.bool_)
    absent = np.isnan(known)
    if not required.any() and absent.all():  # roll-ups that a file does not state
        return
    low, high = schema.low[chosen, np.newaxis], schema.high[chosen, np.newaxis]
    infinite = np.isinf(known)
    missing = absent & required
    fractional = is_fractional(known) & schema.whole[chosen, np.newaxis]
    outside = ((known < low) | (known > high)) & ~infinite
    for i in np.flatnonzero((infinite | missing | fractional | outside).any(axis=1)):
        column = schema.numeric[columns[i]]
        yield from _violation(column, "must be finite", infinite[i])
        yield from _violation(column, "is required", missing[i])
        yield from _violation(column, "must be a whole number", fractional[i])
        yield from _violation(column, bounds_rule(column), outside[i])


def _order_violations(known: NDArray[np.float64], schema: Schema) -> Iterator[RuleViolation]:
    """The violations of orders; a value out of its bounds breaks its bounds alone."""
    for order in schema.orders:
        both = [schema.position[order.smaller], schema.position[order.larger]]
        smaller, larger = values = known.T[both]
        within = (schema.low[both] <= values.T) & (schema.high[both] >= values.T)
        broken = (smaller > larger) & within.all(axis=1)
        yield from _violation(schema[order.smaller], order.rule, broken)


def is_fractional(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """True where a value is no whole number, within the tolerance."""
    with np.errstate(invalid="ignore"):  # infinity less infinity is NaN, which exceeds nothing
        return np.asarray(np.abs(values - np.rint(values)) > WHOLE_WITHIN)


def _level_violations(columns: Columns) -> Iterator[RuleViolation]:
    for i, column in enumerate(columns.schema.categorical):
        # A column has few levels: each is judged once, and not once a row.
        levels, places = columns.distinct(i)
        if column.required:
            missing = [level is None or column.is_missing(level) for level in levels]
            yield from _violation(column, "is required", np.array(missing, dtype=np.bool_)[places])
        long = [level is not None and len(level) > LONGEST_LEVEL for level in levels]
        if any(long):
            rule = f"must have at most {LONGEST_LEVEL} characters"
            yield from _violation(column, rule, np.array(long, dtype=np.bool_)[places])


def bounds_rule(column: Column) -> str:
    """The message for a value out of the bounds of its column."""
    return f"must be {column.range}"


def _violation(column: Column, rule: str, mask: NDArray[np.bool_]) -> Iterator[RuleViolation]:
    rows = np.flatnonzero(mask)
    if len(rows):
        yield RuleViolation(column.name, rule, rows)
