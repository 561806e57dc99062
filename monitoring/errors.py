"""Errors of monitoring.

MonitoringError
  * WindowError        a window cannot be judged: it has too few rows, or is of another model
  * CheckError         a user's own check cannot be found
  * NotificationError  no Alertmanager took an alarm
"""

from __future__ import annotations

from jobs.errors import ProjectError


class MonitoringError(ProjectError):
    """The base of every error in this package."""


class WindowError(MonitoringError):
    """The window is too small or belongs to another model."""


class CheckError(MonitoringError):
    """The settings name a check that cannot be found."""


class NotificationError(MonitoringError):
    """Alertmanager cannot be reached, or refuses; the message never holds its address, which may hold a password."""
