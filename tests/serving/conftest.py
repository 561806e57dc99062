"""The small model of the scoring tests, which decides here."""

from __future__ import annotations

from tests.scoring.conftest import applications, artefact, labelled_csv, model_matrix, scorer, small

__all__ = ["applications", "artefact", "labelled_csv", "model_matrix", "scorer", "small"]
