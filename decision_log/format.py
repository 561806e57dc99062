"""The format of the decision log: a header, then one JSON line for each scored application.

The header of a segment is {"format", "model", "model_version", "digest", "features", "policy", "explained_by",
"previous"}, the features in the order of the vector. `previous` names the worker's segment before, its number of lines
and the root of their Merkle tree, so that no whole segment can vanish. A line is

salt           16 random bytes, hexadecimal: nobody guesses a line from its hash
request_id     of the request, the caller's where it sent one
index          position of the application in its request; 0 for a single one
time           RFC 3339, UTC, microseconds
route          of the request
model, model_version, digest
variant        which of the models that are served made the decision: champion, or the name of a challenger
policy         version of the decision policy
explained_by   method and reference group of the reasons, empty where the model or the service gives none
client         keyed hash of the client id (BLAKE2b, 16 bytes, hexadecimal), null where there is none
margin         raw log-odds of default
probability    calibrated PD
prediction     1 where the PD reaches the cut-off
decision       approve, refer or decline
risk_level     LOW, MEDIUM, HIGH or CRITICAL
missing        how many of the model's input columns are missing
unknown        how many columns have a level that the model does not know
withheld       whether an approval was withheld because too little is known
explored       true where the policy approves a decline at random; only there
history        where the roll-ups of the client came from, or why there are none; only where the model reads them
reasons        codes of the reasons of a decline, what raised the risk most first, with blanks between them
vector         the row of the model matrix: little-endian float64, base64

A closed segment holds the same in Parquet: `client` is 16 bytes, `time` a timestamp, and the vector is one column for
each feature, `feature_` and its name. Its columns give the bytes of each line again; `line` holds them where they do
not. Neither holds a client id or raw text. Format 1 has no salt, variant, policy and previous, and proves nothing.
"""

from __future__ import annotations

import os
import re
from binascii import a2b_base64, b2a_base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from hashlib import blake2b
from json import dumps, loads
from math import isfinite
from types import NoneType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from decision_log.errors import DecisionLogError
from features.store import HistorySource
from jobs.errors import SecretError
from jobs.settings import stated_secret
from scoring.policy import DecisionKind, RiskLevel
from scoring.scorer import Scores
from scoring.store import StoredModel

if TYPE_CHECKING:
    import pyarrow as pa


FORMAT = 2
READABLE = frozenset({1, FORMAT})
"""Formats that are read; those before 2 have no salt, and their lines prove nothing."""
CHAMPION = "champion"
APPLICATION_ONLY = "application_only"
"""The variant that decides where no history of the client is known, if the settings have one."""
FEATURE_PREFIX = "feature_"
EXPLORED = "explored"
HISTORY = "history"
CLIENT_BYTES = 16

_VECTOR = np.dtype("<f8")
_MODEL = ("model", "model_version", "digest")
_LINE = {
    *("request_id", "index", "time", "route", *_MODEL, "client"),
    *("margin", "probability", "prediction", "decision", "risk_level", "vector"),
}
ADDED_FIELDS = frozenset({
    "salt", "variant", "policy", "explained_by", "missing", "unknown", "withheld", EXPLORED, HISTORY,
    "reasons", "line",
})  # fmt: skip
"""Fields that lines and segments of an older version lack."""
# Closed segments store the index in 32 bits and the numbers of columns in 16: a larger one would not fit.
_INDEXES, _COLUMNS = 1 << 31, 1 << 15
_CLIENT = re.compile(rf"[0-9a-f]{{{2 * CLIENT_BYTES}}}")
_SALT_BYTES, _SALTS = 16, 256
_ROOT = re.compile(r"[0-9a-f]{64}")
_DECISIONS, _LEVELS = frozenset(map(str, DecisionKind)), frozenset(map(str, RiskLevel))


_SOURCES = frozenset(map(str, HistorySource))


class Caller(NamedTuple):
    """The request, the client and the place of one scored application."""

    request_id: str
    client_id: str | None
    position: int = 0
    """Of the application in its request."""
    history: HistorySource | None = None
    """Where the roll-ups of the client's history come from; None where the model reads none."""


