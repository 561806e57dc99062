"""`python -m deploy.image`: build, check, audit."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from deploy.command import reported
from deploy.image.audit import LOCKS, audit
from deploy.image.build import BASE, build
from deploy.image.check import RESULTS, check

_BENTO = "credit_scoring:latest"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 if it succeeded, 1 after one line on standard error if it did not."""
    parser = argparse.ArgumentParser(prog="python -m deploy.image", description=sys.modules["deploy.image"].__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    building = commands.add_parser("build", help="build the serving image of a Bento, and the offline image with it")
    building.add_argument("--bento", default=_BENTO, help="tag in the BentoML store (default: %(default)s)")
    building.add_argument("--base", default=BASE, help="best with its digest (default: %(default)s)")
    building.add_argument(
        "--pinned", action="store_true", help="refuse a base that has no digest, since a tag can be moved"
    )
    building.set_defaults(run=_build)
    checking = commands.add_parser("check", help="run the serving image hardened, and hold it to its limits")
    checking.add_argument("image", help="its reference")
    checking.add_argument("--results", type=Path, default=RESULTS, help="default: %(default)s")
    checking.set_defaults(run=_check)
    auditing = commands.add_parser("audit", help="list known vulnerabilities of what the locks install")
    auditing.add_argument("locks", nargs="*", type=Path, default=LOCKS, help="default: requirements/*.txt")
    auditing.add_argument("--tools", type=Path, required=True, help="folder of pip-audit")
    auditing.set_defaults(run=_audit)
    options = parser.parse_args(arguments)
    return reported(lambda: options.run(options))


def _build(options: argparse.Namespace) -> None:
    images = build(options.bento, options.base, pinned=options.pinned)
    sys.stdout.write(f"{images.serving}\n{images.offline}\n")


def _check(options: argparse.Namespace) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in check(options.image, options.results)))


def _audit(options: argparse.Namespace) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in audit(options.locks, options.tools)))
