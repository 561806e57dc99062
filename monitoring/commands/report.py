"""`python -m monitoring report`: everything about the decisions in a log, on one HTML page."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from decision_log.format import stated_hash
from decision_log.reader import DecisionLogReader
from jobs.output import write_text
from jobs.progress import Progress
from monitoring.commands.fairness import add_protected
from monitoring.commands.options import add_model, add_parser, add_period, say, warn_of
from monitoring.commands.performance import add_outcomes, outcomes_of
from monitoring.drift import judge
from monitoring.settings import MonitoringSettings
from monitoring.sources import load_model, window_of_log
from scoring.scorer import Scorer

_MINUTE = "%Y-%m-%d %H:%M"


def add_report(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = add_parser(commands, "report", "write one HTML page about the decisions in a log")
    parser.add_argument("--log", type=Path, required=True, metavar="DIR", help="a decision log")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE.html", help="the page")
    add_outcomes(parser)
    add_protected(parser, required=False)
    add_period(parser)
    add_model(parser)
    parser.set_defaults(run=_report)


def _report(options: argparse.Namespace) -> int:
    from monitoring.report import whole_page

    settings = MonitoringSettings.load(options.settings)
    scorer = load_model(options.model)
    log = DecisionLogReader(options.log, digest=scorer.artefact.digest, since=options.since, until=options.until)
    parts = [*_parts(options, scorer, log, settings)]
    write_text(options.output, whole_page("Monitoring report", parts))
    warn_of(log)
    say([f"{options.output}: {options.output.stat().st_size:,} bytes"])
    return 0


def _parts(
    options: argparse.Namespace, scorer: Scorer, log: DecisionLogReader, settings: MonitoringSettings
) -> Iterator[str]:
    from monitoring.fairness import decided, read_protected, screen
    from monitoring.performance import perform
    from monitoring.report import drift_section, fairness_section, paragraph, performance_section

    artefact = scorer.artefact
    with Progress().step("period") as advance:
        span = " to ".join(f"{end:{_MINUTE}}" for end in log.span(advance))
    yield paragraph(
        f"Model {artefact.digest[:12]}; decisions from {span}; written {datetime.now(UTC):{_MINUTE}}, all UTC"
    )
    with Progress().step("drift") as advance:
        logged = window_of_log(log, artefact.reference, advance)
    judgement = judge(artefact.reference, logged.window, settings.drift, whole=logged.whole)
    yield from drift_section(judgement, artefact.reference, logged.window, artefact.features.vocabularies)
    outcomes = outcomes_of(options.outcomes)
    with Progress().step("performance") as advance:
        yield from performance_section(perform(log, outcomes, artefact.policy, settings.performance, advance))
    if options.protected:
        protected = read_protected(options.protected, stated_hash(os.environ))
        with Progress().step("fairness") as advance:
            yield from fairness_section(screen(decided(log, protected, outcomes, advance), settings.fairness))
