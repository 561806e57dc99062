"""Errors of training.

TrainingError
  * DataError          the data does not pass validation
  * CalibrationError   a model has learned nothing that could be calibrated
  * StudyError         a hyper-parameter search cannot begin or go on
  * TrackingError      no tracking server or database where it was said to be
  * GateError          a model misses a gate and is not promoted
  * RegistryError      the registry does not hold what was asked for
  * ParityError        two forms of one model do not score alike
"""

from __future__ import annotations


class TrainingError(Exception):
    """What every error of this package derives from."""


class DataError(TrainingError):
    """The data does not pass validation; the message lists every violation, never a value."""


class CalibrationError(TrainingError):
    """The margins of rows that the model never saw do not rise with their default rate."""


class StudyError(TrainingError):
    """The trials of a study cannot be kept, or would not compare with those that are there."""


class TrackingError(TrainingError):
    """The tracking server or database cannot be used."""


class GateError(TrainingError):
    """A model misses a gate; the message has every figure."""


class RegistryError(TrainingError):
    """The model registry or the model store does not hold what was asked for."""


class ParityError(TrainingError):
    """Two forms of one model do not give the same probabilities, bit for bit."""
