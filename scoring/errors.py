"""Errors of scoring.

ScoringError
  * ArtefactError      an artefact that is incomplete, damaged or not the one that was asked for
  * OutputError        a batch job cannot write where it was told to
"""

from __future__ import annotations


class ScoringError(Exception):
    """What every error of this package derives from."""


class ArtefactError(ScoringError):
    """The artefact is incomplete, damaged, or not the one that was asked for."""


class OutputError(ScoringError):
    """The output exists already or cannot be written."""
