"""Who may ask for what: every route needs a key with its scope, unless the settings list it as open."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Hashable, Sequence
from contextvars import ContextVar
from functools import lru_cache
from time import monotonic

from starlette.types import Scope as AsgiScope

from access import AccessSettings, Grant, Keyring, Scope, TokenBucket

from .errors import Forbidden, Misdirected, Problem, TooManyRequests, Unauthenticated
from .exchange import request_id
from .listening import is_loopback
from .traffic import KNOWN, OTHER

_LOGGER = logging.getLogger("bentoml.credit_scoring")

PREDICT_PATHS = ("/predict", "/predict/batch", "/predict/features", "/model/info", "/schema.json")
"""What the scope `predict` is good for. The last one is what BentoML's own client reads first."""

_PATHS = {*KNOWN, *PREDICT_PATHS, "/metrics"}
_LINES_PER_SECOND = 4
_BEARER = b"bearer "
_BUCKET: ContextVar[TokenBucket | None] = ContextVar("bucket", default=None)
"""Of the key that the request which is being answered came with."""
_PORT = re.compile(r":\d*$")


class Guard:
    """Admits requests.

    Parameters
    ----------
    keyring : the keys; None where none are asked for, which only a service on loopback may do
    hosts : names besides loopback under which a service without keys may be asked: a page in a browser on this machine
        could reach it under any name that its owner points at 127.0.0.1
    """

    def __init__(self, settings: AccessSettings, keyring: Keyring | None, hosts: Sequence[str] = ()) -> None:
        self._keyring = keyring
        self._refusals = _Refusals()
        self._hosts = {host.lower() for host in hosts}
        self._is_known = lru_cache(maxsize=64)(self._is_known_host)  # callers send the same few, with every request
        self._required: dict[str, Scope | None] = dict.fromkeys(PREDICT_PATHS, Scope.PREDICT)
        self._required |= dict.fromkeys(settings.open)

    def admit(self, scope: AsgiScope) -> Hashable:
        """The caller: its key, or its address where it needs none; the Problem that refuses it if it may not ask."""
        if self._keyring is None:
            self._require_known_host(scope)
            return _address(scope)
        required = self._required.get(scope["path"], Scope.ADMIN)
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
        except Problem as refusal:
            self._refusals.tell(refusal, scope, grant)
            raise
        _BUCKET.set(grant.bucket)
        return grant.bucket

    def _require_known_host(self, scope: AsgiScope) -> None:
        if not self._is_known(next((value for name, value in scope["headers"] if name == b"host"), b"")):
            raise Misdirected("The service answers only to loopback names and those in connections.hosts.")

    def _is_known_host(self, value: bytes) -> bool:
        given = value.decode("latin-1").lower()
        host = given if given in self._hosts else _PORT.sub("", given)
        return host in self._hosts or is_loopback(host.strip("[]"))


def _address(scope: AsgiScope) -> Hashable:
    client = scope.get("client")
    return client[0] if client else None


class _Refusals:
    """Leaves a line in the log for each request that is not admitted, so many a second at the most."""

    def __init__(self) -> None:
        self._lines = TokenBucket(rate=_LINES_PER_SECOND, capacity=2 * _LINES_PER_SECOND)
        self._untold = 0

    def tell(self, refusal: Problem, scope: AsgiScope, grant: Grant | None) -> None:
        """Tell of one. A path that the service does not know, and a key that is none, are not written down."""
        if self._lines.take(monotonic()):
            self._untold += 1
            return
        path = scope["path"] if scope["path"] in _PATHS else OTHER
        peer = (scope.get("client") or ("unknown",))[0]
        holder = grant.holder if grant else "none that is known"
        _LOGGER.warning(
            "refused with %d: %s from %s, key: %s, request %s; %d untold since the line before",
            refusal.status, path, peer, holder, request_id(), self._untold,
        )  # fmt: skip
        self._untold = 0


def count_applications(number: int) -> None:
    """Let the key of the request that is being answered pay for each of its applications; it has paid for one."""
    bucket = _BUCKET.get()
    if bucket is not None:
        bucket.owe(number - 1, monotonic())


def _presented(headers: list[tuple[bytes, bytes]]) -> bytes:
    """The one key that the request carries; Unauthenticated if it carries none, or several."""
    found = [pair for pair in headers if pair[0] == b"x-api-key" or pair[0] == b"authorization"]
    if len(found) != 1:
        raise Unauthenticated.several() if found else Unauthenticated.missing()
    name, value = found[0]
    if name == b"x-api-key":
        return value
    if value[: len(_BEARER)].lower() != _BEARER:
        raise Unauthenticated.missing()
    return value[len(_BEARER) :]
