"""`python -m deploy.capacity`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from benchmarks.results import Comparison
from deploy.capacity.page import put, section
from deploy.capacity.settings import CapacitySettings
from jobs.commandline import PATH, Command, run_command

_ROOT = Path(__file__).resolve().parents[2]
_PAGE = "docs/how-to/capacity.md"
_RESULTS = _ROOT / "benchmarks" / "results" / "comparison.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 if it succeeded, 1 after one line on standard error if it did not."""
    return run_command(plan, arguments, program="python -m deploy.capacity", at_once=True)


@click.command(cls=Command, help=sys.modules["deploy.capacity"].__doc__)
@click.option("--comparison", type=PATH, default=_RESULTS, help="results of `python -m benchmarks run`")
@click.option("--settings", type=PATH, default=_ROOT / "configs" / "capacity.yaml")
@click.option("--page", type=PATH, default=_ROOT / _PAGE, help=f"default: {_PAGE}")
def plan(*, comparison: Path, settings: Path, page: Path) -> None:
    """Write the plan into a page."""
    loaded = CapacitySettings.load(settings)
    text = section(Comparison.read(comparison), loaded)
    put(text, page)
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
