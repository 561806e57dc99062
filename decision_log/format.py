"""The format of the decision log: a header, then one JSON line for each scored application.

The header of a segment is {"format", "model", "model_version", "digest", "features"}, the features in the order of the
vector. A line is

request_id     of the request, the caller's where it sent one
index          position of the application in its request; 0 for a single one
time           RFC 3339, UTC, microseconds
route          of the request
model, model_version, digest
client         keyed hash of the client id (BLAKE2b, 16 bytes, hexadecimal), null where there is none
margin         raw log-odds of default
probability    calibrated PD
prediction     1 where the PD reaches the cut-off
decision       approve, refer or decline
risk_level     LOW, MEDIUM, HIGH or CRITICAL
missing        how many of the model's input columns are missing
unknown        how many columns have a level that the model does not know
withheld       whether an approval was withheld because too little is known
vector         the row of the model matrix: little-endian float64, base64

A closed segment holds the same in Parquet: `client` is 16 bytes, `time` a timestamp, and the vector is one column for
each feature, `feature_` and its name. Neither holds a client id or raw text.
"""

from __future__ import annotations

import os
import re
import stat
from binascii import a2b_base64, b2a_base64
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from json import dumps, loads
from math import isfinite
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from decision_log.errors import DecisionLogError
from scoring.policy import DecisionKind, RiskLevel
from scoring.scorer import Scores
from scoring.store import StoredModel

if TYPE_CHECKING:
    import pyarrow as pa


FORMAT = 1
FEATURE_PREFIX = "feature_"
CLIENT_BYTES = 16

_VECTOR = np.dtype("<f8")
_MODEL = ("model", "model_version", "digest")
_LINE = {
    *("request_id", "index", "time", "route", *_MODEL, "client"),
    *("margin", "probability", "prediction", "decision", "risk_level", "vector"),
}
ADDED_FIELDS = frozenset({"missing", "unknown", "withheld"})
"""Fields that lines and segments of an older version lack."""
# Closed segments store the index in 32 bits and the numbers of columns in 16: a larger one would not fit.
_INDEXES, _COLUMNS = 1 << 31, 1 << 15
_CLIENT = re.compile(rf"[0-9a-f]{{{2 * CLIENT_BYTES}}}")
_DECISIONS, _LEVELS = frozenset(map(str, DecisionKind)), frozenset(map(str, RiskLevel))


class Caller(NamedTuple):
    """The request, the client and the place of one scored application."""

    request_id: str
    client_id: str | None
    position: int = 0
    """Of the application in its request."""


@dataclass(frozen=True, slots=True)
class Header:
    """The model that made all decisions of a segment, and its features."""

    model: str
    model_version: str
    digest: str
    features: tuple[str, ...]

    @classmethod
    def of(cls, model: StoredModel) -> Self:
        """The header of the decisions of a model."""
        return cls(model.name, model.version, model.scorer.artefact.digest, model.scorer.features)

    def line(self) -> bytes:
        """The header as it is written."""
        return dumps({"format": FORMAT, **asdict(self)}, separators=(",", ":")).encode() + b"\n"

    @classmethod
    def parse(cls, line: bytes) -> Self:
        """Read a header line; ValueError if it is none."""
        values = decoded(line)
        if values is None or values.pop("format", None) != FORMAT or set(values) != set(cls.__slots__):
            raise ValueError("not a header of this format")
        features = values.pop("features")
        texts = [*values.values(), *(features if isinstance(features, list) else [None])]
        if not features or not all(map(_is_text, texts)) or len(set(features)) < len(features):
            raise ValueError("not a header of this format")
        return cls(**values, features=tuple(features))


class ClientHash:
    """Hashes client ids with a secret key, so that equal ids have equal hashes."""

    # Ids are few enough to try them all, so a plain hash would not hide them. Without the key nobody can. Records stay
    # personal data (GDPR, article 4(5): pseudonymised), and the key must be kept apart from the log.

    def __init__(self, key: bytes) -> None:
        self._keyed = blake2b(key=key, digest_size=CLIENT_BYTES)

    def __call__(self, client_id: str) -> str:
        """The hash, hexadecimal."""
        return self.digest(client_id).hex()

    def digest(self, client_id: str) -> bytes:
        """The hash, 16 bytes."""
        hashed = self._keyed.copy()
        hashed.update(client_id.encode())
        return hashed.digest()


