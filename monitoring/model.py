"""The model that decisions are held against."""

from __future__ import annotations

import os
from pathlib import Path

from scoring import Artefact, Scorer, Trust, load_stored


def load_model(name: str, *, threads: int = 1) -> Scorer:
    """The model in the artefact directory `name` or, if there is none, with this tag in the BentoML model store.

    ArtefactError unless it is whole and, where the environment says what is trusted, is that.
    """
    directory = Path(name)
    if directory.is_dir():
        trust, artefact = Trust.of(os.environ), Artefact.read(directory)
        trust.require(directory, artefact.digest)
        return Scorer(artefact, threads=threads)
    return load_stored(name, threads=threads).scorer
