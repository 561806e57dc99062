"""Puts together what MkDocs reads: `python -m docs OUTPUT`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from docs.pages import write_pages
from jobs.commandline import PATH, Command, run_command


@click.command(cls=Command)
@click.argument("output", type=PATH)
def write(*, output: Path) -> None:
    """Write every page below the folder OUTPUT, which is emptied before."""
    write_pages(output)


if __name__ == "__main__":
    sys.exit(run_command(write, None, program="python -m docs"))
