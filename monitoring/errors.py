"""Errors of monitoring.

MonitoringError
  * WindowError        a window that cannot be judged: too few rows, or of another model
  * ReportError        a report that cannot be written
  * CheckError         a user's own check that is not there
  * NotificationError  nobody could be told of an alarm
"""

from __future__ import annotations

from jobs.errors import ProjectError


class MonitoringError(ProjectError):
    """What every error of this package derives from."""


class WindowError(MonitoringError):
    """The window is too small or belongs to another model."""


class CheckError(MonitoringError):
    """A check that the settings name is not there."""


class NotificationError(MonitoringError):
    """Alertmanager cannot be reached, or refuses; the message never holds its address, which may hold a password."""