class SegmentBefore(NamedTuple):
    """The segment that its worker wrote before: its name, its lines, and the root of their Merkle tree, hexadecimal."""

    segment: str
    size: int
    root: str


@dataclass(frozen=True, slots=True)
class Header:
    """The model that made all decisions of a segment, its features and policy, and the segment before."""

    model: str
    model_version: str
    digest: str
    features: tuple[str, ...]
    policy: str = ""
    explained_by: str = ""
    previous: SegmentBefore | None = None
    format: int = FORMAT

    @classmethod
    def of(cls, model: StoredModel, *, with_reasons: bool = True) -> Self:
        """The header of the decisions of a model, which hold its reasons or not."""
        artefact = model.scorer.artefact
        explained_by = artefact.reasons.version if with_reasons and artefact.reasons else ""
        return cls(
            model.name, model.version, artefact.digest, model.scorer.features, artefact.policy_version, explained_by
        )

    def after(self, previous: SegmentBefore | None) -> Self:
        """The same header in a segment that follows another."""
        return replace(self, previous=previous)

    def line(self) -> bytes:
        """The header as it is written."""
        values = {"format": self.format, **asdict(self)}
        if self.format == 1:
            del values["policy"], values["explained_by"], values["previous"]
        elif self.previous is not None:
            values["previous"] = self.previous._asdict()
        return dumps(values, separators=(",", ":")).encode() + b"\n"

    @classmethod
    def parse(cls, line: bytes) -> Self:
        """Read a header line; ValueError if it is none."""
        values = decoded(line)
        form = values.pop("format", None) if values else None
        if values is None or type(form) is not int or form not in READABLE:
            raise ValueError("not a header of this format")
        if form == 1:
            values = {**_ADDED_TO_HEADER, **values} if values.keys() == _FIRST_HEADER else {}
        if values.keys() != _FIRST_HEADER | _ADDED_TO_HEADER.keys():
            raise ValueError("not a header of this format")
        features = values.pop("features")
        previous = _previous(values.pop("previous"))
        texts = [*values.values(), *(features if isinstance(features, list) else [None])]
        if not features or not all(map(_is_text, texts)) or len(set(features)) < len(features):
            raise ValueError("not a header of this format")
        return cls(**values, features=tuple(features), previous=previous, format=form)


_FIRST_HEADER = {*_MODEL, "features"}
_ADDED_TO_HEADER = {"policy": "", "explained_by": "", "previous": None}


def _previous(value: object) -> SegmentBefore | None:
    if value is None:
        return None
    if not isinstance(value, dict) or value.keys() != set(SegmentBefore._fields):
        raise ValueError("not a header of this format")
    found = SegmentBefore(**value)
    texts = _is_text(found.segment) and isinstance(found.root, str) and _ROOT.fullmatch(found.root)
    if not texts or type(found.size) is not int or found.size < 0:
        raise ValueError("not a header of this format")
    return found


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
    """Formats the decisions of one model as lines; without `client_hash` every client is null.

    `variant` is the name of the model among those that are served, letters, digits and `_-` only.
    """

    def __init__(self, header: Header, client_hash: ClientHash | None, variant: str = CHAMPION) -> None:
        named = header.model, header.model_version, header.digest
        self._model = _of_model(named, variant, header.policy, header.explained_by)
        self._hash = client_hash
        self._second = (-1.0, "")
        self._salts: list[str] = []

    def lines(
        self,
        route: str,
        callers: Sequence[Caller],
        matrix: NDArray[np.float64],
        scores: Scores,
        time: float,
        explored: NDArray[np.bool_] | None = None,
    ) -> bytes:
        """One line for each row of the model matrix, shape (n, features), all scored at `time`, seconds since 1970.

        `explored` marks the declines that are approved at random.
        """
        same = f'"time":"{self._written(time)}","route":"{route}",{self._model}'
        values = (
            [self._salt() for _ in callers],
            [caller.request_id for caller in callers],
            [caller.position for caller in callers],
            [same] * len(callers),
            [self._client(caller.client_id) for caller in callers],
            scores.margin.tolist(),
            scores.probability.tolist(),
            scores.prediction.tolist(),
            scores.decision.tolist(),
            scores.risk_level.tolist(),
            scores.missing.tolist(),
            list(map(len, scores.unknown.tolist())),
            list(map(bool, scores.withheld.tolist())),
            [False] * len(callers) if explored is None else explored.tolist(),
            [caller.history for caller in callers],
            [" ".join([reason.code for reason in reasons]) for reasons in scores.reasons.tolist()],
            _encoded(matrix),
        )
        return "".join(map(_line, *values)).encode("ascii")

    def _client(self, client_id: str | None) -> str | None:
        return None if client_id is None or self._hash is None else self._hash(client_id)

    def _salt(self) -> str:
        """A salt; many are drawn at a time, since each call of the system costs a microsecond."""
        try:
            return self._salts.pop()
        except IndexError:
            drawn = os.urandom(_SALT_BYTES * _SALTS).hex()
            size = 2 * _SALT_BYTES
            self._salts += [drawn[at : at + size] for at in range(0, len(drawn), size)]
            return self._salts.pop()

    def _written(self, time: float) -> str:
        """The time as RFC 3339 with microseconds; the part up to the second is formatted once a second."""
        second, part = divmod(time, 1)
        known = self._second
        if known[0] != second:
            self._second = known = second, datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        return f"{known[1]}.{int(part * 1e6):06}Z"


