"""`python -m monitoring fairness`: approvals, errors and calibration by protected group."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from decision_log.format import stated_hash
from decision_log.reader import DecisionLogReader
from jobs.output import write_json
from jobs.progress import Progress
from monitoring.commands.options import add_json, add_model, add_parser, add_period, say, warn_of
from monitoring.commands.performance import add_outcomes, outcomes_of
from monitoring.settings import MonitoringSettings
from monitoring.sources import load_model


def add_fairness(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = add_parser(commands, "fairness", "screen decisions by protected group; a signal, never an exit code")
    parser.add_argument("--log", type=Path, required=True, metavar="DIR", help="a decision log")
    add_protected(parser, required=True)
    add_outcomes(parser)
    add_period(parser)
    add_model(parser)
    add_json(parser)
    parser.set_defaults(run=_fairness)


def add_protected(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """Option --protected."""
    shown = ".csv or .parquet with client_id, or request_id and index; every other column is a protected attribute"
    parser.add_argument("--protected", type=Path, required=required, metavar="FILE", help=shown)


def _fairness(options: argparse.Namespace) -> int:
    from monitoring.fairness import decided, read_protected, screen, screening_json, screening_lines

    settings = MonitoringSettings.load(options.settings).fairness
    artefact = load_model(options.model).artefact
    protected = read_protected(options.protected, stated_hash(os.environ))
    log = DecisionLogReader(options.log, digest=artefact.digest, since=options.since, until=options.until)
    with Progress().step("decisions") as advance:
        decisions = decided(log, protected, outcomes_of(options.outcomes), advance)
    warn_of(log)
    screenings = screen(decisions, settings)
    if options.json:
        write_json(options.json, {"model_digest": artefact.digest, **screening_json(screenings)})
    unknown = [f"  {decisions.unknown:,} decisions of applicants without protected attributes are left out"]
    if decisions.ambiguous:
        unknown.append(f"  {decisions.ambiguous:,} decisions whose request_id names several decisions are left out")
    say([*screening_lines(screenings), *unknown])
    return 0
