"""`python -m deploy.image`: build, check, audit."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from deploy.image.audit import LOCKS, audit
from deploy.image.build import BASE, build
from deploy.image.check import RESULTS, check
from jobs.commandline import PATH, CommandGroup, run_command, say

_BENTO = "credit_scoring:latest"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 if it succeeded, 1 after one line on standard error if it did not."""
    return run_command(commands, arguments, program="python -m deploy.image", at_once=True)


@click.group(cls=CommandGroup, help=sys.modules["deploy.image"].__doc__)
def commands() -> None:
    """Hold the commands."""


@commands.command("build")
@click.option("--bento", default=_BENTO, show_default=True, help="tag in the BentoML store")
@click.option("--base", default=BASE, show_default=True, help="best with its digest")
@click.option("--pinned", is_flag=True, help="refuse a base that has no digest, since a tag can be moved")
def build_images(*, bento: str, base: str, pinned: bool) -> None:
    """Build the serving image of a Bento, and the offline image with it."""
    images = build(bento, base, pinned=pinned)
    say([images.serving, images.offline])


@commands.command("check")
@click.argument("image")
@click.option("--results", type=PATH, default=RESULTS, show_default=True)
def check_image(*, image: str, results: Path) -> None:
    """Run the serving image hardened, and hold it to its limits."""
    say(check(image, results))


@commands.command("audit")
@click.argument("locks", nargs=-1, type=PATH)
@click.option("--tools", type=PATH, required=True, help="folder of pip-audit")
def audit_locks(*, locks: Sequence[Path], tools: Path) -> None:
    """List known vulnerabilities of what LOCKS install, by default requirements/*.txt."""
    say(audit(locks or LOCKS, tools))


if __name__ == "__main__":
    sys.exit(main())
