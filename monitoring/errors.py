"""Errors of monitoring.

MonitoringError
  * WindowError      a window that cannot be judged: too few rows, or of another model
  * SourceError      decisions, outcomes or groups that cannot be read
  * ReportError      a report that cannot be written
"""

from __future__ import annotations


class MonitoringError(Exception):
    """What every error of this package derives from."""


class WindowError(MonitoringError):
    """The window is too small or belongs to another model."""


class SourceError(MonitoringError):
    """Decisions, outcomes or protected attributes cannot be read or do not fit together."""


class ReportError(MonitoringError):
    """A report cannot be written."""
