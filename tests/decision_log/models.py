"""Models in the tests' BentoML store, whose decisions are recorded and replayed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import bentoml

from scoring.artefact import Artefact
from scoring.store import Statement, StoredModel, load_stored


@contextmanager
def kept(name: str, artefact: Artefact, *, version: str = "1") -> Iterator[StoredModel]:
    """A model that is in the store during the block, as an import puts it there; it is the latest of its name."""
    tag = f"{name}:{Statement(name, version, artefact.digest, None).label}"
    with bentoml.models.create(tag, metadata={"digest": artefact.digest}) as created:
        artefact.write(Path(created.path) / "artefact")
        for file in (Path(created.path) / "artefact").iterdir():
            file.rename(Path(created.path) / file.name)
        (Path(created.path) / "artefact").rmdir()
    try:
        yield load_stored(tag)
    finally:
        bentoml.models.delete(tag)
