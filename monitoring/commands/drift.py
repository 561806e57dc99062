"""`python -m monitoring drift`: judge live counts, a decision log, or two files."""

from __future__ import annotations

import argparse
from pathlib import Path

from decision_log.errors import SourceError
from decision_log.reader import DecisionLogReader
from features.schema import Calendar
from jobs.output import write_json
from jobs.progress import Progress
from monitoring.commands.notify import add_notify_options, tell_reasons
from monitoring.commands.options import ALARM, add_json, add_model, add_parser, add_period, say, warn_of
from monitoring.drift import WHOLE, judge, judgement_json, judgement_lines
from monitoring.settings import MonitoringSettings
from monitoring.sources import load_model, window_of_file, window_of_log, window_of_services
from scoring.drift_reference import Window
from scoring.scorer import Scorer


def add_drift(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = add_parser(
        commands, "drift", "judge whether what is scored has drifted from the model's reference", alarms=True
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--live", nargs="+", metavar="URL", help="running services; the counts of pods add up")
    source.add_argument("--log", type=Path, metavar="DIR", help="a decision log")
    source.add_argument("--current", type=Path, metavar="FILE", help="raw applications, .csv or .parquet")
    parser.add_argument("--reference", type=Path, metavar="FILE", help="compare --current with these applications "
                        "rather than with the model's own reference")  # fmt: skip
    parser.add_argument("--whole-weeks", action="store_true", help="the files hold applications of whole weeks: judge "
                        "hours and weekdays too; else nothing is assumed of their time")  # fmt: skip
    parser.add_argument("--last-window", action="store_true", help="of --live: the last complete windows only")
    add_period(parser)
    add_model(parser)
    add_json(parser)
    add_notify_options(parser)
    parser.set_defaults(run=_drift)


def _drift(options: argparse.Namespace) -> int:
    settings = MonitoringSettings.load(options.settings)
    scorer = load_model(options.model)
    window, whole, said = _window(options, scorer)
    base = None
    if options.whole_weeks and not options.current:
        raise SourceError("--whole-weeks goes with --current")
    if options.reference:
        if not options.current:
            raise SourceError("--reference goes with --current")
        base = _file(options.reference, scorer)[0]
    judgement = judge(scorer.artefact.reference, window, settings.drift, base=base, whole=whole)
    if options.json:
        write_json(options.json, {"model_digest": scorer.artefact.digest, **judgement_json(judgement)})
    say([*judgement_lines(judgement), *said])
    if options.notify:
        digest = scorer.artefact.digest
        tell_reasons("drift", judgement.reasons, digest, settings.notification)
    return ALARM if judgement.alarm else 0


def _window(options: argparse.Namespace, scorer: Scorer) -> tuple[Window, frozenset[Calendar], list[str]]:
    """What is to be judged, the calendars of which it covers whole periods, and what else is to be said of it."""
    artefact = scorer.artefact
    if options.live:
        return *window_of_services(options.live, artefact, last=options.last_window), []
    if options.current:
        window, said = _file(options.current, scorer)
        return window, WHOLE if options.whole_weeks else frozenset(), said
    log = DecisionLogReader(options.log, digest=artefact.digest, since=options.since, until=options.until)
    with Progress().step("decisions") as advance:
        logged = window_of_log(log, artefact.reference, advance)
    warn_of(log)
    return logged.window, logged.whole, []


def _file(path: Path, scorer: Scorer) -> tuple[Window, list[str]]:
    with Progress().step(str(path)) as advance:
        counted = window_of_file(path, scorer, advance)
    rules = [f"  {rule}: {count} rows of {path}" for rule, count in counted.broken_rules.items()]
    said = ["rows that break a declared rule, counted all the same:", *rules] if rules else []
    for what, names in (
        ("missing in every row", counted.never_stated),
        ("not declared and ignored", counted.ignored_columns),
    ):
        if names:
            said.append(f"{path}: {what}: {', '.join(names)}")
    return counted.window, said