class LineFormat:
    """Formats the decisions of one model as lines; without `client_hash` every client is null."""

    def __init__(self, header: Header, client_hash: ClientHash | None) -> None:
        self._model = ",".join(f'"{name}":{dumps(getattr(header, name))}' for name in _MODEL)
        self._hash = client_hash
        self._second = (-1.0, "")

    def lines(
        self, route: str, callers: Sequence[Caller], matrix: NDArray[np.float64], scores: Scores, time: float
    ) -> bytes:
        """One line for each row of the model matrix, shape (n, features), all scored at `time`, seconds since 1970."""
        same = f'"time":"{self._written(time)}","route":"{route}",{self._model}'
        rows = matrix.astype(_VECTOR, copy=False).tobytes()
        size = matrix.shape[1] * _VECTOR.itemsize
        lines: list[str] = []
        at = 0
        # Lines are put together by hand, since this runs before every answer. No text needs escapes: the service takes
        # request ids of letters, digits and `_.:-` only, and routes are its own. repr() writes the shortest text that
        # reads back to the same bits, which a replay compares.
        for (
            request_id,
            client_id,
            position,
        ), margin, probability, prediction, decision, risk_level, missing, unknown, withheld in zip(
            callers,
            scores.margin.tolist(),
            scores.probability.tolist(),
            scores.prediction.tolist(),
            scores.decision.tolist(),
            scores.risk_level.tolist(),
            scores.missing.tolist(),
            scores.unknown.tolist(),
            scores.withheld.tolist(),
            strict=True,
        ):
            client = "null" if client_id is None or self._hash is None else f'"{self._hash(client_id)}"'
            vector = b2a_base64(rows[at : at + size], newline=False).decode("ascii")
            lines.append(
                f'{{"request_id":"{request_id}","index":{position},{same},"client":{client},"margin":{margin!r},'
                f'"probability":{probability!r},"prediction":{prediction},"decision":"{decision}",'
                f'"risk_level":"{risk_level}","missing":{missing},"unknown":{len(unknown)},'
                f'"withheld":{"true" if withheld else "false"},"vector":"{vector}"}}\n'
            )
            at += size
        return "".join(lines).encode("ascii")

    def _written(self, time: float) -> str:
        """The time as RFC 3339 with microseconds; the part up to the second is formatted once a second."""
        second, part = divmod(time, 1)
        known = self._second
        if known[0] != second:
            self._second = known = second, datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        return f"{known[1]}.{int(part * 1e6):06}Z"


def decoded(line: bytes) -> dict[str, Any] | None:
    """The JSON object of a line; None if the line is no JSON object."""
    try:
        values = loads(line)
    except (ValueError, RecursionError):  # deep nesting ends json.loads with a RecursionError
        return None
    return values if isinstance(values, dict) else None


def is_decision(line: Mapping[str, Any], header: Header) -> bool:
    """Whether a decoded line is a decision of the model that the header names, in this format."""
    if not line.keys() >= _LINE or any(line[name] != getattr(header, name) for name in _MODEL):
        return False
    # type() and not isinstance(), to which True is an int: what passes here goes into typed Parquet columns
    whole = all(type(line[name]) is int for name in ("index", "prediction"))
    numbers = all(type(line[name]) is float and isfinite(line[name]) for name in ("margin", "probability"))
    texts = all(_is_text(line[name]) for name in ("request_id", "time", "route", "decision", "risk_level", "vector"))
    return (
        whole
        and numbers
        and texts
        and 0 <= line["index"] < _INDEXES
        and line["prediction"] in (0, 1)
        and 0 <= line["probability"] <= 1
        and line["decision"] in _DECISIONS
        and line["risk_level"] in _LEVELS
        and all(type(line.get(name)) in (int, NoneType) for name in ("missing", "unknown"))
        and all(0 <= (line.get(name) or 0) < _COLUMNS for name in ("missing", "unknown"))
        and isinstance(line.get("withheld"), bool | None)
        and _is_moment(line["time"])
        and (line["client"] is None or _is_client(line["client"]))
        and _holds_vector(line["vector"], len(header.features))
    )


def _is_text(value: object) -> bool:
    # commands print these texts: no control character may reach a terminal
    return isinstance(value, str) and value.isprintable()


