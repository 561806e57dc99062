"""Where the service listens, whether it can, and whether it may without keys."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeGuard

import click
from bentoml.exceptions import BentoMLConfigException

from access import VARIABLE, AccessError, KeyFile


def keys_or_loopback(environment: Mapping[str, str]) -> Path | None:
    """The file of keys, which can be read, or None where there is none and need not be one.

    BentoMLConfigException, which its command says in one line, where the file is broken, or where there is none and
    the service does not listen on loopback alone.
    """
    named = environment.get(VARIABLE)
    if not named:
        host = listening_host()
        if not is_loopback(host):
            raise BentoMLConfigException(
                f"without API keys the service listens on loopback only, not at {host}: name a file of keys in"
                f" {VARIABLE} (python -m scoring keys create), or serve with --host 127.0.0.1; only that option counts,"
                " not http.host of a configuration"
            )
        return None
    try:
        KeyFile.read(Path(named))
    except AccessError as error:
        raise BentoMLConfigException(str(error)) from None
    return Path(named)


def check_address() -> None:
    """BentoMLConfigException where the command that serves could not listen at the IP address and port it was given."""
    options = serving_options()
    host, port = options.get("host"), options.get("port")
    if not port or not _is_address(host):
        return  # BentoML has defaults, and refuses names itself
    six = ":" in host
    try:
        both = six and socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if six else socket.AF_INET
        socket.create_server((host, port), family=family, dualstack_ipv6=both).close()
    except (OSError, OverflowError) as error:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else error
        raise BentoMLConfigException(f"cannot listen at {host}, port {port}: {reason}") from None


def listening_host() -> str:
    """The address on which a worker of BentoML listens, or its parent is going to; "every address" where neither says.

    Both are commands, whose options click knows: a worker has the number of its socket, the parent the address.
    """
    options = serving_options()
    if options.get("fd") is not None:
        with socket.socket(fileno=os.dup(options["fd"])) as listening:
            return _host(listening)
    return str(options.get("host") or "every address")  # BentoML's own default is 0.0.0.0


def is_serving_command() -> bool:
    """Whether this process is the command that serves, and not one of its workers nor anything else."""
    options = serving_options()
    return {"host", "port"} <= options.keys() and options.get("fd") is None


def serving_options() -> dict[str, Any]:
    """The options of the command that serves, or of its worker; none in any other process."""
    context = click.get_current_context(silent=True)
    return context.params if context else {}


def _host(listening: socket.socket) -> str:
    """A Unix socket, which BentoML keeps in a folder of its user's own, counts as loopback."""
    return "localhost" if listening.family == socket.AF_UNIX else str(listening.getsockname()[0])


def is_loopback(host: str) -> bool:
    """Whether only the same machine reaches this address.

    >>> [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "::", "10.0.0.1", "every address")]
    [True, True, True, False, False, False, False]
    """
    return host == "localhost" or (_is_address(host) and ip_address(host).is_loopback)


def _is_address(host: str | None) -> TypeGuard[str]:
    try:
        ip_address(host or "")
    except ValueError:
        return False
    return True
