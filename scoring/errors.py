"""Errors that the scoring package raises.

ScoringError
  * ArtefactError      an artefact is incomplete, damaged or not the requested one
    - ConformanceError this code computes something else than the code that trained the model
    - SignatureError   a model is not the trusted one, or a key cannot be used
  * BatchError         a batch job has no applications to score, or cannot tell whose they are
  * ExportError        a model cannot be written in a database's language
"""

from __future__ import annotations

from jobs.errors import ProjectError


class ScoringError(ProjectError):
    """Base of every error of this package."""


class ArtefactError(ScoringError):
    """The artefact is incomplete, damaged or not the requested one."""


class ConformanceError(ArtefactError):
    """This code computes something else than the code that trained the model."""


class SignatureError(ArtefactError):
    """A model is not the trusted one, or a key cannot be used to sign or to verify it."""


class BatchError(ScoringError):
    """A batch job has no applications to score, or cannot tell whose they are."""


class ExportError(ScoringError):
    """A model cannot be written in the language of a database."""
