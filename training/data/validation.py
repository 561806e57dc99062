"""Rules that a labelled data set must keep beyond those of each column. Values are never quoted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from features import APPLICATION, Columns, Violation
from training.errors import DataError

_MOST_UNDECLARED = 0.5
_NO_ROWS = np.empty(0, dtype=np.intp)


def identifier_violations(ids: NDArray[np.int64], unnamed: NDArray[np.bool_]) -> list[Violation]:
    """Missing or unreadable identifiers, where `unnamed` is True, and repeated ones; both of shape (n,)."""
    named = np.flatnonzero(~unnamed)
    _, first = np.unique(ids[named], return_index=True)
    repeated = ~unnamed
    repeated[named[first]] = False
    name = APPLICATION.id_column
    return _found((name, "must be a whole number and present", unnamed), (name, "must be unique", repeated))


def level_violations(columns: Columns) -> list[Violation]:
    """Categories of which more than half of the stated levels are not declared: they may be encoded in another way."""
    found = []
    for name, undeclared, stated in _undeclared_levels(columns):
        if len(undeclared) == stated:
            found.append(Violation(name, "must hold declared levels; none of them occurs", undeclared))
        elif len(undeclared) > _MOST_UNDECLARED * stated:
            found.append(Violation(name, "must hold declared levels in most rows", undeclared))
    return found


def undeclared_levels(columns: Columns) -> dict[str, int]:
    """How many rows of each category hold a level that is not declared; legal, but unknown to a model if it is rare."""
    return {name: len(undeclared) for name, undeclared, _ in _undeclared_levels(columns)}


def _undeclared_levels(columns: Columns) -> Iterator[tuple[str, NDArray[np.intp], int]]:
    """The rows whose level is not declared, where there are any, and how many rows state a level."""
    for i, column in enumerate(APPLICATION.categorical):
        levels = columns.levels[:, i]
        counts = Counter(levels.tolist())
        missing = {level for level in counts if level is None or column.is_missing(level)}
        undeclared = counts.keys() - missing - set(column.levels)
        if column.levels and undeclared:
            rows = np.flatnonzero([level in undeclared for level in levels])
            yield column.name, rows, len(levels) - sum(counts[level] for level in missing)


def target_violations(target: NDArray[np.float64]) -> list[Violation]:
    """Outcomes other than 0 and 1, and an outcome that never varies; `target` is float64 of shape (n,)."""
    name = APPLICATION.target_column
    found = _found((name, "must be 0 or 1", ~np.isin(target, (0.0, 1.0))))
    if len(np.unique(target[np.isin(target, (0.0, 1.0))])) < 2:
        found.append(Violation(name, "must hold both classes", _NO_ROWS))
    return found


def overlap_violations(train: NDArray[np.int64], test: NDArray[np.int64]) -> list[Violation]:
    """Rows of the training data whose identifier is in the test data as well."""
    return _found((APPLICATION.id_column, "must not be in application_test too", np.isin(train, test)))


def constant_columns(columns: Columns) -> tuple[str, ...]:
    """Names of the columns that hold one value, or none, in every row. Legal, but they can teach nothing."""
    numbers = columns.numbers
    same = np.all((numbers == numbers[:1]) | (np.isnan(numbers) & np.isnan(numbers[:1])), axis=0)
    names = [column.name for column, one in zip(APPLICATION.numeric, same, strict=True) if one]
    for i, column in enumerate(APPLICATION.categorical):
        if len(set(columns.levels[:, i])) < 2:
            names.append(column.name)
    return tuple(name.name for name in APPLICATION if name.name in names)


def raise_if_any(source: str, violations: Sequence[Violation]) -> None:
    """DataError naming every violation, if there is one."""
    if violations:
        rules = f"{len(violations)} rule{'s' if len(violations) > 1 else ''}"
        raise DataError(f"{source} breaks {rules}: " + "; ".join(map(str, violations)))


def refuse_too_few(target: NDArray[np.int64], *, folds: int, per_fold: int) -> None:
    """DataError unless every one of `folds` folds can judge `per_fold` defaults and as many good rows."""
    defaults = int(target.sum())
    needed = folds * per_fold
    if min(defaults, len(target) - defaults) < needed:
        raise DataError(
            f"{defaults} defaults in {len(target)} rows are too few: {folds} folds that judge at least {per_fold} rows "
            f"of either outcome need {needed} of either"
        )


def _found(*rules: tuple[str, str, NDArray[np.bool_]]) -> list[Violation]:
    return [Violation(name, rule, np.flatnonzero(mask)) for name, rule, mask in rules if mask.any()]
