"""Admit requests by API key, and limit how often each key is used."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Hashable, Iterable, Sequence
from contextvars import ContextVar
from functools import lru_cache
from hmac import compare_digest
from pathlib import Path
from time import monotonic

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge
from starlette.types import Scope as AsgiScope

from jobs.heartbeat import Heartbeat, PeriodicThread
from scoring.keys import (
    ID_PLACE,
    LENGTH,
    Key,
    KeyFile,
    KeyFileError,
    Scope,
    content_of,
    digest_of,
    nobody,
    write_warning,
)
from serving.exchange import request_id
from serving.preflight import is_loopback
from serving.problems import Forbidden, HTTPProblem, Misdirected, TooManyRequests, Unauthenticated
from serving.request_metrics import KNOWN, OTHER, OVERRIDE, route_of
from serving.settings import AccessSettings

_LOGGER = logging.getLogger("bentoml.credit_scoring")


PREDICT_PATHS = ("/predict", "/predict/batch", "/predict/features", "/model/info", "/schema.json")
"""Routes that the scope `predict` opens. BentoML's own client reads /schema.json first."""

_PATHS = {*KNOWN, *PREDICT_PATHS, "/metrics"}
_LINES_PER_SECOND = 4
_BEARER = b"bearer "
_GRANT: ContextVar[Grant | None] = ContextVar("grant", default=None)
"""Grant of the key of the request that is being answered."""
_PORT = re.compile(r":\d*$")


class Guard:
    """Admits a request, or refuses it by its key, its scope, its rate or its host.

    Parameters
    ----------
    keyring : the keys; None if the service needs none, which is allowed on loopback only
    hosts : names besides loopback that a request to a service without keys may carry as Host
    """

    def __init__(self, settings: AccessSettings, keyring: Keyring | None, hosts: Sequence[str] = ()) -> None:
        self._keyring = keyring
        self._refusals = _Refusals()
        self._hosts = {host.lower() for host in hosts}
        self._is_known = lru_cache(maxsize=64)(self._is_known_host)  # callers send the same few, with every request
        # Default-deny: a path that is not listed here needs the scope `admin`.
        self._required: dict[str, Scope | None] = dict.fromkeys(PREDICT_PATHS, Scope.PREDICT)
        self._required["/explain"] = Scope.EXPLAIN
        self._required[OVERRIDE] = Scope.OVERRIDE
        self._required |= dict.fromkeys(settings.open)

    def admit(self, scope: AsgiScope) -> Hashable:
        """Return who calls: the bucket of its key, or its address if no key is needed; HTTPProblem if it is refused."""
        if self._keyring is None:
            self._require_known_host(scope)
            return _address(scope)
        path = scope["path"]
        required = self._required[path] if path in self._required else self._required.get(route_of(path), Scope.ADMIN)
        if required is None:
            return _address(scope)
        grant: Grant | None = None
        try:
            grant = self._keyring.find(_presented(scope["headers"]))
            if grant is None:
                raise Unauthenticated.unknown()
            if required not in grant.scopes:
                raise Forbidden.without(required)
            wait = grant.bucket.take(monotonic())
            if wait:
                raise TooManyRequests.after(math.ceil(wait))
        except HTTPProblem as refusal:
            self._refusals.log(refusal, scope, grant)
            raise
        _GRANT.set(grant)
        return grant.bucket

    def _require_known_host(self, scope: AsgiScope) -> None:
        # DNS rebinding: a web page on this machine reaches the service by any name that its owner points at 127.0.0.1.
        if not self._is_known(_host(scope["headers"])):
            raise Misdirected("The service answers only to loopback names and those in connections.hosts.")

    def _is_known_host(self, value: bytes) -> bool:
        given = value.decode("latin-1").lower()
        host = given if given in self._hosts else _PORT.sub("", given)
        return host in self._hosts or is_loopback(host.strip("[]"))


