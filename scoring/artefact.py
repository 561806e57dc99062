"""The artefact: one directory that holds everything a decision depends on, under one digest. No pickle.

manifest.json      format, the SHA-256 of every other file, and the digest over those
model.txt          LightGBM text
features.json      fitted feature state
calibration.json   margin to PD
policy.json        cut-off, refer band, risk levels, costs, points
metrics.json       how good it is, with intervals
lineage.json       data fingerprint, code version, MLflow run, settings
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from features import FeatureState, SchemaError

from .calibration import Calibration
from .errors import ArtefactError
from .policy import DecisionPolicy, PointScale

_FORMAT = 1
_MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Artefact:
    """A model with all that turns its margins into decisions, and where it comes from."""

    model_text: str
    features: FeatureState
    calibration: Calibration
    policy: DecisionPolicy
    metrics: Mapping[str, Any]
    lineage: Mapping[str, Any]

    @cached_property
    def _files(self) -> dict[str, bytes]:
        return {
            "model.txt": self.model_text.encode(),
            "features.json": _json(self.features.to_dict()),
            "calibration.json": _json(asdict(self.calibration)),
            "policy.json": _json(asdict(self.policy)),
            "metrics.json": _json(self.metrics),
            "lineage.json": _json(self.lineage),
        }

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the digests of all files, hexadecimal."""
        return _digest({name: _sha256(content) for name, content in self._files.items()})

    def write(self, directory: Path) -> None:
        """Write the artefact into `directory`, which must not exist yet."""
        directory.mkdir(parents=True)
        for name, content in self._files.items():
            (directory / name).write_bytes(content)
        sums = {name: _sha256(content) for name, content in self._files.items()}
        (directory / _MANIFEST).write_bytes(_json({"format": _FORMAT, "digest": self.digest, "files": sums}))

    @classmethod
    def read(cls, directory: Path, *, digest: str | None = None) -> Self:
        """The artefact in `directory`.

        ArtefactError if a file is missing, altered or unknown, or if `digest` is given and another was written.
        """
        contents = _verified(directory, digest)
        try:
            return cls(
                model_text=contents["model.txt"].decode(),
                features=FeatureState.from_dict(json.loads(contents["features.json"])),
                calibration=Calibration(**json.loads(contents["calibration.json"])),
                policy=_policy(json.loads(contents["policy.json"])),
                metrics=json.loads(contents["metrics.json"]),
                lineage=json.loads(contents["lineage.json"]),
            )
        except SchemaError as error:
            raise ArtefactError(f"{directory}: {error}") from None


def _policy(values: dict[str, Any]) -> DecisionPolicy:
    bounds, scale = tuple(values.pop("level_bounds")), PointScale(**values.pop("scale"))
    return DecisionPolicy(**values, level_bounds=bounds, scale=scale)


def _verified(directory: Path, digest: str | None) -> dict[str, bytes]:
    try:
        manifest = json.loads((directory / _MANIFEST).read_bytes())
        contents = {name: (directory / name).read_bytes() for name in manifest["files"]}
    except (OSError, ValueError, KeyError) as error:
        raise ArtefactError(f"{directory}: not a complete artefact ({type(error).__name__})") from None
    if manifest["format"] != _FORMAT:
        raise ArtefactError(f"{directory}: artefact format {manifest['format']}, this code reads {_FORMAT}")
    altered = [name for name, content in contents.items() if _sha256(content) != manifest["files"][name]]
    if altered or _digest(manifest["files"]) != manifest["digest"]:
        raise ArtefactError(f"{directory}: altered since it was written: {', '.join(altered) or _MANIFEST}")
    if digest is not None and manifest["digest"] != digest:
        raise ArtefactError(f"{directory}: digest {manifest['digest'][:12]} where {digest[:12]} was asked for")
    return contents


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True, allow_nan=False).encode() + b"\n"


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _digest(sums: Mapping[str, str]) -> str:
    return _sha256("".join(f"{sums[name]}  {name}\n" for name in sorted(sums)).encode())
