"""The judgement as lines of text, and as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from .judgement import Judgement
from .shift import Level, Shift

_SHOWN = 12
_NAMED = 6


def judgement_lines(judgement: Judgement) -> Iterator[str]:
    """What a person reads: the verdict, the culprits, the score and the features that moved most."""
    yield f"{judgement.rows:,} applications against {judgement.reference_rows:,} of the reference"
    if judgement.alarm:
        yield f"ALARM: {'; '.join(judgement.reasons)}"
    else:
        yield "no alarm"
    yield f"without drift, at most {judgement.false_alarm_rate:.1%} of windows raise one"
    for place, culprit in enumerate(judgement.culprits[:_NAMED], start=1):
        others = [name for name in culprit.features if name != culprit.name]
        moved = f"; moves {_listed(others)}" if others else ""
        yield f"  {place}. {culprit.name}: materiality x importance {culprit.weight:.4f}{moved}"
    if len(judgement.culprits) > _NAMED:
        yield f"  and {len(judgement.culprits) - _NAMED} more columns"
    if partial := unjudged(judgement):
        yield f"shown, and not judged by their values, since no whole days or weeks are known to be covered: {partial}"
    yield _HEADER
    yield _row(judgement.score)
    yield from map(_row, ordered(judgement)[:_SHOWN])


def unjudged(judgement: Judgement) -> str:
    """The features that follow a calendar and are judged by their missing values and unknown categories only."""
    return ", ".join(shift.name for shift in judgement.features if shift.partial)


def ordered(judgement: Judgement) -> list[Shift]:
    """The features, those that drifted most first."""
    return sorted(judgement.features, key=lambda shift: (-shift.level, -shift.excess))


def judgement_json(judgement: Judgement) -> dict[str, Any]:
    """JSON-ready form; what a category has not is null."""
    shifts = {"score": _plain(judgement.score), "features": [_plain(shift) for shift in judgement.features]}
    return {"alarm": judgement.alarm, **asdict(judgement), **shifts}


_TITLES = ("", "drift", "PSI", "beyond", "p", "KS", "JS", "missing", "change", "gain")

_HEADER = "{:34} {:>8} {:>8} {:>8} {:>8} {:>6} {:>6} {:>8} {:>8} {:>6}".format(*_TITLES)


def _row(shift: Shift) -> str:
    ks = "" if math.isnan(shift.ks) else f"{shift.ks:.3f}"
    drift = "" if shift.level is Level.STABLE else shift.level.name.lower()
    return (
        f"{shift.name:34} {drift:>8} {shift.psi:8.4f} {shift.excess:8.4f} {shift.adjusted:8.1e} {ks:>6} "
        f"{shift.jensen_shannon:6.3f} {shift.missing:8.1%} {shift.missing_shift:+8.1%} {shift.importance:6.1%}"
    )


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more}"


def _plain(shift: Shift) -> dict[str, Any]:
    values = asdict(shift)
    return {**values, "ks": None if math.isnan(shift.ks) else shift.ks, "level": shift.level.name.lower()}
