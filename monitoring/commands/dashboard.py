"""`python -m monitoring dashboard`: what Grafana reads, from the settings."""

from __future__ import annotations

import argparse
from pathlib import Path

from monitoring.deployment import grafana_files, write
from monitoring.settings import MonitoringSettings

_SETTINGS = Path("configs/monitoring.yaml")
_OUTPUT = Path("deploy/grafana")


def add_dashboard(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser("dashboard", help="write the Grafana dashboard and its provisioning")
    parser.add_argument("--output", type=Path, default=_OUTPUT, metavar="DIR", help="default: %(default)s")
    parser.add_argument("--settings", type=Path, default=_SETTINGS, help="default: %(default)s")
    parser.set_defaults(run=_write)


def _write(options: argparse.Namespace) -> int:
    write(grafana_files(MonitoringSettings.load(options.settings)), options.output)
    return 0
