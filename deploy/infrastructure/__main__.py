"""`python -m deploy.infrastructure`: check, rehearse."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from deploy.infrastructure.account import account
from deploy.infrastructure.rehearsal import rehearse
from deploy.infrastructure.terraform import ROOT, Terraform
from deploy.record import write_record
from jobs.commandline import PATH, CommandGroup, run_command, say

_RESULTS = ROOT / "deploy" / "terraform" / "rehearsal.json"

_plugins = click.option("--plugins", type=PATH, metavar="DIR",
                        help="folder that holds the provider, where HashiCorp's registry is out of reach")  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 if it succeeded, 1 after one line on standard error if it did not."""
    return run_command(commands, arguments, program="python -m deploy.infrastructure", at_once=True)


@click.group(cls=CommandGroup, help=sys.modules["deploy.infrastructure"].__doc__)
def commands() -> None:
    """Hold the commands."""


@commands.command()
@_plugins
def check(*, plugins: Path | None) -> None:
    """Check with terraform fmt, validate and test."""
    with Terraform.copied(plugins) as terraform:
        passed = terraform.check()
    say([f"formatted, valid, {passed} tests passed"])


@commands.command("rehearse")
@_plugins
@click.option("--results", type=PATH, default=_RESULTS, show_default=True)
def rehearse_all(*, plugins: Path | None, results: Path) -> None:
    """Apply, plan again and destroy, against moto on loopback."""
    with Terraform.copied(plugins) as terraform, account() as aws:
        rehearsal = rehearse(terraform, aws)
    write_record(results, "make terraform-rehearse", rehearsal.as_json())
    say([str(rehearsal)])


if __name__ == "__main__":
    sys.exit(main())
