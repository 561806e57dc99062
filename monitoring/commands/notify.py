"""`python -m monitoring notify`: tells of an alarm that another program found; and --notify of commands that judge."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from monitoring.errors import NotificationError
from monitoring.notification.alarm import Alarm
from monitoring.notification.delivery import Webhook
from monitoring.notification.ledger import Ledger
from monitoring.notification.notifier import Notifier, Outcome
from monitoring.notification.settings import NotificationSettings
from monitoring.settings import MonitoringSettings

ADDRESS = "MONITORING_WEBHOOK_URL"
"""The environment variable that holds the receiver's address, which may be a secret."""

_LEDGER = Path(".monitoring/told.json")
_SETTINGS = Path("configs/monitoring.yaml")
_SEVERITIES = ("critical", "warning", "info")


def add_notify(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser("notify", help=f"tell the receiver in {ADDRESS} of an alarm, or of its end")
    parser.add_argument("--name", required=True, help="of the alarm")
    parser.add_argument("--severity", choices=_SEVERITIES, default="warning", help="default: %(default)s")
    parser.add_argument("--summary", required=True, help="one line")
    parser.add_argument("--resolved", action="store_true", help="the alarm has ended")
    parser.add_argument("--ledger", type=Path, default=_LEDGER, help="what was told already (default: %(default)s)")
    parser.add_argument("--settings", type=Path, default=_SETTINGS, help="default: %(default)s")
    parser.set_defaults(run=_notify)


def add_notify_options(parser: argparse.ArgumentParser) -> None:
    """Let a command that judges tell of what it finds."""
    parser.add_argument("--notify", action="store_true", help=f"tell the receiver in {ADDRESS} of an alarm and its end")
    parser.add_argument("--ledger", type=Path, default=_LEDGER, help="what was told already (default: %(default)s)")


def tell(alarm: Alarm, settings: NotificationSettings, ledger: Path) -> Outcome:
    """Tell the receiver that the environment names; NotificationError if there is none or it cannot be told."""
    address = os.environ.get(ADDRESS)
    if not address:
        raise NotificationError(f"{ADDRESS} is not set: nobody to tell")
    return Notifier(Webhook(address, settings), Ledger(ledger), settings).tell(alarm, datetime.now(UTC))


def tell_reasons(
    check: str, reasons: Sequence[str], digest: str, settings: NotificationSettings, ledger: Path
) -> Outcome:
    """Tell what a check of the model with the digest found: the reasons for an alarm, or that there is none."""
    summary = "; ".join(reasons) or "no alarm"
    alarm = Alarm(check, bool(reasons), "warning", summary, labels={"model_digest": digest[:12]})
    return tell(alarm, settings, ledger)


def _notify(options: argparse.Namespace) -> int:
    settings = MonitoringSettings.load(options.settings).notification
    alarm = Alarm(options.name, not options.resolved, options.severity, options.summary)
    sys.stdout.write(f"{alarm.name}: {tell(alarm, settings, options.ledger)}\n")
    return 0
