"""Performance: what became of the decisions, and what can be said before it is known."""

from __future__ import annotations

from .estimated import ASSUMPTIONS, Estimated, estimate
from .lines import ACCEPTED_ONLY, performance_json, performance_lines
from .matching import Matched, match
from .outcomes import Outcomes, read_outcomes
from .performance import Performance, perform
from .realised import Coverage, Part, Realised, realise

__all__ = [
    "ACCEPTED_ONLY",
    "ASSUMPTIONS",
    "Coverage",
    "Estimated",
    "Matched",
    "Outcomes",
    "Part",
    "Performance",
    "Realised",
    "estimate",
    "match",
    "perform",
    "performance_json",
    "performance_lines",
    "read_outcomes",
    "realise",
]
