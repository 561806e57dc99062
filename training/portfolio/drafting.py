"""Drafts a portfolio from one labelled file: the roles of its columns, what they hold, and what is in doubt."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from features.portfolio import OutcomeDeclaration
from features.schema import MOST_LEVELS, ColumnKind
from features.values import as_texts, as_whole_numbers
from training.dataset import level_ranking, outcomes, ranking
from training.errors import DataError
from training.portfolio.columns import FEWEST_ROWS, ColumnDraft, Drafted, draft_column
from training.portfolio.labelled_file import LabelledFile
from training.portfolio.table_schema import TableSchema
from training.portfolio.values import (
    identity_rank,
    is_decision_day,
    is_good_outcome,
    is_money,
    outcome_rank,
    protected_by_name,
)

LEAK_AUC = 0.9
"""A column that ranks the outcome better than this alone is asked about."""

_ROWS_RANKED = 30_000
_MOST_OUTCOMES = 12
_ROWS_OF_CODES = 100
_CODE = re.compile(r"(?![+-]?\d*[.,]\d+$)(?=.*\d)\S+")
_PLAIN = 3
_CERTAIN = 2
_BAD = re.compile(
    r"(bad|default|charged.?off|written.?off|write.?off|late|delinquen|non.?performing|npl|overdue|arrears)"
)
_GOOD_FIRST = re.compile(r"(no|non|not|never)\b(?!.?performing)")
_DAYS_PER_YEAR = 365.25
_OLDEST = 130
_MOST_PLAIN_LEVELS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """The column of the identity or of the outcome, and what is in doubt about it."""

    column: str
    questions: tuple[str, ...] = ()
    whole: bool = False
    bad: tuple[str, ...] = ()
    good: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A portfolio as far as a file tells it."""

    identity: Role | None
    outcome: Role
    decided_on: str | None
    columns: tuple[ColumnDraft, ...]
    questions: tuple[str, ...] = ()


def draft(file: LabelledFile, *, outcome: str | None = None, hint: TableSchema | None = None) -> Draft:
    """Draft the portfolio of a labelled file.

    Parameters
    ----------
    outcome : the column of the outcome; None looks for it
    hint : types, bounds, levels and codes for missing that somebody has stated

    DataError if no column can be the outcome.
    """
    named = _outcome(file, outcome)
    identity = _identity(file, named.column, None if hint is None else hint.identity)
    beside = {named.column} | ({identity.column} if identity else set())
    hints = {} if hint is None else hint.by_name
    target = outcomes(file.table[named.column], OutcomeDeclaration(column=named.column, bad=named.bad, good=named.good))
    columns = []
    for name in file.table.column_names:
        if name not in beside:
            read = draft_column(name, file.table[name], decimal=file.decimal, hint=hints.get(name))
            columns.append(_protected(_named(_ranked(read, target), read.values), read.values))
    if all(column.left_out for column in columns):
        raise DataError(f"{file.path}: no column is left beside identity, outcome and names")
    return Draft(
        identity=identity,
        outcome=named,
        decided_on=_decided_on(columns),
        columns=tuple(columns),
        questions=tuple(_file_doubts(file, hints)),
    )


def _file_doubts(file: LabelledFile, hints: Mapping[str, Any]) -> Iterator[str]:
    if file.mixed:
        other = "," if file.decimal == "." else "."
        yield f"decimal mark '{file.decimal}', but '{other}' in {', '.join(file.mixed)}: write them alike"
    absent = [name for name in hints if name not in file.table.column_names]
    if absent:
        yield f"the hint has fields that the file lacks: {', '.join(absent)}: are they needed?"


def _outcome(file: LabelledFile, stated: str | None) -> Role:
    if stated is not None and stated not in file.table.column_names:
        raise DataError(f"{file.path}: --outcome {stated}: no such column")
    names = file.table.column_names
    counts = {name: _counts(file.table[name]) for name in ([stated] if stated else names)}
    ranks = {name: _outcome_score(name, counts[name], names) for name in counts}
    best = max(ranks, key=lambda name: ranks[name])
    if ranks[best] == 0:
        raise DataError(f"{file.path}: no column of two values can be the outcome{_advice(stated)}")
    bad, good, doubts = _bad_and_good(best, counts[best])
    if stated is None and ranks[best] < _PLAIN:
        doubts = ("found by its values alone: is it the outcome?", *doubts)
    return Role(column=best, bad=bad, good=good, questions=doubts)


