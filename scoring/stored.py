"""Models in the BentoML model store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .artefact import Artefact
from .errors import ArtefactError
from .scorer import Scorer


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A verified scorer and the version it carries, `<registered version>-<first 12 digits of the digest>`."""

    name: str
    version: str
    scorer: Scorer


def load_stored(tag: str, *, threads: int = 1) -> StoredModel:
    """The model of this tag; inside a Bento, the version the Bento was built with.

    ArtefactError unless it is there and has the digest that it was imported with.
    """
    import bentoml
    from bentoml.exceptions import NotFound

    try:
        model = bentoml.models.get(tag)
    except NotFound:
        raise ArtefactError(f"{tag}: not in the BentoML model store; `python -m training run` puts it there") from None
    except ValueError:
        raise ArtefactError(f"{tag!r}: not a tag; one is written name or name:version") from None
    except OSError as error:
        raise ArtefactError(f"the BentoML model store cannot be read: {error.filename}: {error.strerror}") from None
    name, version, digest = model.tag.name, str(model.tag.version), str(model.info.metadata.get("digest"))
    if not version.endswith(f"-{digest[:12]}"):
        raise ArtefactError(f"{name}:{version}: the version does not carry the digest {digest[:12]}")
    return StoredModel(name, version, Scorer(Artefact.read(Path(model.path), digest=digest), threads=threads))
