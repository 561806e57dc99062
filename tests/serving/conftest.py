"""The small model of the scoring tests, which decides here, and services whose model reads histories."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.scoring.conftest import applications, artefact, labelled_csv, model_matrix, scorer, small
from tests.serving.histories import NOW, Services, fill

__all__ = ["applications", "artefact", "labelled_csv", "model_matrix", "scorer", "small"]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Services]:
    """Makes services whose model reads histories."""
    made = Services(tmp_path)
    yield made
    made.close()


@pytest.fixture
def store(tmp_path: Path) -> str:
    """A feature store that was filled ten days ago."""
    address = f"sqlite:///{tmp_path}/features.sqlite"
    fill(address, tmp_path, NOW - timedelta(days=10))
    return address
