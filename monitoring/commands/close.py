"""`python -m monitoring close`: what workers have written becomes Parquet."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

from decision_log.closing import close
from monitoring.settings import MonitoringSettings

_SETTINGS = Path("configs/monitoring.yaml")


def add_close(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser("close", help="turn the finished segments of a decision log into Parquet")
    parser.add_argument("--log", type=Path, required=True, metavar="DIR", help="the decision log")
    parser.add_argument("--settings", type=Path, default=_SETTINGS, help="default: %(default)s")
    parser.set_defaults(run=_close)


def _close(options: argparse.Namespace) -> int:
    settings = MonitoringSettings.load(options.settings).recording.log
    done = close(options.log, settings, datetime.now(UTC))
    sys.stdout.write(
        f"{done.segments:,} segments closed with {done.decisions:,} decisions; {done.held:,} still being written;"
        f" {done.expired:,} older than {settings.retention_days} days removed; {len(done.aside):,} files set aside\n"
    )
    sys.stderr.write("".join(f"warning: {line}\n" for line in done.aside))
    return 0
