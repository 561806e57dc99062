"""`python -m monitoring performance`: what became of the decisions in a log."""

from __future__ import annotations

import argparse
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from decision_log.errors import SourceError
from decision_log.format import stated_hash
from decision_log.reader import DecisionLogReader
from jobs.output import write_json
from jobs.progress import Progress
from monitoring.commands.notify import add_notify_options, tell_reasons
from monitoring.commands.options import ALARM, add_json, add_model, add_parser, add_period, say, warn_of
from monitoring.performance import Figures
from monitoring.settings import MonitoringSettings
from monitoring.sources import load_model

if TYPE_CHECKING:
    from monitoring.outcomes import Outcomes


def add_performance(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = add_parser(
        commands, "performance", "measure decisions against outcomes, or estimate without any", alarms=True
    )
    parser.add_argument("--log", type=Path, required=True, metavar="DIR", help="a decision log")
    add_outcomes(parser)
    add_period(parser)
    add_model(parser)
    add_json(parser)
    parser.add_argument("--metrics", type=Path, metavar="FILE", help="write what was realised there, for node_exporter")
    add_notify_options(parser)
    parser.set_defaults(run=_performance)


def add_outcomes(parser: argparse.ArgumentParser) -> None:
    """Option --outcomes."""
    shown = ".csv or .parquet with outcome (1 default, 0 repaid, empty unknown) and client_id, or request_id and index"
    parser.add_argument("--outcomes", type=Path, metavar="FILE", help=shown)


def outcomes_of(path: Path | None) -> Outcomes | None:
    """The outcomes in a file, client ids hashed with the key of the decision log where it is set."""
    from monitoring.outcomes import read_outcomes

    if path is None:
        return None
    return read_outcomes(path, stated_hash(os.environ))


def _performance(options: argparse.Namespace) -> int:
    from monitoring.performance import perform, performance_json, performance_lines

    if options.metrics and not options.outcomes:
        raise SourceError("--metrics goes with --outcomes")
    settings = MonitoringSettings.load(options.settings)
    artefact = load_model(options.model).artefact
    log = DecisionLogReader(options.log, digest=artefact.digest, since=options.since, until=options.until)
    with Progress().step("decisions") as advance:
        performance = perform(log, outcomes_of(options.outcomes), artefact.policy, settings.performance, advance)
    warn_of(log)
    if options.json:
        write_json(options.json, {"model_digest": artefact.digest, **performance_json(performance)})
    if options.metrics and performance.realised:
        Figures.of(performance.realised, artefact.digest, datetime.now(UTC)).write(options.metrics)
    say(performance_lines(performance))
    if options.notify:
        tell_reasons("performance", performance.reasons, artefact.digest, settings.notification)
    return ALARM if performance.alarm else 0
