"""The audit of a registered model: who decided when, as the registry has it, and an export of it that proves itself.

The export is JSON Lines. The first line says of which model it is; an event is on each of the next. A line holds its
`sequence` number and, in `previous`, the SHA-256 of the line before. The last line holds a signed note, as C2SP's
signed-note defines it, over the number of lines and the hash of the last event.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from decision_log.checkpoints import signed_note, signed_text
from decision_log.errors import CheckpointError
from decision_log.notary import SIGNING_VARIABLE
from jobs.output import write_bytes
from scoring.artefact import Artefact
from scoring.errors import ArtefactError
from scoring.store import private_key, public_key
from training.errors import RegistryError
from training.gates import Gate, gate_lines
from training.registry.registry import (
    POLICY,
    Action,
    Change,
    GateJudgement,
    artefact_folder,
    changes,
    download,
    find,
    judgements,
    versions,
)

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_FORMAT = 1
_ORIGIN = "credit-scoring-audit/"
_NONE = "0" * 64
"""What stands in the first line for the hash of the line before."""


class EventKind(StrEnum):
    """What happened to a version."""

    REGISTERED = "registered"
    JUDGED = "judged"
    REFUSED = "refused"
    """It was judged, and misses a gate."""
    PROMOTED = "promoted"
    RESTORED = "restored"
    """A rollback made it champion again."""


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """What happened at the time `at`, ISO 8601 in UTC; what the registry does not tell is null.

    Attributes
    ----------
    actor : who did it
    digest, policy : of the version's artefact, and of its decision policy
    champion : the version that a judged one was compared with
    gates : of a judgement, each with its figure and limit
    """

    at: str
    event: EventKind
    version: str
    actor: str | None
    digest: str | None
    policy: str | None
    champion: str | None = None
    gates: tuple[Mapping[str, Any], ...] = ()

    def __str__(self) -> str:
        by = f" by {self.actor}" if self.actor else ""
        missed = [gate["name"] for gate in self.gates if not gate["passed"]]
        misses = f": misses {'; '.join(missed)}" if missed else ""
        return f"{self.at[:19]}Z  version {self.version} {self.event}{by}{misses}"


def history(name: str) -> list[AuditEvent]:
    """List all that happened to the versions of a model, the oldest first; RegistryError if nothing is registered."""
    known = {str(version.version): version for version in versions(name)}
    past = changes(name)
    if not known and not past:
        raise RegistryError(f"{name}: nothing is registered")
    events = [event for version in known.values() for event in _of_version(version)]
    events += [_of_change(change, known.get(change.version)) for change in past]
    return sorted(events, key=lambda event: event.at)


def _of_version(version: ModelVersion) -> Iterator[AuditEvent]:
    registered = datetime.fromtimestamp(version.creation_timestamp / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    digest, policy = version.tags.get("digest"), version.tags.get(POLICY)
    yield AuditEvent(registered, EventKind.REGISTERED, str(version.version), _trainer(version), digest, policy)
    for judged in judgements(version):
        # An older release kept the gates without a time: no sooner than the version was there.
        yield _of_judgement(judged, judged.at or registered, digest, policy)


def _of_judgement(judged: GateJudgement, at: str, digest: str | None, policy: str | None) -> AuditEvent:
    kind = EventKind.REFUSED if judged.missed else EventKind.JUDGED
    return AuditEvent(at, kind, judged.version, judged.actor or None, digest, policy, judged.champion, judged.gates)


def _of_change(change: Change, version: ModelVersion | None) -> AuditEvent:
    tags = {} if version is None else version.tags
    kind = EventKind.PROMOTED if change.action is Action.PROMOTED else EventKind.RESTORED
    digest, policy = change.digest or tags.get("digest"), change.policy or tags.get(POLICY)
    return AuditEvent(change.at, kind, change.version, change.actor or None, digest, policy)


def _trainer(version: ModelVersion) -> str | None:
    """The user who ran the training, as MLflow knows; None if its run is gone."""
    try:
        return MlflowClient().get_run(version.run_id).info.user_id or None if version.run_id else None
    except MlflowException:
        return None


def champion_lines(name: str, events: Sequence[AuditEvent], moment: datetime) -> Iterator[str]:
    """Say who was champion at a moment, since when, by whom, and by which gates; RegistryError if nobody was."""
    at, kinds = moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"), (EventKind.PROMOTED, EventKind.RESTORED)
    in_charge = [event for event in events if event.event in kinds]
    before, after = ([event for event in in_charge if (event.at <= at) is past] for past in (True, False))
    if not before:
        raise RegistryError(f"{name}: there was no champion at {at[:19]}Z")
    last = before[-1]
    yield f"champion at {at[:19]}Z: {name} version {last.version}"
    yield f"digest {last.digest or 'not known'}"
    yield f"policy {last.policy or _policy_of(name, last) or 'not known'}"
    yield f"{last.event} {last.at[:19]}Z by {last.actor or 'nobody that is recorded'}"
    if after:
        yield f"until {after[0].at[:19]}Z, when version {after[0].version} was {after[0].event}"
    judged = [event for event in events if event.gates and event.version == last.version and event.at <= last.at]
    if judged:
        yield f"judged {judged[-1].at[:19]}Z, against {_rival(judged[-1])}:"
        yield from gate_lines([Gate(**gate) for gate in judged[-1].gates])
    else:
        yield "its gates are not recorded"


def _rival(event: AuditEvent) -> str:
    return "no champion" if event.champion is None else f"version {event.champion}"


def _policy_of(name: str, event: AuditEvent) -> str | None:
    """The policy of a version that was registered before its tag held it, from its artefact; None if that is gone."""
    try:
        with tempfile.TemporaryDirectory() as scratch:
            version = find(name, event.version)
            return Artefact.read(artefact_folder(download(version, Path(scratch)), version)).policy_version
    except (ArtefactError, MlflowException, RegistryError):
        return None


def export(name: str, events: Sequence[AuditEvent], output: Path, key: Path | None, now: datetime) -> None:
    """Write the events to a file, chained and signed with the key in a PEM file, or in that of RECORD_KEY_FILE.

    RegistryError without a key, SignatureError for a file that holds none, OutputError if it cannot be written.
    """
    file = key or (Path(named) if (named := os.environ.get(SIGNING_VARIABLE)) else None)
    if file is None:
        raise RegistryError(f"an export is signed: name the private key by --key or {SIGNING_VARIABLE}")
    write_bytes(output, exported(name, events, private_key(file), now))


def exported(name: str, events: Sequence[AuditEvent], key: Ed25519PrivateKey, now: datetime) -> bytes:
    """The lines of an export: a header, the events, and the signed note."""
    header = {"format": _FORMAT, "model": name, "exported": f"{now:%Y-%m-%dT%H:%M:%SZ}", "events": len(events)}
    lines: list[bytes] = []
    for sequence, content in enumerate([header, *map(asdict, events)]):
        previous = _hash(lines[-1]) if lines else _NONE
        lines.append(_line({"sequence": sequence, "previous": previous, **content}))
    note = signed_note(_signed(name, len(lines), _hash(lines[-1])), key).decode()
    return b"".join([*lines, _line({"note": note})])


def _line(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def _hash(line: bytes) -> str:
    return sha256(line).hexdigest()


def _signed(name: str, lines: int, last: str) -> bytes:
    """The text that is signed; its first line names the signer, and so holds no blank."""
    return f"{_ORIGIN}{quote(name)}\n{lines}\n{last}\n".encode()


def fault(content: bytes, keys: Sequence[Ed25519PublicKey]) -> str | None:
    """Say what is wrong first with an export, or None if it is whole and one of the keys has signed it."""
    *lines, last = content.splitlines(keepends=True) or [b""]
    previous = _NONE
    for number, line in enumerate(lines):
        found = _object(line)
        if found is None or "sequence" not in found:
            return f"line {number + 1} is no line of an audit"
        if found["sequence"] != number:
            return f"line {number + 1} has the number {found['sequence']}, not {number}: lines are missing or moved"
        if found.get("previous") != previous:
            return f"line {number + 1} does not follow from line {number}: one of the two was changed"
        previous = _hash(line)
    end = _object(last) or {}
    note = end.get("note")
    if not lines or not isinstance(note, str) or end.keys() != {"note"}:  # other names would not be signed
        return "the last line has no signed note: the end is missing"
    try:
        signed = signed_text(note.encode(), keys)
    except (CheckpointError, ValueError):
        return "the note in the last line is not signed by a key that was given"
    if signed != _signed(str((_object(lines[0]) or {}).get("model")), len(lines), previous):
        return f"line {len(lines)} is not the one that was signed as the last"
    return None


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except (RecursionError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def verify(file: Path, keys: Sequence[Path]) -> str:
    """Say that an export is whole, or raise RegistryError with the first thing that is wrong."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise RegistryError(f"{file}: cannot be read ({error.strerror})") from None
    if wrong := fault(content, [public_key(key) for key in keys]):
        raise RegistryError(f"{file}: {wrong}")
    events = len(content.splitlines()) - 2
    return f"{file}: {events:,} events, each as it was signed"
