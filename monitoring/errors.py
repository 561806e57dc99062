"""Errors of monitoring.

MonitoringError
  * WindowError      a window that cannot be judged: too few rows, or of another model
  * SourceError      decisions, outcomes or groups that cannot be read
      * SegmentError   a file in the folders of a decision log that is no segment of one, or a damaged one
  * ReportError      a report that cannot be written
  * DecisionLogError a decision log that cannot be kept as it was asked for
      * NotRecordedError a decision that could not be recorded
  * CheckError       a user's own check that is not there
  * NotificationError  nobody could be told of an alarm
"""

from __future__ import annotations


class MonitoringError(Exception):
    """What every error of this package derives from."""


class WindowError(MonitoringError):
    """The window is too small or belongs to another model."""


class SourceError(MonitoringError):
    """Decisions, outcomes or protected attributes cannot be read or do not fit together."""


class SegmentError(SourceError):
    """A file in a decision log is no segment, or is damaged; the message says how, without its name or its values."""


class ReportError(MonitoringError):
    """A report cannot be written."""


class DecisionLogError(MonitoringError):
    """The decision log cannot be kept, or a line of it not be written."""


class CheckError(MonitoringError):
    """A check that the settings name is not there."""


class NotRecordedError(DecisionLogError):
    """A decision could not be recorded and must therefore not be told."""


class NotificationError(MonitoringError):
    """The receiver cannot be reached, or refuses; the message never holds its address, which may be a secret."""
