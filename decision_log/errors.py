"""Errors of the decision log.

RecordError
  * SourceError        decisions, outcomes or groups cannot be read
      * SegmentError     a file in a decision log is no segment, or is damaged
      * UnmatchedError   no decision has an outcome
  * DecisionLogError   the decision log cannot be kept as the settings ask
      * NotRecordedError a decision could not be recorded
      * CheckpointError  a checkpoint cannot be made, kept or trusted
      * AnswersError     kept answers cannot be read or written
  * OverrideError      a decision cannot be overridden
      * UnknownDecisionError  it is not recorded
      * StandsError           it is what the person decided
"""

from __future__ import annotations

from jobs.errors import ProjectError


class RecordError(ProjectError):
    """The base of every error in this package."""


class SourceError(RecordError):
    """Decisions, outcomes or protected attributes cannot be read or do not fit together."""


class SegmentError(SourceError):
    """A file in a decision log is no segment, or is damaged; the message says how, without its name or its values."""


class UnmatchedError(SourceError):
    """No decision that could be measured has an outcome."""


class DecisionLogError(RecordError):
    """The decision log cannot be kept, or a line cannot be written."""


class NotRecordedError(DecisionLogError):
    """A decision could not be recorded, so the caller must not get it."""


class CheckpointError(DecisionLogError):
    """A checkpoint cannot be made or kept, or is not signed by the key in question."""


class AnswersError(DecisionLogError):
    """Kept answers cannot be read or written."""


class OverrideError(RecordError):
    """A person cannot override a decision."""


class UnknownDecisionError(OverrideError):
    """No such decision is recorded."""


class StandsError(OverrideError):
    """The decision that stands is the one that the person made."""
