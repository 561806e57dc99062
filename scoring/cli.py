"""`python -m scoring`: batch."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from features import FeatureError

from .batch import score_files
from .errors import ScoringError
from .progress import Progress
from .stored import load_stored

_MODEL = "credit_scoring_production_model"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 if it succeeded, 1 after one line on standard error if it did not."""
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
    except (FeatureError, ScoringError) as error:
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
    batch.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="default: one for each processor")
    batch.set_defaults(command=_batch)
    return parser


def _batch(options: argparse.Namespace) -> None:
    model = load_stored(options.model, threads=options.threads)
    with Progress().step("applications") as advance:
        summary = score_files(options.input, options.output, model, chunk_rows=options.chunk_rows, progress=advance)
    sys.stdout.write(
        f"{summary.rows} applications by {summary.model}:{summary.version}: "
        f"{summary.rows - summary.rejected} scored, {summary.rejected} rejected; {options.output}\n"
    )
