"""What can go wrong in a comparison."""

from __future__ import annotations

from jobs.errors import ProjectError


class BenchmarkError(ProjectError):
    """A comparison that cannot be made, or one whose figures could not be trusted."""
