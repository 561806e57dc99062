"""The small model of the scoring tests, which is timed here."""

from __future__ import annotations

from tests.scoring.conftest import applications, artefact, labelled_csv, postgresql, scorer, small

__all__ = ["applications", "artefact", "labelled_csv", "postgresql", "scorer", "small"]
