"""A user's own check of a drift window."""

from __future__ import annotations

from monitoring.windows import CompleteWindow


def rows(window: CompleteWindow) -> float:
    """How many applications there are."""
    return float(window.rows)
