"""The artefact is one directory with everything that a decision depends on, under one digest. It holds no pickle.

manifest.json      format, the SHA-256 of every other file, and the digest over those
model.txt          LightGBM text
portfolio.json     the lender's declaration of columns, features and outcome
features.json      fitted feature state
calibration.json   margin to PD
policy.json        cut-off, refer band, risk levels, costs, points, what must be known for an approval
reference.json     drift reference: bins of every feature and of the PD, counted on the training rows
reasons.json       what contributions are measured against; absent where the portfolio declares no reasons
conformance.json   drawn applications, and the results that the training code computed for them
metrics.json       quality of the model, with intervals
lineage.json       data fingerprint, code version, MLflow run, settings, and each revision of the policy

A revision keeps the model and changes its policy. It names the digests of all files of the artefact before, so that the
chain back to the training proves itself: nothing of the earlier artefacts is needed.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from operator import methodcaller
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from features.errors import SchemaError
from features.portfolio import Portfolio, portfolio_of
from features.transformer import Columns, FeatureState
from jobs.settings import read_regular
from scoring.drift_reference import DriftReference
from scoring.errors import ArtefactError, ConformanceError
from scoring.model import Calibration
from scoring.policy import CompletenessRule, DecisionPolicy, ExploreRule, PointScale
from scoring.reasons import ReasonReference

if TYPE_CHECKING:
    from scoring.scorer import Scorer


_FORMAT, _WITHOUT_REASONS = 5, 4
"""The formats that this code reads and writes: an artefact that gives no reasons has the older one."""
_MANIFEST, _PORTFOLIO, _REASONS = "manifest.json", "portfolio.json", "reasons.json"

# A damaged store must not fill the memory of a service.
_FILE_BYTES = 1 << 30
_NAMES = (
    "model.txt", "portfolio.json", "features.json", "calibration.json", "policy.json", "reference.json",
    "conformance.json", "metrics.json", "lineage.json",
)  # fmt: skip

_KEPT = ("model.txt", "portfolio.json", "features.json", "calibration.json", "reference.json")
"""What no revision of the policy changes: by these files applicants have the PDs that they had."""
_LINEAGE, _REVISIONS = "lineage.json", "revisions"

_PD_TOLERANCE = 1e-12
"""NumPy's exp differs in the last bits between processors; every other operation is exact everywhere (IEEE 754)."""


@dataclass(frozen=True, slots=True)
class Conformance:
    """Drawn applications and their results, in plain tuples, which compare and become JSON as they are.

    Attributes
    ----------
    numbers, levels : the raw columns of each row, as in `Columns`; None is missing
    features : SHA-256 of each feature's float64 values in all rows
    margin, probability, decision, risk_level, points, missing : one for every row, as in `Scores`
    """

    numbers: tuple[tuple[float | None, ...], ...] = ()
    levels: tuple[tuple[str | None, ...], ...] = ()
    features: tuple[tuple[str, str], ...] = ()
    margin: tuple[float, ...] = ()
    probability: tuple[float, ...] = ()
    decision: tuple[str, ...] = ()
    risk_level: tuple[str, ...] = ()
    points: tuple[int, ...] = ()
    missing: tuple[int, ...] = ()
    reasons: tuple[tuple[str, ...], ...] = ()
    """Their codes; empty where the artefact gives none."""

    def __len__(self) -> int:
        return len(self.numbers)

    @classmethod
    def of(cls, columns: Columns, scorer: Scorer) -> Self:
        """The applications with the results that a scorer computes for them."""
        matrix = scorer.transformer.transform(columns)
        scores = scorer.score_matrix(matrix)
        return cls(
            numbers=tuple(tuple(None if math.isnan(x) else x for x in row) for row in columns.numbers.tolist()),
            levels=tuple(map(tuple, columns.levels.tolist())),
            features=tuple((name, _rows_sha256(matrix[:, i])) for i, name in enumerate(scorer.features)),
            margin=tuple(scores.margin.tolist()),
            probability=tuple(scores.probability.tolist()),
            decision=tuple(map(str, scores.decision)),
            risk_level=tuple(map(str, scores.risk_level)),
            points=tuple(scores.points.tolist()),
            missing=tuple(scores.missing.tolist()),
            reasons=tuple(tuple(reason.code for reason in one) for one in scorer.reasons(matrix)),
        )

    def check(self, scorer: Scorer) -> None:
        """Raise ConformanceError, which names the first difference, unless the scorer computes the same results."""
        found = Conformance.of(self._columns(scorer.artefact.portfolio), scorer)
        differing = [
            name for (name, kept), (_, made) in zip(self.features, found.features, strict=True) if kept != made
        ]
        if differing:
            raise ConformanceError(f"this code computes another {differing[0]} than the code that trained the model")
        for part in ("margin", "decision", "risk_level", "points", "missing", "reasons"):
            if getattr(self, part) != getattr(found, part):
                raise ConformanceError(f"this code gives another {part} than the code that trained the model")
        if not np.allclose(found.probability, self.probability, rtol=_PD_TOLERANCE, atol=0.0):
            raise ConformanceError("this code gives another probability than the code that trained the model")

    def _columns(self, portfolio: Portfolio) -> Columns:
        schema = portfolio.schema
        numbers = np.array(self.numbers, dtype=np.float64)  # None becomes NaN
        levels = np.empty((len(self), len(schema.categorical)), dtype=object)
        for row, values in enumerate(self.levels):
            levels[row] = values
        return Columns(numbers.reshape(len(self), len(schema.numeric)), levels, portfolio)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form; `from_dict` is its inverse. Without reasons it has no such key, as in format 4."""
        parts = {one.name: getattr(self, one.name) for one in fields(self)}  # asdict would copy every value
        return {name: part for name, part in parts.items() if part or name != "reasons"}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The rows that `to_dict` wrote."""
        nested = {
            name: tuple(map(tuple, values.get(name, ()))) for name in ("numbers", "levels", "features", "reasons")
        }
        return cls(**{name: tuple(column) for name, column in values.items()} | nested)


