"""The screening as lines of text, and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from monitoring.measures import Estimate

from .screening import SIGNAL, GroupRates, Screening


def screening_lines(screenings: Sequence[Screening]) -> Iterator[str]:
    """What a person reads: counts, rates with intervals, and what stands out."""
    yield f"fairness of approvals: {SIGNAL}"
    for screening in screenings:
        yield f"{screening.attribute}{_gaps(screening)}"
        yield from map(_line, screening.groups)
        yield from (f"  SIGNAL {signal}" for signal in screening.signals)


def screening_json(screenings: Sequence[Screening]) -> dict[str, Any]:
    """JSON-ready form."""
    return {"meaning": SIGNAL, "attributes": [asdict(screening) for screening in screenings]}


def _line(group: GroupRates) -> str:
    return (
        f"  {group.name:20} {group.rows:9,} approved {_short(group.selection)}; impact ratio {_short(group.impact)}; "
        f"outcomes {group.known:,}: TPR {_short(group.true_positive)}, FPR {_short(group.false_positive)}, mean PD "
        f"{'-' if group.mean_probability is None else f'{group.mean_probability:.4f}'}, "
        f"default rate {_short(group.default_rate)}"
    )


def _gaps(screening: Screening) -> str:
    """What needs outcomes, where there are any."""
    gaps = (screening.true_positive_gap, screening.false_positive_gap)
    if gaps == (None, None):
        return ""
    return f": true and false positive rates differ by {' and '.join('-' if g is None else f'{g:.3f}' for g in gaps)}"


def _short(estimate: Estimate | None) -> str:
    return "-" if estimate is None else f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"
