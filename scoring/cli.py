"""The command line of scoring: `batch` scores files of applications, `keys` manages API keys."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from features.errors import FeatureError
from jobs.errors import JobError
from jobs.progress import Progress, until_stopped
from scoring.errors import BatchError, ScoringError
from scoring.keys import (
    KEYS_VARIABLE,
    AccessError,
    KeyFile,
    KeyFileError,
    KeyName,
    Scope,
    create_key,
    issue,
    revoke_key,
)
from scoring.store import load_stored

if TYPE_CHECKING:
    from scoring.batch import Summary

_Commands = argparse._SubParsersAction  # noqa: SLF001 - argparse has no public name for it
_GRANTABLE = (Scope.PREDICT, Scope.ADMIN)


def add_keys(commands: _Commands[argparse.ArgumentParser]) -> None:
    """Add the command `keys` with its actions create, revoke and list."""
    keys = commands.add_parser("keys", help="create, revoke and list the API keys of the service")
    actions = keys.add_subparsers(required=True, metavar="action")

    create = _action(actions, "create", "make a key and print it; it is shown only once", _create)
    create.add_argument("--name", type=_name, required=True, help="who holds it; letters, digits and _ . -")
    create.add_argument("--scope", type=Scope, action="append", required=True, metavar="SCOPE", dest="scopes",
                        choices=_GRANTABLE, help=f"{', '.join(_GRANTABLE)}; may be given several times")  # fmt: skip
    rate = "of each worker; an application of a batch counts like a request (default: the service's)"
    create.add_argument("--requests-per-second", type=_rate, metavar="N", help=rate)

    revoke = _action(actions, "revoke", "take a key back", _revoke)
    revoke.add_argument("key", help="its id or the name it was given, never the key itself")

    _action(actions, "list", "show the keys in force, without the keys", _list)


def _action(
    actions: _Commands[argparse.ArgumentParser], name: str, summary: str, run: Callable[[argparse.Namespace], None]
) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=summary, description=summary)
    parser.add_argument("--file", type=Path, help=f"file of keys (default: ${KEYS_VARIABLE})")
    parser.set_defaults(command=run)
    return parser


def _create(options: argparse.Namespace) -> None:
    scopes = tuple(dict.fromkeys(options.scopes))
    rate, now = options.requests_per_second, datetime.now(UTC).replace(microsecond=0)
    issued = issue(options.name, scopes, created=now, requests_per_second=rate)
    create_key(_file(options), issued)
    # Only the key goes to standard output, so that a shell can pass it on; the file keeps a salted hash of it alone.
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
    named = options.file or os.environ.get(KEYS_VARIABLE)
    if not named:
        raise KeyFileError(f"--file or the environment variable {KEYS_VARIABLE} must name the file of keys")
    return Path(named)


def _name(text: str) -> str:
    try:
        return TypeAdapter(KeyName).validate_python(text)
    except ValidationError:
        raise argparse.ArgumentTypeError("must be 1 to 64 letters, digits and _ . -") from None


def _rate(text: str) -> float:
    # float() also takes "inf" and "nan", which would be no limit at all.
    rate = float(text)
    if not (rate > 0 and math.isfinite(rate)):
        raise argparse.ArgumentTypeError(f"{text}: must be a positive number")
    return rate


_MODEL = "credit_scoring_production_model"
# Files may lack dozens of columns, and naming them all would bury the counts above.
_MOST_LISTED = 8
_PROCESSORS = os.cpu_count() or 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 if it succeeded, 1 after one line on standard error if not, 128 + n if signal n ended it."""
    options = _parser().parse_args(arguments)
    return until_stopped(lambda: _execute(options))


def _execute(options: argparse.Namespace) -> int:
    try:
        options.command(options)
    except (AccessError, FeatureError, JobError, ScoringError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m scoring", description=sys.modules["scoring"].__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    batch = commands.add_parser("batch", help="score files of raw applications")
    batch.add_argument("--input", type=Path, required=True, help=".csv or .parquet file, or a folder of them")
    batch.add_argument("--output", type=Path, required=True, help="folder that does not exist yet, or is empty")
    batch.add_argument("--model", default=_MODEL, help="tag in the BentoML model store (default: %(default)s:latest)")
    batch.add_argument("--chunk-rows", type=int, default=50_000, help="rows scored at a time (default: %(default)s)")
    batch.add_argument("--threads", type=_threads, default=_PROCESSORS, help="default: one for each processor")
    batch.add_argument(
        "--max-rejected",
        type=_share,
        default=0.5,
        metavar="SHARE",
        help="fail if more than this share of the applications is rejected (default: %(default)s)",
    )
    batch.set_defaults(command=_batch)
    add_keys(commands)
    return parser


def _threads(text: str) -> int:
    threads = int(text)
    if not 1 <= threads <= _PROCESSORS:
        raise argparse.ArgumentTypeError(f"{threads}: not 1 to {_PROCESSORS}, the processors of this machine")
    return threads


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"{text}: not a share from 0 to 1")
    return share


def _batch(options: argparse.Namespace) -> None:
    from scoring.batch import score_files  # the serving image has no pyarrow, and keys are made there

    model = load_stored(options.model, threads=options.threads)
    with Progress().step("applications") as advance:
        summary = score_files(options.input, options.output, model, chunk_rows=options.chunk_rows, progress=advance)
    sys.stdout.write("".join(f"{line}\n" for line in _lines(summary, options.output)))
    # The answers stand and the summary is printed first; a scheduler learns of the fault from the exit code.
    if summary.rejected == summary.rows:
        raise BatchError(f"{options.input}: no application could be scored; {options.output} says why")
    if summary.rejected > options.max_rejected * summary.rows:
        limit = f"more than the share {options.max_rejected:g} of --max-rejected"
        raise BatchError(
            f"{options.input}: {summary.rejected} of {summary.rows} applications are rejected, {limit}; "
            f"{options.output} says why"
        )


def _lines(summary: Summary, output: Path) -> Iterator[str]:
    yield (
        f"{summary.rows} applications by {summary.model}:{summary.version}: "
        f"{summary.rows - summary.rejected} scored, {summary.rejected} rejected; {output}"
    )
    yield from (f"  rejected, {rule}: {count}" for rule, count in summary.broken_rules.items())
    if summary.withheld:
        yield f"  referred, too little is known for an approval: {summary.withheld}"
    for name, count in summary.unknown_levels.items():
        yield f"  unknown level, {name}: {count}{', every level that is stated' if name in summary.never_known else ''}"
    for what, names in (
        ("missing in every row", summary.never_stated),
        ("not declared and ignored", summary.ignored_columns),
        ("not read", summary.passed_over),
    ):
        if names:
            yield f"  {what}: {_listed(names)}"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_LISTED} more" if len(names) > _MOST_LISTED else ""
    return ", ".join(names[:_MOST_LISTED]) + more
