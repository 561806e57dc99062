"""What can go wrong on the way to where the service runs."""

from __future__ import annotations

from jobs.errors import ProjectError


class DeployError(ProjectError):
    """A step that cannot be made, or whose outcome is not what it must be."""
