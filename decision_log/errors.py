"""Errors of the decision log.

RecordError
  * SourceError        decisions, outcomes or groups that cannot be read
      * SegmentError     a file in the folders of a decision log that is no segment of one, or a damaged one
  * DecisionLogError   a decision log that cannot be kept as it was asked for
      * NotRecordedError a decision that could not be recorded
"""

from __future__ import annotations


class RecordError(Exception):
    """What every error of this package derives from."""


class SourceError(RecordError):
    """Decisions, outcomes or protected attributes cannot be read or do not fit together."""


class SegmentError(SourceError):
    """A file in a decision log is no segment, or is damaged; the message says how, without its name or its values."""


class DecisionLogError(RecordError):
    """The decision log cannot be kept, or a line of it not be written."""


class NotRecordedError(DecisionLogError):
    """A decision could not be recorded and must therefore not be told."""
