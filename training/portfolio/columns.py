"""Drafts the declaration of one column from its values: kind, bounds, levels, codes for missing, and what is in doubt.

What is taken from the values is levels of several rows, rounded bounds and codes. Nothing else of an applicant is kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from features.request import LONGEST_LEVEL
from features.schema import MOST_LEVELS, ColumnKind, day_text, is_missing_word
from features.values import as_days
from training.portfolio.table_schema import FieldHint
from training.portfolio.values import FAR, ColumnFacts, bounds, is_far, is_place_code, numeric_codes, stated_texts

_WHOLE = re.compile(r"\s*[+-]?(0|[1-9]\d{0,17})(\.0*)?\s*", re.ASCII)
FEWEST_ROWS = 5
"""Rows that a level or a code must have to be written: a rarer one could be a name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnDraft:
    """What a draft declares of one column, and its questions; `left_out` columns are named and not declared."""

    name: str
    kind: ColumnKind
    low: float | str | None = None
    high: float | str | None = None
    required: bool = False
    missing: tuple[float | str, ...] = ()
    levels: tuple[str | int, ...] = ()
    coded: bool = False
    most_levels: int | None = None
    protected: Mapping[str, Mapping[str, Any]] | None = None
    description: str = ""
    unit: str = ""
    questions: tuple[str, ...] = ()
    left_out: bool = False

    def ask(self, *questions: str) -> ColumnDraft:
        """Return the draft with further questions."""
        return replace(self, questions=(*self.questions, *questions))


@dataclass(frozen=True, slots=True, eq=False)
class Drafted:
    """A column's draft and its values.

    Attributes
    ----------
    values : float64, NaN where missing, or the levels of a category, None where missing; shape (n,)
    """

    draft: ColumnDraft
    values: NDArray[Any]


def draft_column(
    name: str, stored: pa.ChunkedArray[Any], *, decimal: str = ".", hint: FieldHint | None = None
) -> Drafted:
    """Draft one column; what `hint` states is taken as stated."""
    if not _is_readable(stored.type):
        draft = ColumnDraft(name=name, kind=ColumnKind.CATEGORY, left_out=True)
        return Drafted(draft.ask("left out: its stored type is not read; write it as text?"), np.empty(0))
    facts = ColumnFacts.of(name, stored, decimal)
    stated = None if hint is None else hint.kind
    kind, questions = facts.kind() if stated is None else (stated, tuple(facts.contradictions(stated)))
    drafted = _drafted(facts, kind, () if hint is None else hint.codes())
    draft = replace(drafted.draft, questions=(*questions, *drafted.draft.questions))
    return replace(drafted, draft=draft if hint is None else _with_hint(draft, hint))


def _drafted(facts: ColumnFacts, kind: ColumnKind, stated: tuple[str, ...]) -> Drafted:
    if kind is ColumnKind.CATEGORY:
        return _category(facts, stated)
    if kind is ColumnKind.DATE:
        return _date(facts)
    return _number(facts, kind, stated)


def _category(facts: ColumnFacts, stated: tuple[str, ...]) -> Drafted:
    texts, _ = stated_texts(facts.stored)
    coded = any(facts.counts) and all(_WHOLE.fullmatch(one) for one in facts.counts if one not in facts.codes)
    missing = tuple(dict.fromkeys((*facts.codes, *stated)))
    usual = {text: _usual(text) if coded and text not in facts.codes else text for text in facts.counts}
    counts: dict[str, int] = {}
    for text, rows in facts.counts.items():
        if text.strip() not in missing:
            counts[usual[text]] = counts.get(usual[text], 0) + rows
    values = np.array([None if text is None else usual[text] for text in texts.to_pylist()], dtype=object)
    values[np.isin(values, missing)] = None
    draft = ColumnDraft(name=facts.name, kind=ColumnKind.CATEGORY, missing=missing, coded=coded)
    return Drafted(_with_levels(draft, counts), values)


def _with_levels(draft: ColumnDraft, counts: Mapping[str, int]) -> ColumnDraft:
    """The draft with the levels that may be written, and what is in doubt about them."""
    draft = draft.ask(*_level_doubts(counts))
    rows = sum(counts.values())
    if len(counts) > MOST_LEVELS:
        if len(counts) > rows / 2 and not is_place_code(draft.name):
            return replace(draft, left_out=True).ask("left out: most rows have a text of their own; are they names?")
        said = f"{len(counts):,} levels: the commonest {MOST_LEVELS} become known; are they more than names?"
        return replace(draft, most_levels=MOST_LEVELS).ask(said)
    levels = sorted(level for level, held in counts.items() if held >= FEWEST_ROWS)
    if draft.coded:
        return replace(draft, levels=tuple(sorted(map(int, levels))))
    return replace(draft, levels=tuple(levels))


