"""Keys as they are checked at every request."""

from __future__ import annotations

from collections.abc import Iterable
from hmac import compare_digest

from .bucket import TokenBucket
from .key import ID_PLACE, LENGTH, Key, digest_of, nobody
from .scope import Scope
from .settings import AccessSettings


class Grant:
    """What the holder of a key may do.

    Attributes
    ----------
    salt, digest : what a key that is presented must hash to
    scopes : a tuple, since comparing is cheaper than hashing an enumeration
    holder : name and id of the key, for the log
    bucket : how often the key may be used in this process
    """

    __slots__ = ("bucket", "digest", "holder", "rate", "salt", "scopes")

    def __init__(
        self, salt: bytes, digest: bytes, scopes: tuple[Scope, ...], rate: float, burst: float, holder: str = "nobody"
    ) -> None:
        self.salt = salt
        self.digest = digest
        self.scopes = scopes
        self.rate = rate
        self.holder = holder
        self.bucket = TokenBucket(rate=rate, capacity=max(1.0, rate * burst))


class Grants:
    """The grants of a set of keys.

    Parameters
    ----------
    before : the grants that these take the place of; a key that stays the same keeps its bucket
    """

    def __init__(self, keys: Iterable[Key], settings: AccessSettings, before: Grants | None = None) -> None:
        self._nobody = Grant(*nobody(), (), 1.0, 1.0)
        self._by_id = {key.id.encode(): _grant(key, settings) for key in keys}
        for key_id, grant in before._by_id.items() if before else ():  # noqa: SLF001 - of the same class
            same = self._by_id.get(key_id)
            if same is not None and same.rate == grant.rate:
                same.bucket = grant.bucket

    def __len__(self) -> int:
        return len(self._by_id)

    def find(self, presented: bytes) -> Grant | None:
        """The grant of a key; None if it is none of these.

        Every key of the right length is hashed and compared in constant time, known id or not.
        """
        if len(presented) != LENGTH:
            return None
        grant = self._by_id.get(presented[ID_PLACE], self._nobody)
        return grant if compare_digest(digest_of(presented, grant.salt), grant.digest) else None


def _grant(key: Key, settings: AccessSettings) -> Grant:
    rate = key.requests_per_second or settings.requests_per_second
    salt, digest, holder = bytes.fromhex(key.salt), bytes.fromhex(key.digest), f"{key.name} ({key.id})"
    return Grant(salt, digest, key.scopes, rate, settings.burst_seconds, holder)
