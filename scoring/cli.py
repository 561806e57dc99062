"""`python -m scoring`: batch, keys."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from access import AccessError
from features import FeatureError

from .batch import score_files
from .errors import OutputError, ScoringError
from .keys import add_keys
from .progress import Progress
from .stopping import until_stopped
from .stored import load_stored
from .summary import Summary

_MODEL = "credit_scoring_production_model"
_LISTED = 8
_PROCESSORS = os.cpu_count() or 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 if it succeeded, 1 after one line on standard error if not, 128 + n if signal n ended it."""
    options = _parser().parse_args(arguments)
    return until_stopped(lambda: _execute(options))


def _execute(options: argparse.Namespace) -> int:
    try:
        options.command(options)
    except (AccessError, FeatureError, ScoringError) as error:
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
    model = load_stored(options.model, threads=options.threads)
    with Progress().step("applications") as advance:
        summary = score_files(options.input, options.output, model, chunk_rows=options.chunk_rows, progress=advance)
    sys.stdout.write("".join(f"{line}\n" for line in _lines(summary, options.output)))
    if summary.rejected == summary.rows:
        raise OutputError(f"{options.input}: no application could be scored; {options.output} says why")
    if summary.rejected > options.max_rejected * summary.rows:
        limit = f"more than the share {options.max_rejected:g} of --max-rejected"
        raise OutputError(
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
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more