def _level_doubts(counts: Mapping[str, int]) -> Iterator[str]:
    if any(level != level.strip() for level in counts):
        yield "levels with blanks at an end: clean the file?"
    if any(len(level) > LONGEST_LEVEL for level in counts):
        yield f"texts of more than {LONGEST_LEVEL} characters are refused: shorten them, or leave the column out"
    if any(is_missing_word(level) and held >= FEWEST_ROWS for level, held in counts.items()):
        yield 'is "none" a level? without it among the levels it means missing'


def _date(facts: ColumnFacts) -> Drafted:
    days, _ = as_days(facts.stored)
    draft = ColumnDraft(name=facts.name, kind=ColumnKind.DATE).ask(*_text_doubts(facts, "date"))
    if np.isnan(days).all():
        return Drafted(draft, days)
    year = int(day_text(float(np.nanmin(days)))[:4])
    return Drafted(replace(draft, low=f"{max(year // 10 * 10, 1):04}-01-01"), days)


def _number(facts: ColumnFacts, kind: ColumnKind, stated: tuple[str, ...]) -> Drafted:
    numbers = np.where(np.isfinite(facts.numbers), facts.numbers, np.nan)
    known = numbers[~np.isnan(numbers)]
    given = {float(text) for text in stated if re.fullmatch(r"[+-]?\d+(\.\d+)?", text)}
    guessed = () if kind is ColumnKind.FLAG else numeric_codes(known, facts.name, least=FEWEST_ROWS)
    codes = tuple(sorted({*given, *guessed}))
    numbers = np.where(np.isin(numbers, codes), np.nan, numbers)
    draft = ColumnDraft(name=facts.name, kind=kind, missing=codes).ask(*_number_doubts(facts, numbers, guessed, given))
    known = numbers[~np.isnan(numbers)]
    if guessed and set(np.unique(known).tolist()) <= {0.0, 1.0}:
        draft = replace(draft, kind=ColumnKind.FLAG)
    elif kind is not ColumnKind.FLAG and known.size:
        low, high = bounds(float(known.min()), float(known.max()), whole=kind is ColumnKind.COUNT)
        draft = replace(draft, low=_finite(low), high=_finite(high))
    return Drafted(draft, numbers)


def _number_doubts(
    facts: ColumnFacts, numbers: NDArray[np.float64], guessed: tuple[float, ...], given: set[float]
) -> Iterator[str]:
    unsure = [f"{code:.12g}" for code in guessed if code not in given]
    if unsure:
        yield f"{' and '.join(unsure)} stand{'s' if len(unsure) == 1 else ''} apart: a code for missing?"
    yield from _text_doubts(facts, "number")
    if np.isinf(facts.numbers).any():
        yield "some numbers are infinite, which is refused: empty their cells"
    known = numbers[~np.isnan(numbers)]
    if known.size and is_far(known):
        yield f"the largest value is over {FAR:.0f} times the 99.9 % quantile: a wrong unit, or a typing error?"


def _with_hint(draft: ColumnDraft, hint: FieldHint) -> ColumnDraft:
    limits = hint.constraints
    numeric = draft.kind in (ColumnKind.NUMBER, ColumnKind.COUNT, ColumnKind.DATE)
    coded = draft.coded or any(isinstance(level, int) for level in hint.levels)
    return replace(
        draft,
        description=hint.description or hint.title,
        unit=hint.unit,
        low=limits.minimum if numeric and limits.minimum is not None else draft.low,
        high=limits.maximum if numeric and limits.maximum is not None else draft.high,
        required=limits.required,
        levels=hint.levels if hint.levels and draft.kind is ColumnKind.CATEGORY else draft.levels,
        coded=coded and draft.kind is ColumnKind.CATEGORY,
    )


def _is_readable(stored: pa.DataType) -> bool:
    """Whether some kind of column is read from a stored type."""
    types = pa.types
    legal = (types.is_string, types.is_integer, types.is_floating, types.is_decimal, types.is_boolean, types.is_null)
    return any(is_kind(stored) for is_kind in (*legal, types.is_date, types.is_timestamp))


def _text_doubts(facts: ColumnFacts, kind: str) -> Iterator[str]:
    rows = sum(held for text, held in facts.counts.items() if text.strip() in facts.codes)
    if rows:
        yield f"a text for missing in {rows:,} rows, which no {kind} may be: empty their cells"


def _finite(bound: float) -> float | None:
    return bound if np.isfinite(bound) else None


def _usual(text: str) -> str:
    """The usual writing of a whole number: 2 for 2.0."""
    return str(int(text.strip().partition(".")[0]))
