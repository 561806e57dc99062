"""The model that decisions are held against."""

from __future__ import annotations

from pathlib import Path

from scoring import Artefact, Scorer, load_stored


def load_model(name: str, *, threads: int = 1) -> Scorer:
    """The model in the artefact directory `name` or, if there is none, with this tag in the BentoML model store."""
    directory = Path(name)
    if directory.is_dir():
        return Scorer(Artefact.read(directory), threads=threads)
    return load_stored(name, threads=threads).scorer