def _line(
    salt: str, request_id: str, position: int, same: str, client: str | None, margin: float, probability: float,
    prediction: int, decision: str, risk_level: str, missing: int, unknown: int, withheld: bool,
    explored: bool | None, history: str | None, reasons: str, vector: str,
) -> str:  # fmt: skip
    """One line. Whatever adds a field adds it here, to the schema and to `made_lines`, and raises FORMAT.

    Lines of closed segments are made again by this: those of an older format must stay as they were. A field that is
    only there where it says something leaves them so, and needs no other format.
    """
    # Lines are put together by hand, since this runs before every answer. No text needs escapes: the service takes
    # request ids of letters, digits and `_.:-` only, and routes and codes of reasons are its own. repr() writes the
    # shortest text that reads back to the same bits, which a replay compares.
    hashed = "null" if client is None else f'"{client}"'
    return (
        f'{{"salt":"{salt}","request_id":"{request_id}","index":{position},{same},"client":{hashed},"margin":{margin!r},'
        f'"probability":{probability!r},"prediction":{prediction},"decision":"{decision}",'
        f'"risk_level":"{risk_level}","missing":{missing},"unknown":{unknown},'
        f'"withheld":{"true" if withheld else "false"},{_EXPLORED if explored else ""}'
        f'{_HISTORY[history]}"reasons":"{reasons}",'
        f'"vector":"{vector}"}}\n'
    )


_EXPLORED = f'"{EXPLORED}":true,'
_HISTORY: Mapping[str | None, str] = {None: "", **{str(one): f'"{HISTORY}":"{one}",' for one in HistorySource}}


def _of_model(named: Sequence[str], variant: str, policy: str, explained_by: str) -> str:
    model = ",".join(f'"{name}":{dumps(value)}' for name, value in zip(_MODEL, named, strict=True))
    return f'{model},"variant":"{variant}","policy":"{policy}","explained_by":"{explained_by}"'


def _encoded(matrix: NDArray[np.float64]) -> list[str]:
    rows = matrix.astype(_VECTOR, copy=False).tobytes()
    size = matrix.shape[1] * _VECTOR.itemsize
    return [b2a_base64(rows[at : at + size], newline=False).decode("ascii") for at in range(0, len(rows), size)]


def made_lines(header: Header, table: pa.Table) -> Iterator[bytes]:
    """The lines that the columns of a closed segment of format 2 give, without their ends; `line` is not read."""
    plain = {name: table[name].to_pylist() for name in _PLAIN}
    times = np.datetime_as_string(table["time"].to_numpy(), unit="us")
    matrix = np.column_stack([table[f"{FEATURE_PREFIX}{name}"].to_numpy() for name in header.features])
    made = map(
        _line,
        [salt.hex() if salt else "" for salt in plain["salt"]],
        plain["request_id"],
        plain["index"],
        [
            f'"time":"{time}Z","route":"{route}",{model}'
            for time, route, model in zip(times, plain["route"], _models(plain), strict=True)
        ],
        [client and client.hex() for client in plain["client"]],
        *(plain[name] for name in _AS_STORED),
        _encoded(matrix),
    )
    return (line[:-1].encode() for line in made)