def _host(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    for name, value in headers:
        if name == b"host":
            return value
    return b""


def _address(scope: AsgiScope) -> Hashable:
    client = scope.get("client")
    return client[0] if client else None


class _Refusals:
    """Logs refused requests, a few lines a second at most: an attacker must not fill the disk."""

    def __init__(self) -> None:
        self._lines = TokenBucket(rate=_LINES_PER_SECOND, capacity=2 * _LINES_PER_SECOND)
        self._unlogged = 0

    def log(self, refusal: HTTPProblem, scope: AsgiScope, grant: Grant | None) -> None:
        """Log one refusal, without the text of an unknown path or of an unknown key."""
        if self._lines.take(monotonic()):
            self._unlogged += 1
            return
        route = route_of(scope["path"])
        path = route if route in _PATHS else OTHER
        peer = (scope.get("client") or ("unknown",))[0]
        holder = grant.holder if grant else "none that is known"
        _LOGGER.warning(
            "refused with %d: %s from %s, key: %s, request %s; %d more not logged since the last line",
            refusal.status, path, peer, holder, request_id(), self._unlogged,
        )  # fmt: skip
        self._unlogged = 0


def count_applications(number: int) -> None:
    """Charge the key of this request for each application of its batch; one is paid already."""
    grant = _GRANT.get()
    if grant is not None:
        grant.bucket.owe(number - 1, monotonic())


def caller_name() -> str:
    """Return the name of the key of this request; empty if it needed none."""
    grant = _GRANT.get()
    return "" if grant is None else grant.name


def _presented(headers: list[tuple[bytes, bytes]]) -> bytes:
    """Return the one key that the request carries; Unauthenticated if it carries none, or several."""
    found = [pair for pair in headers if pair[0] == b"x-api-key" or pair[0] == b"authorization"]
    if len(found) != 1:
        raise Unauthenticated.several() if found else Unauthenticated.missing()
    name, value = found[0]
    if name == b"x-api-key":
        return value
    if value[: len(_BEARER)].lower() != _BEARER:
        raise Unauthenticated.missing()
    return value[len(_BEARER) :]


_THREAD = "keys"
"""Name of the thread that looks at the file of keys."""


class Keyring:
    """Keeps the keys of the file at `path` up to date; KeyFileError if it cannot be read at first.

    A thread beside the event loop reads the file again every `reload_seconds`. A faulty file leaves the keys in force,
    and is counted and logged. A key that is gone from the file is refused from the next request on.
    """

    def __init__(self, path: Path, settings: AccessSettings, *, registry: CollectorRegistry = REGISTRY) -> None:
        self._path = path
        self._settings = settings
        self._failures = Counter(
            "credit_scoring_keys_reload_failures_total", "Files of keys that could not be read", registry=registry
        )
        self._stale = Gauge(
            "credit_scoring_keys_stale", "1 while the file of keys cannot be read and older keys are in force",
            registry=registry, multiprocess_mode="livemax",
        )  # fmt: skip
        self._count = Gauge(
            "credit_scoring_keys", "Keys in force", registry=registry, multiprocess_mode="livemin"
        )  # fmt: skip
        self._heartbeat = Heartbeat(_THREAD, registry=registry)
        content = content_of(path)
        self._seen: bytes | str = content
        self._grants = Grants(KeyFile.of(content, path).keys, settings)
        self._publish(stale=False)
        if found := write_warning(path):
            _LOGGER.warning("%s: whoever can write the file of keys can add one", found)
        self._thread: PeriodicThread | None = None

    def find(self, presented: bytes) -> Grant | None:
        """Return the grant of a key; None if the key is not in force."""
        return self._grants.find(presented)

    def watch(self) -> None:
        """Start the thread that looks at the file; it ends at `close`, or with this object."""
        self._thread = PeriodicThread(self._heartbeat, self.refresh, self._settings.reload_seconds, name=_THREAD)

    def close(self) -> None:
        """Stop the thread that looks at the file."""
        if self._thread is not None:
            self._thread.stop()

    def refresh(self) -> None:
        """Take the keys from the file if its content has changed; count and log a file that cannot be read."""
        # Content is compared, not time and size: two changes in a moment leave both alike. The path is opened anew each
        # time, since Kubernetes changes a mounted secret by swapping a symbolic link.
        try:
            content: bytes | str = content_of(self._path)
        except KeyFileError as error:
            content = str(error)
        if content == self._seen:
            return
        self._seen = content
        try:
            # One assignment: the event loop reads either the old grants or the new ones, without a lock.
            self._grants = self._granted(content)
        except Exception as error:  # noqa: BLE001 - whatever it is, a file of keys must not end the watch on it
            reason = str(error) if isinstance(error, KeyFileError) else f"{self._path}: {type(error).__name__}"
            _LOGGER.error("the keys in force stay: %s", reason)  # noqa: TRY400 - one line, no traceback
            self._failures.inc()
            self._publish(stale=True)
        else:
            _LOGGER.info("keys read again: %d in force", len(self._grants))
            self._publish(stale=False)

    def _granted(self, content: bytes | str) -> Grants:
        if isinstance(content, str):
            raise KeyFileError(content)
        return Grants(KeyFile.of(content, self._path).keys, self._settings, self._grants)

    def _publish(self, *, stale: bool) -> None:
        self._stale.set(stale)
        self._count.set(len(self._grants))


class Grants:
    """The grants of a set of keys.

    Parameters
    ----------
    before : the grants until now; a key with an unchanged rate keeps its bucket
    """

    def __init__(self, keys: Iterable[Key], settings: AccessSettings, before: Grants | None = None) -> None:
        self._nobody = Grant(*nobody(), (), 1.0, 1.0)
        self._by_id = {key.id.encode(): _grant(key, settings) for key in keys}
        # A reload of the file must not refill the bucket of a caller who has just used it up.
        for key_id, grant in before._by_id.items() if before else ():  # noqa: SLF001 - of the same class
            same = self._by_id.get(key_id)
            if same is not None and same.rate == grant.rate:
                same.bucket = grant.bucket

    def __len__(self) -> int:
        return len(self._by_id)

    def find(self, presented: bytes) -> Grant | None:
        """Return the grant of a key; None if the key is not one of these."""
        # Constant time (hmac.compare_digest), and the same work for an unknown id: the time of a refusal must not tell
        # which ids exist. A wrong length tells nothing about any key.
        if len(presented) != LENGTH:
            return None
        grant = self._by_id.get(presented[ID_PLACE], self._nobody)
        return grant if compare_digest(digest_of(presented, grant.salt), grant.digest) else None


def _grant(key: Key, settings: AccessSettings) -> Grant:
    rate = key.requests_per_second or settings.requests_per_second
    salt, digest = bytes.fromhex(key.salt), bytes.fromhex(key.digest)
    return Grant(salt, digest, key.scopes, rate, settings.burst_seconds, key.name, key.id)


class Grant:
    """The rights of one key: its scopes and its rate.

    Attributes
    ----------
    salt, digest : a presented key, hashed with the salt, must give the digest
    scopes : routes that the key opens; a tuple, since comparing is cheaper than hashing an enumeration
    name : of the holder of the key
    holder : name and id of the key, for the log
    bucket : how often the key may be used in this process
    """

    __slots__ = ("bucket", "digest", "holder", "name", "rate", "salt", "scopes")

    def __init__(
        self,
        salt: bytes,
        digest: bytes,
        scopes: tuple[Scope, ...],
        rate: float,
        burst: float,
        name: str = "",
        key_id: str = "",
    ) -> None:
        self.salt = salt
        self.digest = digest
        self.scopes = scopes
        self.rate = rate
        self.name = name
        self.holder = f"{name} ({key_id})"
        self.bucket = TokenBucket(rate=rate, capacity=max(1.0, rate * burst))


class TokenBucket:
    """A token bucket: it gains `rate` tokens a second, holds at most `capacity`, and is full at first.

    Its only state is the moment at which it will be full again, so taking a token is one addition (the virtual
    scheduling form of the generic cell rate algorithm, ITU-T I.371).

    Examples
    --------
    >>> bucket = TokenBucket(rate=2, capacity=1)
    >>> bucket.take(now=10.0), bucket.take(now=10.0), bucket.take(now=10.5)
    (0.0, 0.5, 0.0)
    """

    __slots__ = ("_full_at", "_interval", "_tolerance")

    def __init__(self, *, rate: float, capacity: float) -> None:
        self._interval = 1 / rate
        self._tolerance = (capacity - 1) / rate
        self._full_at = 0.0

    def take(self, now: float) -> float:
        """Take a token and return 0.0; if there is none, return the seconds until there is. `now` never goes back."""
        full_at = max(self._full_at, now)
        wait = full_at - now - self._tolerance
        if wait > 0:
            return wait
        self._full_at = full_at + self._interval
        return 0.0

    def owe(self, tokens: int, now: float) -> None:
        """Take tokens for work that was admitted before its size was known; a debt makes later calls of `take` wait."""
        self._full_at = max(self._full_at, now) + tokens * self._interval
