"""The scorer where others run it: a wheel in an environment of its own, and a small model in a folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from deploy.wheel import build_wheel
from scoring.artefact import Artefact
from tests.engines.books import Book
from tests.scoring.conftest import applications, artefact, labelled_csv, scorer, small
from tests.server import ROOT

__all__ = ["applications", "artefact", "labelled_csv", "scorer", "small"]

UV = Path(sys.executable).with_name("uv")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the checkout."""
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def executor(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the wheel, what it depends on, and nothing else."""
    folder = tmp_path_factory.mktemp("executor") / "venv"
    python = folder / "bin" / "python"
    subprocess.run([UV, "venv", "--quiet", "--python", sys.executable, folder], check=True)
    lock = ROOT / "requirements" / "serving.txt"
    subprocess.run([UV, "pip", "install", "--quiet", "--constraint", lock, "--python", python, wheel], check=True)
    return python


@pytest.fixture(scope="session")
def folder(artefact: Artefact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artefact in a folder, named as the BentoML store names it."""
    placed = tmp_path_factory.mktemp("models") / "small" / f"1-{artefact.digest[:32]}"
    artefact.write(placed)
    return placed


@pytest.fixture(scope="session")
def book(tmp_path_factory: pytest.TempPathFactory) -> Book:
    """Generated applications, as many as the run is to score."""
    return Book.written(tmp_path_factory.mktemp("applications"))
