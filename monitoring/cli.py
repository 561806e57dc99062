"""`python -m monitoring`: one command from each file of `commands`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from decision_log.errors import RecordError
from features.errors import FeatureError
from jobs.errors import JobError
from jobs.progress import until_stopped
from monitoring.commands import COMMANDS
from monitoring.errors import MonitoringError
from scoring.errors import ScoringError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command: its exit code, 1 after one line on standard error if it failed, 128 + n if signal n ended it."""
    options = _parser().parse_args(arguments)
    return until_stopped(lambda: _execute(options))


def _execute(options: argparse.Namespace) -> int:
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        return run(options)
    except (FeatureError, JobError, ScoringError, RecordError, MonitoringError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m monitoring", description=sys.modules["monitoring"].__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    for add in COMMANDS:
        add(commands)
    return parser
