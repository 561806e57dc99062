"""The key that client ids are hashed with: in a variable of the environment, or in a file that one names."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path

from monitoring.decision import ClientHash
from monitoring.errors import DecisionLogError

VARIABLE = "DECISION_LOG_KEY"
FILE_VARIABLE = "DECISION_LOG_KEY_FILE"
_KEY = re.compile(r"[0-9a-fA-F]{64}")
_FEWEST_DIGITS = 8
"""Different ones, in a key that was drawn at random: one in a hundred thousand million has fewer."""
_MOST_BYTES = 1024


def client_hash(environment: Mapping[str, str]) -> ClientHash:
    """The hash with the key of this environment; DecisionLogError if there is none, or a placeholder."""
    found = stated_hash(environment)
    if found is None:
        raise _refused(f"{VARIABLE} or the file that {FILE_VARIABLE} names")
    return found


def stated_hash(environment: Mapping[str, str]) -> ClientHash | None:
    """The same, but None if neither variable is set."""
    key, file = environment.get(VARIABLE), environment.get(FILE_VARIABLE)
    if key and file:
        raise DecisionLogError(f"{VARIABLE} and {FILE_VARIABLE} are both set: set one of them")
    if file:
        return _hash(_read(Path(file)), f"{FILE_VARIABLE}: the content of {file}")
    return _hash(key, VARIABLE) if key else None


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
    """What the file holds, without blanks around it. A pipe in its place is refused rather than waited for."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            mode = os.fstat(descriptor).st_mode
            content = file.read(_MOST_BYTES) if stat.S_ISREG(mode) else None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a path"
        raise DecisionLogError(f"{FILE_VARIABLE}: {path} cannot be read ({reason})") from None
    if content is None:
        raise DecisionLogError(f"{FILE_VARIABLE}: {path} is not a regular file")
    if mode & stat.S_IWOTH:
        raise DecisionLogError(f"{FILE_VARIABLE}: everybody may change {path}: allow its owner alone, as by chmod 600")
    return content.decode("ascii", errors="replace").strip()
