"""`python -m scoring`: batch, keys. The program adds verify and prove, which are about the decision log."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click
from pydantic import TypeAdapter, ValidationError

from jobs.commandline import PATH, CommandGroup, Progress, run_command, say
from jobs.errors import SettingsError
from jobs.settings import read_document
from scoring.errors import BatchError
from scoring.keys import KEYS_VARIABLE, KeyFile, KeyFileError, KeyName, Scope, create_key, issue, revoke_key

if TYPE_CHECKING:
    from scoring.batch import Summary

_SERVING = Path(__file__).resolve().parent.parent / "configs" / "serving.yaml"
# Files may lack dozens of columns, and naming them all would bury the counts above.
_MOST_LISTED = 8
_PROCESSORS = os.cpu_count() or 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 if it succeeded, 1 after one line on standard error if not, 128 + n if signal n ended it."""
    return run_command(commands, arguments, program="python -m scoring")


@click.group(cls=CommandGroup, help=sys.modules["scoring"].__doc__)
def commands() -> None:
    """Hold the commands."""


def _threads(text: str) -> int:
    threads = int(text)
    if not 1 <= threads <= _PROCESSORS:
        raise click.BadParameter(f"{threads}: not 1 to {_PROCESSORS}, the processors of this machine")
    return threads


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share <= 1:
        raise click.BadParameter(f"{text}: not a share from 0 to 1")
    return share


def served_name(settings: Path = _SERVING) -> str:
    """Return the name in the BentoML store that the service's settings give its model; SettingsError if they do not."""
    document = read_document(settings)
    named = document.get("model") if isinstance(document, dict) else None
    if not isinstance(named, str):
        raise SettingsError(f"{settings}: model: must name a model of the BentoML store")
    return named


@commands.command()
@click.option("--input", "source", type=PATH, required=True, help=".csv or .parquet file, or a folder of them")
@click.option("--output", type=PATH, required=True, help="folder that does not exist yet, or is empty")
@click.option("--model", default=served_name,
              help="tag in the BentoML model store (default: the latest of that in configs/serving.yaml)")  # fmt: skip
@click.option("--chunk-rows", type=int, default=50_000, show_default=True, help="rows scored at a time")
@click.option("--threads", type=_threads, metavar="N", default=_PROCESSORS, help="default: one for each processor")
@click.option("--max-rejected", type=_share, default=0.5, show_default=True, metavar="SHARE",
              help="fail if more than this share of the applications is rejected")  # fmt: skip
def batch(*, source: Path, output: Path, model: str, chunk_rows: int, threads: int, max_rejected: float) -> None:
    """Score files of raw applications."""
    from scoring.batch import score_files  # the serving image has no pyarrow, and keys are made there
    from scoring.store import load_stored

    stored = load_stored(model, threads=threads)
    with Progress().step("applications") as advance:
        summary = score_files(source, output, stored, chunk_rows=chunk_rows, progress=advance)
    say(_lines(summary, output))
    if summary.rejected == summary.rows:
        raise BatchError(f"{source}: no application could be scored; {output} says why")
    if summary.rejected > max_rejected * summary.rows:
        limit = f"more than the share {max_rejected:g} of --max-rejected"
        raise BatchError(
            f"{source}: {summary.rejected} of {summary.rows} applications are rejected, {limit}; {output} says why"
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
        every = ", every level that is stated" if name in summary.never_known else ""
        yield f"  level that the model did not learn, {name}: {count}{every}"
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


@commands.group()
def keys() -> None:
    """Create, revoke and list the API keys of the service."""


def _file(command: Callable[..., None]) -> Callable[..., None]:
    return click.option("--file", type=PATH, envvar=KEYS_VARIABLE, help=f"file of keys (default: ${KEYS_VARIABLE})")(
        command
    )


def _named(file: Path | None) -> Path:
    if file is None:
        raise KeyFileError(f"--file or the environment variable {KEYS_VARIABLE} must name the file of keys")
    return file


def _name(text: str) -> str:
    try:
        return TypeAdapter(KeyName).validate_python(text)
    except ValidationError:
        raise click.BadParameter("must be 1 to 64 letters, digits and _ . -") from None


def _rate(text: str) -> float:
    rate = float(text)
    if not (rate > 0 and math.isfinite(rate)):
        raise click.BadParameter(f"{text}: must be a positive number")
    return rate


@keys.command()
@click.option("--name", type=_name, required=True, metavar="NAME", help="who holds it; letters, digits and _ . -")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice([scope.value for scope in Scope]),
    multiple=True,
    required=True,
    help="may be given several times",
)
@click.option(
    "--requests-per-second",
    "rate",
    type=_rate,
    metavar="N",
    help="of each worker; an application of a batch counts like a request (default: the service's)",
)
@_file
def create(*, name: str, scopes: tuple[str, ...], rate: float | None, file: Path | None) -> None:
    """Make a key and print it, this once."""
    now = datetime.now(UTC).replace(microsecond=0)
    wanted = tuple(Scope(scope) for scope in dict.fromkeys(scopes))
    issued = issue(name, wanted, created=now, requests_per_second=rate)
    create_key(_named(file), issued)
    sys.stdout.write(f"{issued.secret}\n")
    sys.stderr.write(f"key {issued.key.id} for {issued.key.name}; it is not shown again\n")


@keys.command()
@click.argument("key")
@_file
def revoke(*, key: str, file: Path | None) -> None:
    """Take a key back: KEY is its id or the name it was given, never the key itself."""
    revoked = revoke_key(_named(file), key)
    sys.stdout.write(f"key {revoked.id} of {revoked.name} is revoked\n")


@keys.command("list")
@_file
def list_keys(*, file: Path | None) -> None:
    """Show the keys in force, without the keys."""
    for key in KeyFile.read(_named(file)).keys:
        rate = "" if key.requests_per_second is None else f"  {key.requests_per_second:g}/s"
        sys.stdout.write(f"{key.id}  {key.created:%Y-%m-%d}  {key.name}  {','.join(key.scopes)}{rate}\n")
