"""`python -m deploy.observability`: write the files of Prometheus, Alertmanager and Grafana."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from deploy.observability import __doc__ as description
from deploy.observability.files import rendered, written
from deploy.observability.settings import Observed
from deploy.settings import ROOT
from jobs.commandline import PATH, Command, run_command


def main(arguments: Sequence[str] | None = None) -> int:
    """0 if the files were written, 1 after one line on standard error if not."""
    return run_command(write, arguments, program="python -m deploy.observability", at_once=True)


def _settings(name: str) -> Path:
    return ROOT / "configs" / f"{name}.yaml"


@click.command(cls=Command, help=description)
@click.option("--monitoring", type=PATH, default=_settings("monitoring"), metavar="FILE", show_default=True)
@click.option("--serving", type=PATH, default=_settings("serving"), metavar="FILE", show_default=True)
@click.option("--output", type=PATH, default=ROOT / "deploy", metavar="DIR", show_default=True)
def write(*, monitoring: Path, serving: Path, output: Path) -> None:
    """Write the files."""
    written(rendered(Observed.load(monitoring, serving)), output)


if __name__ == "__main__":
    sys.exit(main())
