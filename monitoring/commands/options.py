"""Options that several commands share, and how they end."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from decision_log.reader import DecisionLogReader

ALARM = 3
"""Exit code of a command that did its work and raised the alarm."""

_SETTINGS = Path("configs/monitoring.yaml")
_MODEL = "credit_scoring_production_model"
_ENDS = "exit code: 0 done, 1 an error, said in one line, 2 wrong usage"
_ALARM_ENDS = "exit code: 0 no alarm, 3 alarm, 1 an error, said in one line, 2 wrong usage"


def add_parser(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, summary: str, *, alarms: bool = False
) -> argparse.ArgumentParser:
    """A command with the option --settings; one that `alarms` says so by its exit code."""
    parser = commands.add_parser(name, help=summary, epilog=_ALARM_ENDS if alarms else _ENDS)
    parser.add_argument("--settings", type=Path, default=_SETTINGS, help="default: %(default)s")
    return parser


def add_json(parser: argparse.ArgumentParser) -> None:
    """Option --json."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was found there as well")


def add_model(parser: argparse.ArgumentParser) -> None:
    """Option --model."""
    shown = "tag in the BentoML model store, or the directory of an artefact (default: %(default)s:latest)"
    parser.add_argument("--model", default=_MODEL, help=shown)


def add_period(parser: argparse.ArgumentParser) -> None:
    """Options --since and --until."""
    parser.add_argument(
        "--since", type=moment, metavar="TIME", help="decisions from then on: RFC 3339, or a date (UTC)"
    )
    parser.add_argument("--until", type=moment, metavar="TIME", help="decisions before then")


def moment(text: str) -> datetime:
    """A time as it is written in RFC 3339; UTC where no zone is given."""
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text}: not a time, such as 2026-01-31 or 2026-01-31T12:00:00Z") from None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def say(lines: Iterable[str]) -> None:
    """Lines on standard output."""
    sys.stdout.write("".join(f"{line}\n" for line in lines))


def warn_of(log: DecisionLogReader) -> None:
    """Lines on standard error for what was passed over in a log; the figures lack it."""
    sys.stderr.write("".join(f"warning: {line}\n" for line in log.remarks()))
