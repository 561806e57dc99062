"""`python -m scoring keys`: create, revoke and list the API keys of the service."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from access import VARIABLE, KeyFile, KeyFileError, KeyName, Scope, create_key, issue, revoke_key

_Commands = argparse._SubParsersAction  # noqa: SLF001 - argparse has no public name for it


def add_keys(commands: _Commands[argparse.ArgumentParser]) -> None:
    """Add the commands."""
    keys = commands.add_parser("keys", help="create, revoke and list the API keys of the service")
    actions = keys.add_subparsers(required=True, metavar="action")

    create = _action(actions, "create", "make a key and print it, this once", _create)
    create.add_argument("--name", type=_name, required=True, help="who holds it; letters, digits and _ . -")
    create.add_argument("--scope", type=Scope, action="append", required=True, metavar="SCOPE", dest="scopes",
                        choices=list(Scope), help=f"{', '.join(Scope)}; may be given several times")  # fmt: skip
    rate = "of each worker; an application of a batch counts like a request (default: the service's)"
    create.add_argument("--requests-per-second", type=_rate, metavar="N", help=rate)

    revoke = _action(actions, "revoke", "take a key back", _revoke)
    revoke.add_argument("key", help="its id or the name it was given, never the key itself")

    _action(actions, "list", "show the keys in force, without the keys", _list)


def _action(
    actions: _Commands[argparse.ArgumentParser], name: str, summary: str, run: Callable[[argparse.Namespace], None]
) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=summary, description=summary)
    parser.add_argument("--file", type=Path, help=f"file of keys (default: ${VARIABLE})")
    parser.set_defaults(command=run)
    return parser


def _create(options: argparse.Namespace) -> None:
    scopes = tuple(dict.fromkeys(options.scopes))
    rate, now = options.requests_per_second, datetime.now(UTC).replace(microsecond=0)
    issued = issue(options.name, scopes, created=now, requests_per_second=rate)
    create_key(_file(options), issued)
    sys.stdout.write(f"{issued.secret}\n")
    sys.stderr.write(f"key {issued.key.id} for {issued.key.name}; it is not shown again\n")


def _revoke(options: argparse.Namespace) -> None:
    revoked = revoke_key(_file(options), options.key)
    sys.stdout.write(f"key {revoked.id} of {revoked.name} is revoked\n")


def _list(options: argparse.Namespace) -> None:
    for key in KeyFile.read(_file(options)).keys:
        rate = "" if key.requests_per_second is None else f"  {key.requests_per_second:g}/s"
        sys.stdout.write(f"{key.id}  {key.created:%Y-%m-%d}  {key.name}  {','.join(key.scopes)}{rate}\n")


def _file(options: argparse.Namespace) -> Path:
    named = options.file or os.environ.get(VARIABLE)
    if not named:
        raise KeyFileError(f"--file or the environment variable {VARIABLE} must name the file of keys")
    return Path(named)


def _name(text: str) -> str:
    try:
        return TypeAdapter(KeyName).validate_python(text)
    except ValidationError:
        raise argparse.ArgumentTypeError("must be 1 to 64 letters, digits and _ . -") from None


def _rate(text: str) -> float:
    rate = float(text)
    if not (rate > 0 and math.isfinite(rate)):
        raise argparse.ArgumentTypeError(f"{text}: must be a positive number")
    return rate
