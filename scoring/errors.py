"""Errors of scoring.

ScoringError
  * ArtefactError      an artefact that is incomplete, damaged or not the one that was asked for
    - ConformanceError this code computes something else than the code that trained the model
    - SignatureError   it is not the one that is trusted, or the key cannot be used that says so
  * BatchError         a batch job has no applications to score, or cannot tell whose they are
"""

from __future__ import annotations

from jobs.errors import ProjectError


class ScoringError(ProjectError):
    """What every error of this package derives from."""


class ArtefactError(ScoringError):
    """The artefact is incomplete, damaged, or not the one that was asked for."""


class ConformanceError(ArtefactError):
    """This code computes something else than the code that trained the model."""


class SignatureError(ArtefactError):
    """A model is not the one that is trusted, or a key cannot be used to sign it or to verify that."""


class BatchError(ScoringError):
    """A batch job has no applications to score, or cannot tell whose they are."""
