"""`python -m deploy.kubernetes`: check."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from deploy.kubernetes.check import check
from jobs.commandline import PATH, CommandGroup, run_command, say


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 if it succeeded, 1 after one line on standard error if it did not."""
    return run_command(commands, arguments, program="python -m deploy.kubernetes", at_once=True)


@click.group(cls=CommandGroup, help=sys.modules["deploy.kubernetes"].__doc__)
def commands() -> None:
    """Hold the commands."""


@commands.command("check")
@click.option("--tools", type=PATH, required=True, help="folder of checkov and kubernetes-validate")
def check_overlays(*, tools: Path) -> None:
    """Validate every overlay, and hold it to checkov's policies."""
    for line in check(tools):
        say([line])


if __name__ == "__main__":
    sys.exit(main())
