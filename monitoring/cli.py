"""`python -m monitoring`: close, drift, performance, fairness, report, notify."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from decision_log.closing import close
from decision_log.errors import RecordError, SourceError
from decision_log.format import stated_hash
from decision_log.reader import DecisionLogReader
from features.errors import FeatureError
from features.schema import Calendar
from jobs.errors import JobError
from jobs.output import write_json, write_text
from jobs.progress import Progress, until_stopped
from monitoring.drift import WHOLE, judge, judgement_json, judgement_lines
from monitoring.errors import MonitoringError
from monitoring.notify import ADDRESS, Alarm, Alertmanager
from monitoring.performance import Figures
from monitoring.settings import MonitoringSettings, NotificationSettings
from monitoring.sources import load_model, window_of_file, window_of_log, window_of_services
from scoring.drift_reference import Window
from scoring.errors import ScoringError
from scoring.scorer import Scorer

ALARM = 3
"""Exit code of a command that did its work and raised the alarm."""

_SETTINGS = Path("configs/monitoring.yaml")
_MODEL = "credit_scoring_production_model"
_ENDS = "exit code: 0 done, 1 an error, said in one line, 2 wrong usage"
_ALARM_ENDS = "exit code: 0 no alarm, 3 alarm, 1 an error, said in one line, 2 wrong usage"


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
    for add in (_add_close, _add_drift, _add_performance, _add_fairness, _add_report, _add_notify):
        add(commands)
    return parser


def _add_parser(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, summary: str, *, alarms: bool = False
) -> argparse.ArgumentParser:
    """A command with the option --settings; one that `alarms` says so by its exit code."""
    parser = commands.add_parser(name, help=summary, epilog=_ALARM_ENDS if alarms else _ENDS)
    parser.add_argument("--settings", type=Path, default=_SETTINGS, help="default: %(default)s")
    return parser


def _add_json(parser: argparse.ArgumentParser) -> None:
    """Option --json."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was found there as well")


def _add_model(parser: argparse.ArgumentParser) -> None:
    """Option --model."""
    shown = "tag in the BentoML model store, or the directory of an artefact (default: %(default)s:latest)"
    parser.add_argument("--model", default=_MODEL, help=shown)


def _add_period(parser: argparse.ArgumentParser) -> None:
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


def _say(lines: Iterable[str]) -> None:
    """Lines on standard output."""
    sys.stdout.write("".join(f"{line}\n" for line in lines))


def _warn_of(log: DecisionLogReader) -> None:
    """Lines on standard error for what was passed over in a log; the figures lack it."""
    sys.stderr.write("".join(f"warning: {line}\n" for line in log.remarks()))


def _add_close(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
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


def _add_notify(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
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


def _add_notify_options(parser: argparse.ArgumentParser) -> None:
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


def _add_drift(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = _add_parser(
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
    _add_period(parser)
    _add_model(parser)
    _add_json(parser)
    _add_notify_options(parser)
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
    _say([*judgement_lines(judgement), *said])
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
    _warn_of(log)
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


if TYPE_CHECKING:
    from monitoring.outcomes import Outcomes


def _add_performance(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = _add_parser(
        commands, "performance", "measure decisions against outcomes, or estimate without any", alarms=True
    )
    parser.add_argument("--log", type=Path, required=True, metavar="DIR", help="a decision log")
    _add_outcomes(parser)
    _add_period(parser)
    _add_model(parser)
    _add_json(parser)
    parser.add_argument("--metrics", type=Path, metavar="FILE", help="write what was realised there, for node_exporter")
    _add_notify_options(parser)
    parser.set_defaults(run=_performance)


def _add_outcomes(parser: argparse.ArgumentParser) -> None:
    """Option --outcomes."""
    shown = ".csv or .parquet with outcome (1 default, 0 repaid, empty unknown) and client_id, or request_id and index"
    parser.add_argument("--outcomes", type=Path, metavar="FILE", help=shown)


def _outcomes_of(path: Path | None) -> Outcomes | None:
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
        performance = perform(log, _outcomes_of(options.outcomes), artefact.policy, settings.performance, advance)
    _warn_of(log)
    if options.json:
        write_json(options.json, {"model_digest": artefact.digest, **performance_json(performance)})
    if options.metrics and performance.realised:
        Figures.of(performance.realised, artefact.digest, datetime.now(UTC)).write(options.metrics)
    _say(performance_lines(performance))
    if options.notify:
        tell_reasons("performance", performance.reasons, artefact.digest, settings.notification)
    return ALARM if performance.alarm else 0


def _add_fairness(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = _add_parser(commands, "fairness", "screen decisions by protected group; a signal, never an exit code")
    parser.add_argument("--log", type=Path, required=True, metavar="DIR", help="a decision log")
    _add_protected(parser, required=True)
    _add_outcomes(parser)
    _add_period(parser)
    _add_model(parser)
    _add_json(parser)
    parser.set_defaults(run=_fairness)


def _add_protected(parser: argparse.ArgumentParser, *, required: bool) -> None:
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
        decisions = decided(log, protected, _outcomes_of(options.outcomes), advance)
    _warn_of(log)
    screenings = screen(decisions, settings)
    if options.json:
        write_json(options.json, {"model_digest": artefact.digest, **screening_json(screenings)})
    unknown = [f"  {decisions.unknown:,} decisions of applicants without protected attributes are left out"]
    if decisions.ambiguous:
        unknown.append(f"  {decisions.ambiguous:,} decisions whose request_id names several decisions are left out")
    _say([*screening_lines(screenings), *unknown])
    return 0


_MINUTE = "%Y-%m-%d %H:%M"


def _add_report(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = _add_parser(commands, "report", "write one HTML page about the decisions in a log")
    parser.add_argument("--log", type=Path, required=True, metavar="DIR", help="a decision log")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE.html", help="the page")
    _add_outcomes(parser)
    _add_protected(parser, required=False)
    _add_period(parser)
    _add_model(parser)
    parser.set_defaults(run=_report)


def _report(options: argparse.Namespace) -> int:
    from monitoring.report import whole_page

    settings = MonitoringSettings.load(options.settings)
    scorer = load_model(options.model)
    log = DecisionLogReader(options.log, digest=scorer.artefact.digest, since=options.since, until=options.until)
    parts = [*_parts(options, scorer, log, settings)]
    write_text(options.output, whole_page("Monitoring report", parts))
    _warn_of(log)
    _say([f"{options.output}: {options.output.stat().st_size:,} bytes"])
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
    outcomes = _outcomes_of(options.outcomes)
    with Progress().step("performance") as advance:
        yield from performance_section(perform(log, outcomes, artefact.policy, settings.performance, advance))
    if options.protected:
        protected = read_protected(options.protected, stated_hash(os.environ))
        with Progress().step("fairness") as advance:
            yield from fairness_section(screen(decided(log, protected, outcomes, advance), settings.fairness))
