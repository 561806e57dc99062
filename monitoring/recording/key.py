"""The key that client ids are hashed with."""

from __future__ import annotations

import re

from monitoring.decision import ClientHash
from monitoring.errors import DecisionLogError

VARIABLE = "DECISION_LOG_KEY"
_KEY = re.compile(r"[0-9a-fA-F]{64}")
_FEWEST_DIGITS = 8
"""Different ones, in a key that was drawn at random: one in a hundred thousand million has fewer."""


def client_hash(key: str | None) -> ClientHash:
    """The hash with this key; DecisionLogError if it is missing or a placeholder."""
    if key is None or not _KEY.fullmatch(key) or len(set(key.lower())) < _FEWEST_DIGITS:
        raise DecisionLogError(
            f"the decision log hashes client ids: {VARIABLE} must be 64 random hexadecimal digits, as `openssl rand"
            " -hex 32` prints them (or set recording.log.hash_clients to false)"
        )
    return ClientHash(bytes.fromhex(key))
