"""`python -m deploy.infrastructure`: check, rehearse."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from deploy.command import reported
from deploy.infrastructure.account import account
from deploy.infrastructure.rehearsal import rehearse
from deploy.infrastructure.terraform import ROOT, Terraform
from deploy.record import write_record

_RESULTS = ROOT / "deploy" / "terraform" / "rehearsal.json"
_MIRROR = "folder that holds the provider, where HashiCorp's registry is out of reach"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 if it succeeded, 1 after one line on standard error if it did not."""
    parser = argparse.ArgumentParser(
        prog="python -m deploy.infrastructure", description=sys.modules["deploy.infrastructure"].__doc__
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    checking = commands.add_parser("check", help="terraform fmt, validate and test")
    checking.add_argument("--plugins", type=Path, metavar="DIR", help=_MIRROR)
    checking.set_defaults(run=_check)
    rehearsing = commands.add_parser("rehearse", help="apply, plan again and destroy, against moto on loopback")
    rehearsing.add_argument("--plugins", type=Path, metavar="DIR", help=_MIRROR)
    rehearsing.add_argument("--results", type=Path, default=_RESULTS, help="default: %(default)s")
    rehearsing.set_defaults(run=_rehearse)
    options = parser.parse_args(arguments)
    return reported(lambda: options.run(options))


def _check(options: argparse.Namespace) -> None:
    with Terraform.copied(options.plugins) as terraform:
        passed = terraform.check()
    sys.stdout.write(f"formatted, valid, {passed} tests passed\n")


def _rehearse(options: argparse.Namespace) -> None:
    with Terraform.copied(options.plugins) as terraform, account() as aws:
        rehearsal = rehearse(terraform, aws)
    write_record(options.results, "make terraform-rehearse", rehearsal.as_json())
    sys.stdout.write(f"{rehearsal}\n")
