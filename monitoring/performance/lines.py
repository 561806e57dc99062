"""The performance as lines of text, and as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from .estimated import ASSUMPTIONS
from .performance import Performance
from .realised import Part, Realised

ACCEPTED_ONLY = (
    "outcomes are known of hardly any declined application: these figures are of the accepted ones alone, among whom "
    "a model discriminates worse than among all applicants"
)


def performance_lines(performance: Performance) -> Iterator[str]:
    """What a person reads: the verdict, realised figures with intervals, and the estimate with its assumptions."""
    yield f"ALARM: {'; '.join(performance.reasons)}" if performance.alarm else "no alarm"
    yield f"floor of the AUC {performance.floor:g}; intervals {performance.confidence:.0%}"
    if performance.realised:
        yield from _realised(performance.realised)
        yield from (f"  {name}: {count:,}" for name, count in performance.counts.items())
    estimated = performance.estimated
    yield f"estimated from the PDs of {estimated.rows:,} decisions alone (CBPE), assuming that"
    yield from (f"  - {assumption}" for assumption in ASSUMPTIONS)
    yield f"  {'auc':24} {estimated.auc}"
    yield f"  {'default_rate':24} {estimated.default_rate}"


def _realised(realised: Realised) -> Iterator[str]:
    yield f"{realised.rows:,} decisions with a known outcome, {realised.defaults:,} defaults"
    yield from (f"  {name:24} {estimate}" for name, estimate in realised.estimates.items())
    yield from _parts("risk level", realised.levels)
    yield from _parts("month", realised.months)
    for each in realised.coverage:
        yield f"  outcomes known of {each.decision}: {each.known:,} of {each.rows:,}"
    if realised.accepted_only:
        yield f"  ACCEPT-ONLY BIAS: {ACCEPTED_ONLY}; their PDs imply an AUC of {realised.expected_auc:.4f}"


def _parts(title: str, parts: Sequence[Part]) -> Iterator[str]:
    yield f"  {title:12} {'rows':>11} {'mean PD':>8} {'default rate':>26} {'AUC':>26}"
    for part in parts:
        yield (
            f"  {part.name:12} {part.rows:11,} {part.mean_probability:8.4f} {part.default_rate!s:>26} {part.auc!s:>26}"
        )


def performance_json(performance: Performance) -> dict[str, Any]:
    """JSON-ready form; what cannot be measured is null."""
    values = {"alarm": performance.alarm, **asdict(performance), "assumptions": list(ASSUMPTIONS)}
    plain: dict[str, Any] = _without_nan(values)
    return plain


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
