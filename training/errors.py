"""Training raises these errors.

TrainingError
  * DataError          the data does not pass validation
  * CalibrationError   a model ranks the outcome no better than chance
  * StudyError         a hyper-parameter search cannot begin or go on
  * TrackingError      no tracking server or database where it was said to be
  * GateError          a model misses a gate and is not promoted
  * RegistryError      the registry or the store lacks or refuses a model
  * FleetError         a fit on several machines cannot begin, or one of them was lost
  * PlanError          the plan of a live test cannot be made, or was changed
  * ParityError        two forms of one model do not score alike
"""

from __future__ import annotations

from typing import ClassVar

from jobs.errors import ProjectError


class TrainingError(ProjectError):
    """The base class of every error of this package."""


class DataError(TrainingError):
    """The data does not pass validation; the message lists every violation, never a value."""


class CalibrationError(TrainingError):
    """The margins of rows that the model never saw do not rise with their default rate."""


class StudyError(TrainingError):
    """A study's database fails, or its trials belong to other data or settings."""


class TrackingError(TrainingError):
    """The tracking server or database cannot be used."""


class GateError(TrainingError):
    """A model misses a gate; the message names the gates."""

    exit_code: ClassVar[int] = 3


class RegistryError(TrainingError):
    """The model registry or the model store lacks a model, or holds an unusable one."""


class FleetError(TrainingError):
    """A fit on several machines cannot begin, or one of them was lost."""


class PlanError(TrainingError):
    """The plan of a live test contradicts itself, was changed, or does not fit what was recorded."""


class ParityError(TrainingError):
    """Two forms of one model do not give the same probabilities, bit for bit."""
