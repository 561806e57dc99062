"""Models in the BentoML model store."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .artefact import Artefact
from .errors import ArtefactError
from .scorer import Scorer
from .signing import REPORT, Statement, Trust, report_digest

if TYPE_CHECKING:
    import bentoml

_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A verified scorer and the version it carries, `<registered version>-<first 32 digits of the digest>`."""

    name: str
    version: str
    scorer: Scorer


def load_stored(tag: str, *, threads: int = 1, environment: Mapping[str, str] = os.environ) -> StoredModel:
    """The model of this tag; inside a Bento, the version the Bento was built with.

    ArtefactError unless it is there, has the digest and the report that it was imported with, and is the one that the
    environment trusts; see `signing`.
    """
    trust = Trust.of(environment)
    model = _found(tag)
    name, version, folder = model.tag.name, str(model.tag.version), Path(model.path)
    digest, report = str(model.info.metadata.get("digest")), model.info.metadata.get("report")
    registered = version.rpartition("-")[0]
    if not _DIGEST.fullmatch(digest) or version != Statement(name, registered, digest, None).label:
        raise ArtefactError(f"{name}:{version}: the version does not carry the digest; import the model again")
    artefact = Artefact.read(folder, digest=digest)
    if report_digest(folder) != report:
        raise ArtefactError(f"{name}:{version}: {REPORT} is not the one that the model was imported with")
    trust.require(folder, digest, named=(name, version))
    return StoredModel(name, version, Scorer(artefact, threads=threads))


def _found(tag: str) -> bentoml.Model:
    import bentoml
    from bentoml.exceptions import NotFound

    if not _is_tag(tag):
        raise ArtefactError(f"{tag!r}: not a tag; one is written name or name:version")
    try:
        return bentoml.models.get(tag)
    except NotFound:
        raise ArtefactError(f"{tag}: not in the BentoML model store; `python -m training run` puts it there") from None
    except OSError as error:
        raise ArtefactError(f"the BentoML model store cannot be read: {error.filename}: {error.strerror}") from None
    except Exception as error:  # noqa: BLE001 - YAML that is none of BentoML's makes it raise whatever it meets first
        reason = type(error).__name__
        raise ArtefactError(f"{tag}: its model.yaml in the BentoML store cannot be read ({reason})") from None


def _is_tag(text: str) -> bool:
    import bentoml
    from bentoml.exceptions import BentoMLException

    try:
        bentoml.Tag.from_str(text)
    except (BentoMLException, ValueError):
        return False
    return True