@dataclass(frozen=True)
class Artefact:
    """A model with its features, calibration, policy, drift reference, metrics and lineage."""

    model_text: str
    features: FeatureState
    calibration: Calibration
    policy: DecisionPolicy
    reference: DriftReference
    metrics: Mapping[str, Any]
    lineage: Mapping[str, Any]
    reasons: ReasonReference | None = None
    conformance: Conformance = field(default_factory=Conformance)

    @property
    def portfolio(self) -> Portfolio:
        """The declaration of the applications that the model scores."""
        return self.features.portfolio

    @cached_property
    def _files(self) -> dict[str, bytes]:
        return {name: part if isinstance(part, bytes) else _json(part) for name, part in self._parts().items()}

    def _parts(self) -> dict[str, bytes | Mapping[str, Any]]:
        """The bytes of each file, or the values that become its JSON."""
        return {
            "model.txt": self.model_text.encode(),
            _PORTFOLIO: self.portfolio.content,
            "features.json": self.features.to_dict(),
            "calibration.json": asdict(self.calibration),
            "policy.json": _stated(self.policy),
            "reference.json": self.reference.to_dict(),
            **({} if self.reasons is None else {_REASONS: self.reasons.to_dict()}),
            "conformance.json": self.conformance.to_dict(),
            "metrics.json": self.metrics,
            _LINEAGE: self.lineage,
        }

    def _would_write(self, contents: Mapping[str, bytes]) -> bool:
        """Whether its files have these values."""
        # Compared without indentation: json writes that in Python, which takes five times as long.
        parts = self._parts()
        return parts.keys() == contents.keys() and all(
            contents[name] == part if isinstance(part, bytes) else _unindented(contents[name]) == _compact(part)
            for name, part in parts.items()
        )

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the digests of all files, hexadecimal."""
        return _digest(self._files)

    @cached_property
    def policy_version(self) -> str:
        """The version of the decision policy: the first 16 hexadecimal digits of the SHA-256 of policy.json."""
        return _policy_version(self._files)

    @property
    def revises(self) -> str | None:
        """The digest of the artefact whose policy this one revises; None for one that was trained."""
        revisions = self.lineage.get(_REVISIONS)
        return revisions[-1]["revises"] if revisions else None

    def revised(
        self,
        policy: DecisionPolicy,
        *,
        reasons: ReasonReference | None,
        metrics: Mapping[str, Any],
        run_id: str,
        stated: Mapping[str, Any],
    ) -> Self:
        """The same model under another policy, without conformance rows.

        `stated` is what is said of the revision: by its side stand the digests of this artefact and of its files.
        """
        files = {name: _sha256(content) for name, content in self._files.items()}
        made = {**stated, "revises": self.digest, "files": files, "run_id": self.lineage.get("run_id")}
        lineage = {**self.lineage, "run_id": run_id, _REVISIONS: [*self.lineage.get(_REVISIONS, ()), made]}
        return replace(
            self, policy=policy, reasons=reasons, metrics=metrics, lineage=lineage, conformance=Conformance()
        )

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
            portfolio = portfolio_of(contents[_PORTFOLIO])
            features = FeatureState.from_dict(json.loads(contents["features.json"]), portfolio)
            artefact = cls(
                model_text=contents["model.txt"].decode(),
                features=features,
                calibration=Calibration(**json.loads(contents["calibration.json"])),
                policy=_policy(json.loads(contents["policy.json"])),
                reference=DriftReference.from_dict(json.loads(contents["reference.json"]), roll_ups=features.rolled_up),
                reasons=ReasonReference.from_dict(json.loads(contents[_REASONS])) if _REASONS in contents else None,
                conformance=Conformance.from_dict(json.loads(contents["conformance.json"])),
                metrics=json.loads(contents["metrics.json"]),
                lineage=json.loads(contents["lineage.json"]),
            )
        except SchemaError as error:
            raise ArtefactError(f"{directory}: {error}") from None
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
            raise ArtefactError(f"{directory}: not an artefact that this code reads ({type(error).__name__})") from None
        # A key that this code ignores would be lost at the next write, under another digest.
        if not artefact._would_write(contents):
            raise ArtefactError(f"{directory}: not an artefact that this code writes")
        # The bytes of the files need not be kept, nor written anew, for what a service asks of them.
        vars(artefact).update(digest=_digest(contents), policy_version=_policy_version(contents))
        if not artefact.conformance:
            raise ArtefactError(f"{directory}: holds no conformance rows")
        if not _is_chain(artefact.lineage, contents):
            raise ArtefactError(f"{directory}: is no revision of the artefact that it names")
        return artefact


def read_portfolio(directory: Path) -> Portfolio:
    """The portfolio of the artefact in `directory`, without reading the model; ArtefactError as in `Artefact.read`."""
    contents = _verified(directory, None)
    try:
        return portfolio_of(contents[_PORTFOLIO])
    except (SchemaError, ValueError) as error:
        raise ArtefactError(f"{directory}: {_PORTFOLIO} is no portfolio ({type(error).__name__})") from None


def _is_chain(lineage: Mapping[str, Any], contents: Mapping[str, bytes]) -> bool:
    """Whether each revision has the digest that it names, and left the model and the revisions before as they were."""
    try:
        revisions = lineage.get(_REVISIONS, [])
        kept = [_sha256(contents[name]) for name in _KEPT]
        return all(
            one["revises"] == _digest_of(one["files"])
            and [one["files"][name] for name in _KEPT] == kept
            and one["files"][_LINEAGE] == _sha256(_json(_lineage_before(lineage, revisions[:place], one["run_id"])))
            for place, one in enumerate(revisions)
        )
    except (AttributeError, KeyError, TypeError):
        return False


def _lineage_before(lineage: Mapping[str, Any], revisions: Sequence[Any], run_id: str | None) -> dict[str, Any]:
    """The lineage of the artefact that had only these revisions, logged by this run."""
    others = {name: value for name, value in lineage.items() if name != _REVISIONS}
    return {**others, "run_id": run_id, **({_REVISIONS: list(revisions)} if revisions else {})}


def _rows_sha256(values: NDArray[np.float64]) -> str:
    canonical = np.where(np.isnan(values), np.nan, values) + 0.0  # one bit pattern for NaN, and one for zero
    # Little-endian everywhere, so that the digest is the same on any machine.
    return hashlib.sha256(canonical.astype("<f8").tobytes()).hexdigest()


def _stated(policy: DecisionPolicy) -> dict[str, Any]:
    """The values of policy.json; those from before there was exploration keep their bytes."""
    return {name: value for name, value in asdict(policy).items() if (name, value) != ("explore", None)}


def _policy(values: dict[str, Any]) -> DecisionPolicy:
    explore = values.pop("explore", None)
    bounds, scale = tuple(values.pop("level_bounds")), PointScale(**values.pop("scale"))
    completeness = _completeness(values.pop("completeness"))
    return DecisionPolicy(
        **values,
        level_bounds=bounds,
        scale=scale,
        completeness=completeness,
        explore=None if explore is None else ExploreRule(**explore),
    )


def _completeness(values: dict[str, Any] | None) -> CompletenessRule | None:
    return None if values is None else CompletenessRule(**values | {"known": tuple(values["known"])})


def _verified(directory: Path, digest: str | None) -> dict[str, bytes]:
    """The contents of the files; ArtefactError unless their manifest is, byte for byte, the right one."""
    try:
        manifest = read_regular(directory / _MANIFEST, _FILE_BYTES)
        written = _format(manifest, directory)
        names = [*_NAMES, *([_REASONS] if written == _FORMAT else [])]
        contents = {name: read_regular(directory / name, _FILE_BYTES) for name in names}
    except OSError as error:
        raise ArtefactError(f"{directory}: not a complete artefact ({type(error).__name__})") from None
    if manifest != _manifest(contents):
        raise ArtefactError(f"{directory}: {_difference(manifest, contents)}")
    found = _digest(contents)
    if digest is not None and found != digest:
        raise ArtefactError(f"{directory}: digest {found[:12]} where {digest[:12]} was asked for")
    return contents


def _format(manifest: bytes, directory: Path) -> int:
    """The format; ArtefactError for one not read here. A broken manifest passes: `_difference` reports it."""
    try:
        written = json.loads(manifest)["format"]
    except (KeyError, RecursionError, TypeError, ValueError):
        return _WITHOUT_REASONS
    if written not in (_FORMAT, _WITHOUT_REASONS):
        read = f"{_WITHOUT_REASONS} and {_FORMAT}"
        raise ArtefactError(f"{directory}: artefact format {written}, this code reads {read}: train the model again")
    return int(written)


def _difference(manifest: bytes, contents: Mapping[str, bytes]) -> str:
    """The difference between a manifest and the files, in words."""
    try:
        declared = json.loads(manifest)
        sums = declared["files"]
        altered = [name for name in sorted(contents) if sums.get(name) != _sha256(contents[name])]
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        return f"not a complete artefact ({type(error).__name__} in {_MANIFEST})"
    return f"altered since it was written: {', '.join(altered) or _MANIFEST}"


def _manifest(contents: Mapping[str, bytes]) -> bytes:
    sums = {name: _sha256(content) for name, content in contents.items()}
    written = _FORMAT if _REASONS in contents else _WITHOUT_REASONS
    return _json({"format": written, "digest": _digest(contents), "files": sums})


def _policy_version(contents: Mapping[str, bytes]) -> str:
    return _sha256(contents["policy.json"])[:16]


def _json(value: Any) -> bytes:
    """Canonical JSON: the same bytes again after it was read."""
    return json.dumps(_plain(value), indent=1, sort_keys=True).encode() + b"\n"


def _plain(value: Any) -> Any:
    # NaN is not JSON (RFC 8259), and strict readers in other languages refuse it.
    return json.loads(json.dumps(value, allow_nan=False))


def _compact(value: Any) -> bytes:
    """Canonical JSON without line breaks and indentation, up to its end; all names in it must be texts."""
    return json.dumps(value, sort_keys=True, separators=(",", ": "), allow_nan=False).encode() + b"\n"


_WITHOUT_INDENTATION = methodcaller("lstrip", b" ")


def _unindented(content: bytes) -> bytes:
    # No text of JSON holds a line break as it is.
    return b"".join(map(_WITHOUT_INDENTATION, content.split(b"\n"))) + content[-1:]


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _digest(contents: Mapping[str, bytes]) -> str:
    return _digest_of({name: _sha256(content) for name, content in contents.items()})


def _digest_of(sums: Mapping[str, str]) -> str:
    # The text is what `sha256sum` prints for the files in order, so that a shell can check the digest.
    return _sha256("".join(f"{sums[name]}  {name}\n" for name in sorted(sums)).encode())
