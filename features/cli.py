"""`python -m features`: rolls up the histories of clients, for the feature store and for files."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jobs.commandline import PATH, CommandGroup, Progress, moment, run_command, say
from jobs.destination import without_secrets

if TYPE_CHECKING:
    from features.portfolio import Portfolio

_TRAINING = Path(__file__).resolve().parent.parent / "configs" / "training.yaml"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 if it succeeded, 1 after one line on standard error if not, 128 + n if signal n ended it."""
    return run_command(commands, arguments, program="python -m features")


@click.group(cls=CommandGroup, help=sys.modules[__name__].__doc__)
def commands() -> None:
    """Hold the commands."""


def _common(command: Any) -> Any:
    for option in (
        click.option("--as-of", type=moment, help="moment for which the histories stand (default: when "
                     "the oldest of the files was written)"),
        click.option("--portfolio", type=PATH, help="folder or file of the portfolio "
                     "(default: that of configs/training.yaml)"),
        click.option("--data", type=PATH, required=True, help="folder with the files of the histories"),
    ):  # fmt: skip
        command = option(command)
    return command


@commands.command()
@_common
@click.option("--store", metavar="ADDRESS",
              help="feature store: sqlite:///PATH or redis://HOST:PORT/0 (default: that of FEATURE_STORE, or of the "
              "file that FEATURE_STORE_FILE names)")  # fmt: skip
def materialize(*, data: Path, portfolio: Path | None, as_of: datetime | None, store: str | None) -> None:
    """Fill the feature store with the roll-ups of the clients in the files; other clients keep theirs."""
    from features.materialize import Inputs, is_filled_with, roll_up_clients
    from features.materialize import materialize as fill
    from features.store import stated_address

    address = stated_address(os.environ) if store is None else store
    if address is None:
        raise click.UsageError("--store, FEATURE_STORE or FEATURE_STORE_FILE must name the feature store")
    declared, progress = _portfolio(portfolio), Progress()
    inputs = Inputs.of(data, declared, as_of)
    moment_of = as_of or inputs.newest
    if is_filled_with(address, declared, inputs):
        say([f"{without_secrets(address)}: nothing to do: these files as of {moment_of:%Y-%m-%d %H:%M} UTC are in it"])
        return
    rolled_up = roll_up_clients(data, declared, moment_of, progress)
    with progress.step("write the store"):
        fill(address, declared, rolled_up, moment_of, inputs.fingerprint)
    say([f"{without_secrets(address)}: {len(rolled_up.clients):,} clients as of {moment_of:%Y-%m-%d %H:%M} UTC"])


@commands.command()
@_common
@click.option("--output", type=PATH, required=True, help="Parquet file to write")
def export(*, data: Path, portfolio: Path | None, as_of: datetime | None, output: Path) -> None:
    """Write the roll-ups as Parquet, with an event_timestamp, for offline stores and for files of applications."""
    from features.materialize import Inputs, roll_up_clients
    from features.materialize import export as write

    declared = _portfolio(portfolio)
    moment_of = as_of or Inputs.of(data, declared, as_of).newest
    rolled_up = roll_up_clients(data, declared, moment_of, Progress())
    write(output, declared, rolled_up, moment_of)
    say([f"{output}: {len(rolled_up.clients):,} clients as of {moment_of:%Y-%m-%d %H:%M} UTC"])


def _portfolio(path: Path | None) -> Portfolio:
    from features.portfolio import Portfolio

    return Portfolio.load(path) if path else Portfolio.named_in(_TRAINING)
