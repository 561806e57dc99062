"""`python -m monitoring`: close, drift, performance, fairness, report, notify."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from decision_log.errors import SourceError
from jobs.commandline import PATH, CommandGroup, Progress, moment, run_command, say
from jobs.output import write_json, write_text
from monitoring.notify import ADDRESS, Alarm, Alertmanager
from monitoring.settings import MonitoringSettings, NotificationSettings
from scoring.cli import served_name

if TYPE_CHECKING:
    from decision_log.reader import DecisionLogReader
    from features.schema import Calendar
    from monitoring.outcomes import Outcomes
    from scoring.artefact import Artefact
    from scoring.drift_reference import Window

ALARM = 3
"""Exit code of a command that did its work and raised the alarm."""

_SETTINGS = Path("configs/monitoring.yaml")
_SEVERITIES = ("critical", "warning", "info")
_ENDS = "exit code: 0 done, 1 an error, said in one line, 2 wrong usage"
_ALARM_ENDS = "exit code: 0 no alarm, 3 alarm, 1 an error, said in one line, 2 wrong usage"
_MINUTE = "%Y-%m-%d %H:%M"
_Command = TypeVar("_Command", bound=Callable[..., Any])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command: its exit code, 1 after one line on standard error if it failed, 128 + n if signal n ended it."""
    return run_command(commands, arguments, program="python -m monitoring")


@click.group(cls=CommandGroup, help=sys.modules["monitoring"].__doc__)
def commands() -> None:
    """Hold the commands."""


_settings = click.option("--settings", type=PATH, default=_SETTINGS, show_default=True)
_log = click.option("--log", "folder", type=PATH, required=True, metavar="DIR", help="a decision log")
_json = click.option("--json", "found", type=PATH, metavar="FILE", help="write everything that was found there as well")
_model = click.option(
    "--model",
    default=served_name,
    help="tag in the BentoML model store, or the directory of an artefact (default: the latest of that in"
    " configs/serving.yaml)",
)
_outcomes = click.option("--outcomes", type=PATH, metavar="FILE",
                         help=".csv or .parquet with outcome (1 default, 0 repaid, empty unknown) and client_id, "
                              "or request_id and index")  # fmt: skip


def _protected(*, required: bool) -> Callable[[_Command], _Command]:
    shown = ".csv or .parquet with client_id, or request_id and index; every other column is a protected attribute"
    return click.option("--protected", type=PATH, required=required, metavar="FILE", help=shown)


def _period(command: _Command) -> _Command:
    command = click.option("--until", type=moment, metavar="TIME", help="decisions before then")(command)
    since = "decisions from then on: RFC 3339, or a date (UTC)"
    return click.option("--since", type=moment, metavar="TIME", help=since)(command)


_notified = click.option("--notify", "notified", is_flag=True,
                         help=f"tell the Alertmanager in {ADDRESS} of an alarm and its end")  # fmt: skip


@commands.command()
@click.option("--log", "folder", type=PATH, required=True, metavar="DIR", help="the decision log")
@_settings
def close(*, folder: Path, settings: Path) -> None:
    """Turn the finished segments of a decision log into Parquet."""
    from decision_log.answers import remove_ended
    from decision_log.closing import close as close_log
    from decision_log.notary import Notary
    from decision_log.overrides import keep_overrides, notary_of

    log, now = MonitoringSettings.load(settings).recording.log, datetime.now(UTC)
    done = close_log(folder, log, now, Notary.of(os.environ, folder))
    remove_ended(folder, now.timestamp())
    keep_overrides(folder, log, now, notary_of(os.environ, folder))
    sys.stdout.write(
        f"{done.segments:,} segments closed with {done.decisions:,} decisions; {done.held:,} still being written;"
        f" {done.expired:,} older than {log.retention_days} days removed; {len(done.aside):,} files set aside\n"
        + (f"{done.shadow:,} segments of challengers in shadow closed\n" if done.shadow else "")
        + (f"{done.shipped:,} copied to {log.ship}\n" if log.ship else "")
    )
    sys.stderr.write("".join(f"warning: {line}\n" for line in done.aside))


@commands.command(epilog=_ALARM_ENDS)
@_settings
@click.option("--live", multiple=True, metavar="URL", help="running services, one or more; the counts of pods add up")
@click.option("--log", "folder", type=PATH, metavar="DIR", help="a decision log")
@click.option("--current", type=PATH, metavar="FILE", help="raw applications, .csv or .parquet")
@click.option("--reference", type=PATH, metavar="FILE",
              help="compare --current with these applications rather than with the model's own reference")  # fmt: skip
@click.option("--whole-weeks", is_flag=True,
              help="the files hold applications of whole weeks: judge hours and weekdays too; else nothing is assumed "
                   "of their time")  # fmt: skip
