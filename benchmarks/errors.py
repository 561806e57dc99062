"""What can go wrong in a comparison."""

from __future__ import annotations


class BenchmarkError(Exception):
    """A comparison that cannot be made, or one whose figures could not be trusted."""
