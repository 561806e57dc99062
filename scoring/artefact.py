"""The artefact: one directory that holds everything a decision depends on, under one digest. No pickle.

manifest.json      format, the SHA-256 of every other file, and the digest over those
model.txt          LightGBM text
features.json      fitted feature state
calibration.json   margin to PD
policy.json        cut-off, refer band, risk levels, costs, points, what must be known for an approval
reference.json     drift reference: bins of every feature and of the PD, counted where the model was fitted
conformance.json   drawn applications, and what the code that trained the model made of them
metrics.json       how good it is, with intervals
lineage.json       data fingerprint, code version, MLflow run, settings
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from features import FeatureState, SchemaError, read_regular

from .calibration import Calibration
from .completeness import CompletenessRule
from .conformance import Conformance
from .errors import ArtefactError
from .policy import DecisionPolicy, PointScale
from .reference import DriftReference

_FORMAT = 3
_MANIFEST = "manifest.json"
_FILE_BYTES = 1 << 30


@dataclass(frozen=True)
class Artefact:
    """A model with all that turns its margins into decisions, and where it comes from."""

    model_text: str
    features: FeatureState
    calibration: Calibration
    policy: DecisionPolicy
    reference: DriftReference
    metrics: Mapping[str, Any]
    lineage: Mapping[str, Any]
    conformance: Conformance = field(default_factory=Conformance)

    @cached_property
    def _files(self) -> dict[str, bytes]:
        return {
            "model.txt": self.model_text.encode(),
            "features.json": _json(self.features.to_dict()),
            "calibration.json": _json(asdict(self.calibration)),
            "policy.json": _json(asdict(self.policy)),
            "reference.json": _json(self.reference.to_dict()),
            "conformance.json": _json(self.conformance.to_dict()),
            "metrics.json": _json(self.metrics),
            "lineage.json": _json(self.lineage),
        }

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the digests of all files, hexadecimal."""
        return _digest(self._files)

    def write(self, directory: Path) -> None:
        """Write the artefact into `directory`, which must not exist yet."""
        directory.mkdir(parents=True)
        for name, content in self._files.items():
            (directory / name).write_bytes(content)
        (directory / _MANIFEST).write_bytes(_manifest(self._files))

    @classmethod
    def read(cls, directory: Path, *, digest: str | None = None) -> Self:
        """The artefact in `directory`.

        ArtefactError if a file is missing or was altered, or if `digest` is given and another was written.
        """
        contents = _verified(directory, digest)
        try:
            artefact = cls(
                model_text=contents["model.txt"].decode(),
                features=FeatureState.from_dict(json.loads(contents["features.json"])),
                calibration=Calibration(**json.loads(contents["calibration.json"])),
                policy=_policy(json.loads(contents["policy.json"])),
                reference=DriftReference.from_dict(json.loads(contents["reference.json"])),
                conformance=Conformance.from_dict(json.loads(contents["conformance.json"])),
                metrics=json.loads(contents["metrics.json"]),
                lineage=json.loads(contents["lineage.json"]),
            )
        except SchemaError as error:
            raise ArtefactError(f"{directory}: {error}") from None
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
            raise ArtefactError(f"{directory}: not an artefact that this code reads ({type(error).__name__})") from None
        if artefact._files != contents:
            raise ArtefactError(f"{directory}: not an artefact that this code writes")
        if not artefact.conformance:
            raise ArtefactError(f"{directory}: holds no conformance rows")
        return artefact


_NAMES = (
    "model.txt", "features.json", "calibration.json", "policy.json", "reference.json", "conformance.json",
    "metrics.json", "lineage.json",
)  # fmt: skip


def _policy(values: dict[str, Any]) -> DecisionPolicy:
    bounds, scale = tuple(values.pop("level_bounds")), PointScale(**values.pop("scale"))
    completeness = _completeness(values.pop("completeness"))
    return DecisionPolicy(**values, level_bounds=bounds, scale=scale, completeness=completeness)


def _completeness(values: dict[str, Any] | None) -> CompletenessRule | None:
    return None if values is None else CompletenessRule(**values | {"known": tuple(values["known"])})


def _verified(directory: Path, digest: str | None) -> dict[str, bytes]:
    """The files, after the manifest was found to be, byte for byte, the one that belongs to them."""
    try:
        manifest = read_regular(directory / _MANIFEST, _FILE_BYTES)
        _require_format(manifest, directory)
        contents = {name: read_regular(directory / name, _FILE_BYTES) for name in _NAMES}
    except OSError as error:
        raise ArtefactError(f"{directory}: not a complete artefact ({type(error).__name__})") from None
    if manifest != _manifest(contents):
        raise ArtefactError(f"{directory}: {_difference(manifest, contents)}")
    written = _digest(contents)
    if digest is not None and written != digest:
        raise ArtefactError(f"{directory}: digest {written[:12]} where {digest[:12]} was asked for")
    return contents


def _require_format(manifest: bytes, directory: Path) -> None:
    """ArtefactError for an artefact of another format, which may have other files; a broken manifest is told later."""
    try:
        written = json.loads(manifest)["format"]
    except (KeyError, RecursionError, TypeError, ValueError):
        return
    if written != _FORMAT:
        raise ArtefactError(f"{directory}: artefact format {written}, this code reads {_FORMAT}: train the model again")


def _difference(manifest: bytes, contents: Mapping[str, bytes]) -> str:
    """What is wrong with a manifest that does not belong to the files."""
    try:
        declared = json.loads(manifest)
        sums = declared["files"]
        altered = [name for name in sorted(contents) if sums.get(name) != _sha256(contents[name])]
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        return f"not a complete artefact ({type(error).__name__} in {_MANIFEST})"
    return f"altered since it was written: {', '.join(altered) or _MANIFEST}"


def _manifest(contents: Mapping[str, bytes]) -> bytes:
    sums = {name: _sha256(content) for name, content in contents.items()}
    return _json({"format": _FORMAT, "digest": _digest(contents), "files": sums})


def _json(value: Any) -> bytes:
    """Canonical JSON: the same bytes again after it was read."""
    plain = json.loads(json.dumps(value, allow_nan=False))
    return json.dumps(plain, indent=1, sort_keys=True).encode() + b"\n"


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _digest(contents: Mapping[str, bytes]) -> str:
    return _sha256("".join(f"{_sha256(contents[name])}  {name}\n" for name in sorted(contents)).encode())