@click.option("--last-window", is_flag=True, help="of --live: the last complete windows only")
@_period
@_model
@_json
@_notified
def drift(
    *, settings: Path, reference: Path | None, whole_weeks: bool, model: str, found: Path | None, notified: bool,
    current: Path | None, **source: Any,
) -> int:  # fmt: skip
    """Judge whether what is scored has drifted from the model's reference: --live, --log or --current."""
    from monitoring.drift import WHOLE, judge, judgement_json, judgement_lines
    from monitoring.sources import load_model

    if sum(map(bool, (source["live"], source["folder"], current))) != 1:
        raise click.UsageError("one of --live, --log and --current is required, and only one")
    loaded = MonitoringSettings.load(settings)
    artefact = load_model(model)
    unstated = base_unstated = frozenset[str]()
    if current:
        window, unstated, said = _counted(current, artefact)
        whole = WHOLE if whole_weeks else frozenset()
    else:
        window, whole = _recorded_window(artefact, **source)
        said = []
    base = None
    if whole_weeks and not current:
        raise SourceError("--whole-weeks goes with --current")
    if reference:
        if not current:
            raise SourceError("--reference goes with --current")
        base, base_unstated, _ = _counted(reference, artefact)
    judgement = judge(
        artefact.reference, window, loaded.drift,
        base=base, whole=whole, unstated=unstated, base_unstated=base_unstated,
    )  # fmt: skip
    if found:
        write_json(found, {"model_digest": artefact.digest, **judgement_json(judgement)})
    say([*judgement_lines(judgement), *said])
    if notified:
        tell_reasons("drift", judgement.reasons, artefact.digest, loaded.notification)
    return ALARM if judgement.alarm else 0


def _recorded_window(
    artefact: Artefact,
    *,
    live: Sequence[str],
    folder: Path,
    last_window: bool,
    since: datetime | None,
    until: datetime | None,
) -> tuple[Window, frozenset[Calendar]]:
    """What services or a log counted, and the calendars of which it covers whole periods."""
    from decision_log.reader import DecisionLogReader
    from monitoring.sources import window_of_log, window_of_services

    if live:
        return window_of_services(live, artefact, last=last_window)
    log = DecisionLogReader(folder, digest=artefact.digest, since=since, until=until)
    with Progress().step("decisions") as advance:
        logged = window_of_log(log, artefact.reference, advance)
    _warn_of(log)
    return logged.window, logged.whole


def _counted(path: Path, artefact: Artefact) -> tuple[Window, frozenset[str], list[str]]:
    """The window of a file, the roll-ups that it does not state, and what is to be said of it."""
    from monitoring.sources import window_of_file
    from scoring.scorer import Scorer

    scorer = Scorer(artefact)
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
    return counted.window, counted.unstated, said


@commands.command(epilog=_ALARM_ENDS)
@_settings
@_log
@_outcomes
@_period
@_model
@_json
@click.option("--metrics", type=PATH, metavar="FILE", help="write what was realised there, for node_exporter")
@_notified
def performance(
    *, settings: Path, folder: Path, outcomes: Path | None, since: datetime | None, until: datetime | None, model: str,
    found: Path | None, metrics: Path | None, notified: bool,
) -> int:  # fmt: skip
    """Measure decisions against outcomes, or estimate without any."""
    from decision_log.reader import DecisionLogReader
    from monitoring.performance import Figures, perform, performance_json, performance_lines
    from monitoring.sources import load_model

    if metrics and not outcomes:
        raise SourceError("--metrics goes with --outcomes")
    loaded = MonitoringSettings.load(settings)
    artefact = load_model(model)
    log = DecisionLogReader(folder, digest=artefact.digest, since=since, until=until)
    with Progress().step("decisions") as advance:
        done = perform(log, _outcomes_of(outcomes), artefact.policy, loaded.performance, advance)
    _warn_of(log)
    if found:
        write_json(found, {"model_digest": artefact.digest, **performance_json(done)})
    if metrics and done.realised:
        Figures.of(done.realised, artefact.digest, datetime.now(UTC)).write(metrics)
    say([*performance_lines(done), *_overridden(folder)])
    if notified:
        tell_reasons("performance", done.reasons, artefact.digest, loaded.notification)
    return ALARM if done.alarm else 0


@commands.command(epilog=_ENDS)
@_settings
@_log
@_protected(required=True)
@_outcomes
@_period
@_model
@_json
def fairness(
    *, settings: Path, folder: Path, protected: Path, outcomes: Path | None, since: datetime | None,
    until: datetime | None, model: str, found: Path | None,
) -> None:  # fmt: skip
    """Screen decisions by protected group; a signal, never an exit code."""
    from decision_log.format import stated_hash
    from decision_log.reader import DecisionLogReader
    from monitoring.fairness import decided, read_protected, screen, screening_json, screening_lines
    from monitoring.sources import load_model

    rules = MonitoringSettings.load(settings).fairness
    artefact = load_model(model)
    groups = read_protected(protected, stated_hash(os.environ))
    log = DecisionLogReader(folder, digest=artefact.digest, since=since, until=until)
    with Progress().step("decisions") as advance:
        decisions = decided(log, groups, _outcomes_of(outcomes), advance)
    _warn_of(log)
    screenings = screen(decisions, rules)
    if found:
        write_json(found, {"model_digest": artefact.digest, **screening_json(screenings)})
    unknown = [f"  {decisions.unknown:,} decisions of applicants without protected attributes are left out"]
    if decisions.ambiguous:
        unknown.append(f"  {decisions.ambiguous:,} decisions whose request_id names several decisions are left out")
    say([*screening_lines(screenings), *unknown, *_overridden(folder)])


