"""What a key is good for."""

from __future__ import annotations

from enum import StrEnum


class Scope(StrEnum):
    """A group of routes. None contains another: a key has each scope that it was given, and no more."""

    PREDICT = "predict"
    """Scoring, and what is known of the model that scores."""
    EXPLAIN = "explain"
    """Reserved for explanations of decisions."""
    ADMIN = "admin"
    """Everything else: metrics, drift counts, documents, and whatever route has no scope of its own."""