def _advice(stated: str | None) -> str:
    return f": not --outcome {stated} either" if stated else ": name one with --outcome"


def _counts(stored: pa.ChunkedArray[Any]) -> dict[str, int]:
    """The rows of each text; empty for a column that has more of them than an outcome."""
    texts, _ = as_texts(stored)
    found = texts.drop_null().value_counts()
    return {} if len(found) > _MOST_OUTCOMES else {one["values"]: one["counts"] for one in found.to_pylist()}


def _outcome_score(name: str, counts: Mapping[str, int], names: list[str]) -> float:
    """How probably a column is the outcome: its name first, then its values, then its place; 0 if it cannot be."""
    rank, bad = outcome_rank(name), sum(_is_bad(level) for level in counts)
    if len(counts) < 2 or (len(counts) > 2 and not (rank == _PLAIN or bad)):
        return 0
    usual = {level.casefold() for level in counts} <= {"0", "1", "y", "n", "yes", "no", "true", "false", "good", "bad"}
    place = {len(names) - 1: 1.0, 0: 0.5, 1: 0.5}.get(names.index(name), 0.0)
    worded = 2.0 * (0 < bad < len(counts) and bool(usual or rank))
    return rank + worded + 0.5 * usual + place + 0.5 * (len(counts) == 2)


def _is_bad(level: str) -> bool:
    stated = level.strip().casefold()
    return bool(_BAD.search(stated)) and not _GOOD_FIRST.match(stated)


def _bad_and_good(name: str, counts: Mapping[str, int]) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """The bad and the good values, and what is in doubt about them."""
    bad = {level for level in counts if _is_bad(level)}
    if not bad or len(bad) == len(counts):
        bad = {_bad_of_two(name, counts)}
    share = sum(counts[level] for level in bad) / sum(counts.values())
    good = tuple(sorted(counts.keys() - bad))
    said = " or ".join(f'"{level}"' for level in sorted(bad))
    doubts = [f"is {said} the bad outcome? it is {share:.1%} of the rows"]
    if share > 1 / 2:
        doubts.append("more than half of the rows are bad: are bad and good swapped?")
    if len(good) > 1:
        doubts.append("are these all good? take the rows of open loans out of the file")
    return tuple(sorted(bad)), good, tuple(doubts)


def _bad_of_two(name: str, counts: Mapping[str, int]) -> str:
    by_text = {level.strip().casefold(): level for level in counts}
    for worse, better in (("1", "0"), ("yes", "no"), ("y", "n"), ("true", "false")):
        # A status of Y may be that of a loan that was approved, while 1 is a default nearly everywhere.
        if by_text.keys() == {worse, better} and (worse == "1" or "status" not in name.lower()):
            return by_text[better if is_good_outcome(name) else worse]
    return min(counts, key=lambda level: (counts[level], level))


def _identity(file: LabelledFile, outcome: str, stated: str | None) -> Role | None:
    """The column that names an application: unique, present, and named so or counted through."""
    names = [name for name in file.table.column_names if name != outcome]
    if stated in names:
        return Role(column=str(stated), whole=_is_whole(file.table[str(stated)]))
    ranked = {name: _identity_score(name, file.table[name], first=name == names[0]) for name in names}
    best = max(ranked, key=lambda name: ranked[name])
    if ranked[best] <= 0:
        return None
    doubts = () if ranked[best] >= _PLAIN else ("does it name the application? if not: identity: null",)
    return Role(column=best, whole=_is_whole(file.table[best]), questions=doubts)


def _identity_score(name: str, stored: pa.ChunkedArray[Any], *, first: bool) -> float:
    rank = identity_rank(name)
    texts, wrong = as_texts(stored)
    if texts.null_count or wrong.any() or len(texts.unique()) < len(texts):
        return 0
    if not _is_whole(stored):
        coded = pa.types.is_string(stored.type) and _are_codes(texts)
        return 2.0 * rank + first if coded else 0
    numbers = np.sort(as_whole_numbers(stored)[0])
    through = bool(np.all(np.diff(numbers) == 1)) and numbers[0] in (0, 1)
    return 2.0 * rank + 2.0 * through + (first and not is_money(name))


def _is_whole(stored: pa.ChunkedArray[Any]) -> bool:
    return not pa.types.is_temporal(stored.type) and not as_whole_numbers(stored)[2].any()


def _are_codes(texts: pa.ChunkedArray[Any]) -> bool:
    """Whether texts look like contract numbers: a digit in each, no blank, and no decimal mark between digits alone."""
    return all(_CODE.fullmatch(text.strip()) for text in texts.slice(0, _ROWS_OF_CODES).to_pylist())


