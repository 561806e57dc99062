"""`python -m monitoring notify`: tells of an alarm that another program found; and --notify of commands that judge."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from monitoring.notify import ADDRESS, Alarm, Alertmanager
from monitoring.settings import MonitoringSettings, NotificationSettings

_SETTINGS = Path("configs/monitoring.yaml")


def add_notify(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser("notify", help=f"tell the Alertmanager in {ADDRESS} of an alarm, or of its end")
    parser.add_argument("--name", required=True, help="of the alarm")
    parser.add_argument(
        "--severity", choices=("critical", "warning", "info"), default="warning", help="default: %(default)s"
    )
    parser.add_argument("--summary", required=True, help="one line")
    parser.add_argument("--resolved", action="store_true", help="the alarm of this name and severity has ended")
    parser.add_argument("--settings", type=Path, default=_SETTINGS, help="default: %(default)s")
    parser.set_defaults(run=_notify)


def add_notify_options(parser: argparse.ArgumentParser) -> None:
    """Let a command that judges tell of what it finds."""
    shown = f"tell the Alertmanager in {ADDRESS} of an alarm and its end"
    parser.add_argument("--notify", action="store_true", help=shown)


def tell_reasons(check: str, reasons: Sequence[str], digest: str, settings: NotificationSettings) -> None:
    """Tell what a check of the model with the digest found: the reasons for an alarm, or that there is none."""
    summary = "; ".join(reasons) or "no alarm"
    alarm = Alarm(check, bool(reasons), "warning", summary, labels={"model_digest": digest[:12]})
    Alertmanager.named(os.environ, settings).tell(alarm, datetime.now(UTC))


def _notify(options: argparse.Namespace) -> int:
    settings = MonitoringSettings.load(options.settings).notification
    alarm = Alarm(options.name, not options.resolved, options.severity, options.summary)
    Alertmanager.named(os.environ, settings).tell(alarm, datetime.now(UTC))
    sys.stdout.write(f"{alarm.name}: told that it {'fires' if alarm.firing else 'has ended'}\n")
    return 0
