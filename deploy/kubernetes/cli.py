"""`python -m deploy.kubernetes`: check."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from deploy.command import reported
from deploy.kubernetes.check import check


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 if it succeeded, 1 after one line on standard error if it did not."""
    description = sys.modules["deploy.kubernetes"].__doc__
    parser = argparse.ArgumentParser(prog="python -m deploy.kubernetes", description=description)
    commands = parser.add_subparsers(required=True, metavar="command")
    checking = commands.add_parser("check", help="validate every overlay, and hold it to checkov's policies")
    checking.add_argument("--tools", type=Path, required=True, help="folder of checkov and kubernetes-validate")
    checking.set_defaults(run=_check)
    options = parser.parse_args(arguments)
    return reported(lambda: options.run(options))


def _check(options: argparse.Namespace) -> None:
    for line in check(options.tools):
        sys.stdout.write(f"{line}\n")