def _ranked(read: Drafted, target: NDArray[np.float64]) -> ColumnDraft:
    """The draft, with a question if the column alone ranks the outcome too well."""
    column = read.draft
    if column.kind is ColumnKind.DATE or column.left_out:
        return column
    known = np.flatnonzero(~np.isnan(target))
    rows = known[:: -(-len(known) // _ROWS_RANKED)]
    outcome, values = target[rows].astype(np.int64), read.values[rows]
    if min(outcome[::2].sum(), (1 - outcome[::2]).sum(), outcome[1::2].sum(), (1 - outcome[1::2]).sum()) < FEWEST_ROWS:
        return column
    levels = column.kind is ColumnKind.CATEGORY
    area = level_ranking(values, outcome, 0.95) if levels else ranking(values, outcome, 0.95)
    if area.value <= LEAK_AUC:
        return column
    return column.ask(f"alone ranks the outcome with AUC {area.value:.3f}: was it known at the decision?")


def _named(column: ColumnDraft, values: NDArray[Any]) -> ColumnDraft:
    """The draft, with a question if it is named like an identity and has too many values for anything else."""
    many = column.most_levels or (column.kind is ColumnKind.COUNT and len(np.unique(values)) > MOST_LEVELS)
    if identity_rank(column.name) < _CERTAIN or not many:
        return column
    return column.ask("named like an identity: is it somebody's number? if so, leave it out")


def _protected(column: ColumnDraft, values: NDArray[Any]) -> ColumnDraft:
    """The draft with the protected attributes that its name states; it errs to the side of protection."""
    attributes = protected_by_name(column.name)
    if not attributes or column.left_out:
        return column
    if "age" in attributes and column.high is not None and _per_year(values) == 1:
        column = replace(column, high=float(_OLDEST))
    if column.kind is ColumnKind.DATE:
        return replace(column, left_out=True).ask(
            f"states {attributes[0]} as a date, which cannot be protected: give the age in years instead?"
        )
    if len(attributes) > 1:
        column = column.ask(f"it states {' and '.join(attributes)}: which levels are which group of each?")
    return replace(_grouped(column, values, attributes), protected=_protections(column, values, attributes))


def _grouped(column: ColumnDraft, values: NDArray[Any], attributes: tuple[str, ...]) -> ColumnDraft:
    if column.kind is ColumnKind.CATEGORY:
        many = len(column.levels) > _MOST_PLAIN_LEVELS or column.most_levels is not None
        return column.ask("each level is a group of its own: join some?") if many else column
    if column.kind is not ColumnKind.FLAG and _per_year(values) is None:
        return column.ask(f"is it {attributes[0]} in years? state its bands, as docs/reference/portfolio.md says")
    return column


def _protections(
    column: ColumnDraft, values: NDArray[Any], attributes: tuple[str, ...]
) -> Mapping[str, Mapping[str, Any]]:
    if column.kind in (ColumnKind.CATEGORY, ColumnKind.FLAG):
        return {attribute: {} for attribute in attributes}
    per_year, bands = _per_year(values), [25, 40, 62]
    if per_year is None:
        known = values[~np.isnan(values)]
        middle = float(np.median(known)) if known.size else 0.0
        return {attribute: {"bands": [float(f"{middle:.3g}")]} for attribute in attributes}
    unit = {} if per_year == 1 else {"bands": bands, "elderly": 62, "per_unit": per_year}
    return {attribute: unit if attribute == "age" else {"bands": bands} for attribute in attributes}


def _per_year(values: NDArray[np.float64]) -> float | None:
    """What divides ages into years: 1, days before or after a day; None if they are neither."""
    known = values[~np.isnan(values)]
    if not known.size:
        return None
    low, high = float(known.min()), float(known.max())
    if low >= 0 and high <= _OLDEST:
        return 1.0
    for sign in (-1, 1):
        days = sorted((sign * low, sign * high))
        if days[0] >= 15 * _DAYS_PER_YEAR and days[1] <= _OLDEST * _DAYS_PER_YEAR:
            return sign * _DAYS_PER_YEAR
    return None


def _decided_on(columns: list[ColumnDraft]) -> str | None:
    days = [
        column.name
        for column in columns
        if column.kind is ColumnKind.DATE and not column.left_out and is_decision_day(column.name)
    ]
    return days[0] if len(days) == 1 else None