def _models(plain: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """What each line says of its model, from the columns; it is the same for most lines."""
    known: dict[tuple[str, ...], str] = {}
    for key in zip(*(plain[name] for name in _OF_MODEL), strict=True):
        if key not in known:
            known[key] = _of_model(key[: len(_MODEL)], *key[len(_MODEL) :])
        yield known[key]


_AS_STORED = (
    "margin", "probability", "prediction", "decision", "risk_level", "missing", "unknown", "withheld", EXPLORED,
    HISTORY, "reasons",
)  # fmt: skip
_OF_MODEL = (*_MODEL, "variant", "policy", "explained_by")
_PLAIN = ("salt", "request_id", "index", "route", *_OF_MODEL, "client", *_AS_STORED)
STORED_LINE = ("time", "line", *_PLAIN)
"""Columns beside the features that the lines of a closed segment are made from."""


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
        and (HISTORY not in line or line[HISTORY] in _SOURCES)
        and (EXPLORED not in line or (line[EXPLORED] is True and line["decision"] == DecisionKind.APPROVE))
        and _is_moment(line["time"])
        and (header.format == 1 or _is_salted(line, header))
        and (line["client"] is None or _is_client(line["client"]))
        and _holds_vector(line["vector"], len(header.features))
    )


def _is_salted(line: Mapping[str, Any], header: Header) -> bool:
    named = all(line.get(name) == getattr(header, name) for name in ("policy", "explained_by"))
    return named and _is_client(line.get("salt")) and _is_text(line.get("variant")) and _is_text(line.get("reasons"))


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
            ("salt", pa.binary(_SALT_BYTES)),
            ("request_id", pa.string()),
            ("index", pa.int32()),
            ("time", pa.timestamp("us", tz="UTC")),
            ("route", text),
            ("model", text),
            ("model_version", text),
            ("digest", text),
            ("variant", text),
            ("policy", text),
            ("explained_by", text),
            ("client", pa.binary(CLIENT_BYTES)),
            ("margin", pa.float64()),
            ("probability", pa.float64()),
            ("prediction", pa.int8()),
            ("decision", text),
            ("risk_level", text),
            ("missing", pa.int16()),
            ("unknown", pa.int16()),
            ("withheld", pa.bool_()),
            (EXPLORED, pa.bool_()),
            (HISTORY, text),
            ("reasons", text),
            ("line", pa.binary()),
            *((f"{FEATURE_PREFIX}{name}", pa.float64()) for name in features),
        ]
    )


KEY_VARIABLE = "DECISION_LOG_KEY"
KEY_FILE_VARIABLE = "DECISION_LOG_KEY_FILE"
_KEY = re.compile(r"[0-9a-fA-F]{64}")
_FEWEST_DIGITS = 8
"""Different digits in a key. A random key has fewer with a probability of about 1e-19; a placeholder has fewer."""


def client_hash(environment: Mapping[str, str]) -> ClientHash:
    """The hash with the key of this environment; DecisionLogError if the key is missing or a placeholder."""
    found = stated_hash(environment)
    if found is None:
        raise _refused(f"{KEY_VARIABLE} or the file that {KEY_FILE_VARIABLE} names")
    return found


def stated_hash(environment: Mapping[str, str]) -> ClientHash | None:
    """The hash with the key of this environment; None if neither variable is set."""
    try:
        found = stated_secret(environment, KEY_VARIABLE)
    except SecretError as error:
        raise DecisionLogError(str(error)) from None
    return None if found is None else _hash(found.text, found.place)


def _hash(key: str, place: str) -> ClientHash:
    if not _KEY.fullmatch(key) or len(set(key.lower())) < _FEWEST_DIGITS:
        raise _refused(place)
    return ClientHash(bytes.fromhex(key))


def _refused(place: str) -> DecisionLogError:
    return DecisionLogError(
        f"the decision log hashes client ids: {place} must be 64 random hexadecimal digits, as `openssl rand"
        " -hex 32` prints them (or set recording.log.hash_clients to false)"
    )