@commands.command(epilog=_ENDS)
@_settings
@_log
@click.option("--output", type=PATH, required=True, metavar="FILE.html", help="the page")
@_outcomes
@_protected(required=False)
@_period
@_model
def report(
    *, settings: Path, folder: Path, output: Path, outcomes: Path | None, protected: Path | None,
    since: datetime | None, until: datetime | None, model: str,
) -> None:  # fmt: skip
    """Write one HTML page about the decisions in a log."""
    from decision_log.reader import DecisionLogReader
    from monitoring.sources import load_model

    loaded = MonitoringSettings.load(settings)
    artefact = load_model(model)
    log = DecisionLogReader(folder, digest=artefact.digest, since=since, until=until)
    write_text(output, _page(artefact, log, loaded, outcomes=outcomes, protected=protected))
    _warn_of(log)
    say([f"{output}: {output.stat().st_size:,} bytes"])


def _page(
    artefact: Artefact,
    log: DecisionLogReader,
    settings: MonitoringSettings,
    *,
    outcomes: Path | None,
    protected: Path | None,
) -> str:
    from decision_log.format import stated_hash
    from monitoring.drift import judge
    from monitoring.fairness import decided, read_protected, screen
    from monitoring.performance import perform
    from monitoring.report import drift_charts, monitoring_report
    from monitoring.sources import window_of_log

    with Progress().step("period") as advance:
        span = " to ".join(f"{end:{_MINUTE}}" for end in log.span(advance))
    with Progress().step("drift") as advance:
        logged = window_of_log(log, artefact.reference, advance)
    judgement = judge(artefact.reference, logged.window, settings.drift, whole=logged.whole)
    charts = [*drift_charts(judgement, artefact.reference, logged.window, artefact.features.vocabularies)]
    known = _outcomes_of(outcomes)
    with Progress().step("performance") as advance:
        performance = perform(log, known, artefact.policy, settings.performance, advance)
    screenings = None
    if protected:
        groups = read_protected(protected, stated_hash(os.environ))
        with Progress().step("fairness") as advance:
            screenings = screen(decided(log, groups, known, advance), settings.fairness)
    line = f"Model {artefact.digest[:12]}; decisions from {span}; written {datetime.now(UTC):{_MINUTE}}, all UTC"
    return monitoring_report(line, judgement, charts, performance, screenings)


@commands.command(help=f"Tell the Alertmanager in {ADDRESS} of an alarm, or of its end.")
@click.option("--name", required=True, help="of the alarm")
@click.option("--severity", type=click.Choice(_SEVERITIES), default="warning", show_default=True)
@click.option("--summary", required=True, help="one line")
@click.option("--resolved", is_flag=True, help="the alarm of this name and severity has ended")
@_settings
def notify(*, name: str, severity: str, summary: str, resolved: bool, settings: Path) -> None:
    """Tell the Alertmanager of an alarm."""
    alarm = Alarm(name, not resolved, severity, summary)
    _tell(alarm, MonitoringSettings.load(settings).notification)
    say([f"{alarm.name}: told that it {'fires' if alarm.firing else 'has ended'}"])


def _tell(alarm: Alarm, settings: NotificationSettings) -> None:
    Alertmanager.named(os.environ, settings).tell(alarm, datetime.now(UTC))


def tell_reasons(check: str, reasons: Sequence[str], digest: str, settings: NotificationSettings) -> None:
    """Tell what a check of the model with the digest found: the reasons for an alarm, or that there is none."""
    summary = "; ".join(reasons) or "no alarm"
    _tell(Alarm(check, bool(reasons), "warning", summary, labels={"model_digest": digest[:12]}), settings)


def _outcomes_of(path: Path | None) -> Outcomes | None:
    """The outcomes in a file, client ids hashed with the key of the decision log where it is set."""
    from decision_log.format import stated_hash
    from monitoring.outcomes import read_outcomes

    return None if path is None else read_outcomes(path, stated_hash(os.environ))


def _overridden(folder: Path) -> list[str]:
    """A line with the overrides in a log by direction, of all models and times; none if there are none."""
    from decision_log.overrides import override_directions

    found = override_directions(folder)
    counts = ", ".join(f"{count:,} from {direction}" for direction, count in found.items())
    return [f"  persons have overridden {counts}; these figures are of the model's decisions"] if found else []


def _warn_of(log: DecisionLogReader) -> None:
    """Lines on standard error for what was passed over in a log; the figures lack it."""
    sys.stderr.write("".join(f"warning: {line}\n" for line in log.remarks()))