def _is_client(value: object) -> bool:
    return isinstance(value, str) and _CLIENT.fullmatch(value) is not None


def _is_moment(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def _holds_vector(text: str, features: int) -> bool:
    try:
        return len(a2b_base64(text, strict_mode=True)) == features * _VECTOR.itemsize
    except ValueError:
        return False


def vectors(lines: Sequence[dict[str, Any]]) -> NDArray[np.float64]:
    """The model matrix of decoded lines, shape (n, features)."""
    return np.frombuffer(b"".join(a2b_base64(line["vector"]) for line in lines), _VECTOR).reshape(len(lines), -1)


def schema(features: Sequence[str]) -> pa.Schema:
    """The columns of a closed segment of a model with these features."""
    import pyarrow as pa  # the serving image does not have it, and the service imports this module

    text = pa.dictionary(pa.int32(), pa.string())
    return pa.schema(
        [
            ("request_id", pa.string()),
            ("index", pa.int32()),
            ("time", pa.timestamp("us", tz="UTC")),
            ("route", text),
            ("model", text),
            ("model_version", text),
            ("digest", text),
            ("client", pa.binary(CLIENT_BYTES)),
            ("margin", pa.float64()),
            ("probability", pa.float64()),
            ("prediction", pa.int8()),
            ("decision", text),
            ("risk_level", text),
            ("missing", pa.int16()),
            ("unknown", pa.int16()),
            ("withheld", pa.bool_()),
            *((f"{FEATURE_PREFIX}{name}", pa.float64()) for name in features),
        ]
    )


# A file is better: whoever may read the environment of the process sees the variable's value there.
KEY_VARIABLE = "DECISION_LOG_KEY"
KEY_FILE_VARIABLE = "DECISION_LOG_KEY_FILE"
_KEY = re.compile(r"[0-9a-fA-F]{64}")
_FEWEST_DIGITS = 8
"""Different digits in a key. A random key has fewer with a probability of about 1e-19; a placeholder has fewer."""
_MOST_BYTES = 1024


def client_hash(environment: Mapping[str, str]) -> ClientHash:
    """The hash with the key of this environment; DecisionLogError if the key is missing or a placeholder."""
    found = stated_hash(environment)
    if found is None:
        raise _refused(f"{KEY_VARIABLE} or the file that {KEY_FILE_VARIABLE} names")
    return found


def stated_hash(environment: Mapping[str, str]) -> ClientHash | None:
    """The hash with the key of this environment; None if neither variable is set."""
    key, file = environment.get(KEY_VARIABLE), environment.get(KEY_FILE_VARIABLE)
    if key and file:
        raise DecisionLogError(f"{KEY_VARIABLE} and {KEY_FILE_VARIABLE} are both set: set one of them")
    if file:
        return _hash(_read(Path(file)), f"{KEY_FILE_VARIABLE}: the content of {file}")
    return _hash(key, KEY_VARIABLE) if key else None


def _hash(key: str, place: str) -> ClientHash:
    if not _KEY.fullmatch(key) or len(set(key.lower())) < _FEWEST_DIGITS:
        raise _refused(place)
    return ClientHash(bytes.fromhex(key))


def _refused(place: str) -> DecisionLogError:
    return DecisionLogError(
        f"the decision log hashes client ids: {place} must be 64 random hexadecimal digits, as `openssl rand"
        " -hex 32` prints them (or set recording.log.hash_clients to false)"
    )


def _read(path: Path) -> str:
    """The text of the key file without blanks around it; DecisionLogError for anything but a regular file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            mode = os.fstat(descriptor).st_mode
            content = file.read(_MOST_BYTES) if stat.S_ISREG(mode) else None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a path"
        raise DecisionLogError(f"{KEY_FILE_VARIABLE}: {path} cannot be read ({reason})") from None
    if content is None:
        raise DecisionLogError(f"{KEY_FILE_VARIABLE}: {path} is not a regular file")
    # Only writing is refused: Kubernetes mounts secrets readable by all in the pod unless a mode is set
    if mode & stat.S_IWOTH:
        raise DecisionLogError(
            f"{KEY_FILE_VARIABLE}: everybody may change {path}: allow its owner alone, as by chmod 600"
        )
    return content.decode("ascii", errors="replace").strip()
