"""`python -m deploy.capacity`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.errors import BenchmarkError
from benchmarks.results import Comparison
from deploy.capacity.page import put, section
from deploy.capacity.settings import CapacitySettings
from deploy.command import reported
from deploy.errors import DeployError
from jobs.errors import JobError

_ROOT = Path(__file__).resolve().parents[2]
_PAGE = "docs/how-to/capacity.md"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the plan into a page; 0 if it succeeded, 1 after one line on standard error if it did not."""
    parser = argparse.ArgumentParser(
        prog="python -m deploy.capacity", description=sys.modules["deploy.capacity"].__doc__
    )
    results = _ROOT / "benchmarks" / "results" / "comparison.json"
    parser.add_argument("--comparison", type=Path, default=results, help="results of `python -m benchmarks run`")
    parser.add_argument("--settings", type=Path, default=_ROOT / "configs" / "capacity.yaml")
    parser.add_argument("--page", type=Path, default=_ROOT / _PAGE, help=f"default: {_PAGE}")
    options = parser.parse_args(arguments)
    return reported(lambda: _plan(options))


def _plan(options: argparse.Namespace) -> None:
    try:
        settings = CapacitySettings.load(options.settings)
        comparison = Comparison.read(options.comparison)
    except (BenchmarkError, JobError) as error:
        raise DeployError(" ".join(str(error).split())) from None
    text = section(comparison, settings)
    put(text, options.page)
    sys.stdout.write(f"{text}\n")
