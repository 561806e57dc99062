"""`python -m benchmarks`: run, variants, soak, recording, access, monitoring, false-alarms, report."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import benchmarks
from benchmarks.access import access_cost
from benchmarks.comparison import compare
from benchmarks.errors import BenchmarkError
from benchmarks.false_alarms import false_alarms, record_alarms
from benchmarks.monitoring_scale import measure_reports, record
from benchmarks.peer import PEERS, VARIANTS, Peer
from benchmarks.recording import recording_cost
from benchmarks.report import report, report_variants
from benchmarks.results import Comparison, SoakRecord
from benchmarks.settings import BenchmarkSettings
from benchmarks.side_by_side import Costs
from benchmarks.soak import soak
from benchmarks.store import ROOT, Store
from features.errors import FeatureError
from jobs.errors import JobError
from jobs.progress import Progress
from jobs.settings import Settings
from monitoring.settings import MonitoringSettings
from scoring.errors import ScoringError

_SETTINGS = ROOT / "configs" / "benchmarks.yaml"
_MONITORING = ROOT / "configs" / "monitoring.yaml"
_STORE = ROOT / ".bench"
_RESULTS = ROOT / "benchmarks" / "results"
Changed = TypeVar("Changed", bound=Settings)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 if it succeeded, 1 after one line on standard error if it did not."""
    options = _parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], None] = options.run
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # servers are stopped on the way out
    try:
        run(options)
    except (BenchmarkError, FeatureError, JobError, ScoringError) as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=benchmarks.__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")

    run = commands.add_parser("run", help="measure all peers, one after the other in every round")
    run.add_argument("--peers", nargs="+", choices=[peer.name for peer in PEERS], help="default: all")
    run.add_argument("--seconds", type=_positive, help="of one window of load (default: the settings)")
    run.add_argument("--rounds", type=_count, metavar="N", help="default: the settings")
    _add_common(run, "comparison.json")
    run.set_defaults(run=_run)

    choices = commands.add_parser("variants", help="measure the service under other settings, one choice at a time")
    choices.add_argument("--seconds", type=_positive, help="of one window of load (default: the settings)")
    choices.add_argument("--rounds", type=_count, metavar="N", help="default: the settings")
    _add_common(choices, "variants.json")
    choices.set_defaults(run=_variants)

    long = commands.add_parser("soak", help="load the service for half an hour; needs some 15 GB")
    long.add_argument("--windows", type=_count, metavar="N", help="default: the settings")
    long.add_argument("--seconds", type=_positive, help="of one window (default: the settings)")
    _add_common(long, "soak.json")
    long.set_defaults(run=_soak)

    for name, what, run_it in (
        ("recording", "recording decisions", _recording),
        ("access", "checking API keys", _access),
    ):
        cost = commands.add_parser(name, help=f"measure what {what} costs the service")
        cost.add_argument("--windows", type=_count, default=15, metavar="N", help="of each kind (default: %(default)s)")
        cost.add_argument("--seconds", type=_positive, default=1.0, help="of one window (default: %(default)s)")
        _add_common(cost, f"{name}.json")
        cost.set_defaults(run=run_it)

    scale = commands.add_parser("monitoring", help="time the reports of monitoring on generated decisions")
    scale.add_argument("--model", type=Path, required=True, help="directory of an artefact")
    scale.add_argument("--applications", type=Path, required=True, help="file that decisions are drawn from")
    scale.add_argument("--decisions", type=_count, nargs="+", default=[100_000, 1_000_000, 10_000_000])
    scale.add_argument("--scratch", type=Path, default=Path(), help="folder with some 10 GB (default: this one)")
    _add_common(scale, "monitoring.json")
    scale.set_defaults(run=_monitoring)

    alarms = commands.add_parser("false-alarms", help="count the drift alarms among windows without drift")
    alarms.add_argument("--model", type=Path, required=True, help="directory of an artefact")
    alarms.add_argument("--applications", type=Path, required=True, help="file of the same population, not fitted on")
    alarms.add_argument("--windows", type=_count, default=1_000, help="of each size (default: %(default)s)")
    _add_common(alarms, "false_alarms.json")
    alarms.set_defaults(run=_false_alarms)

    tell = commands.add_parser("report", help="draw the chart and write the tables into benchmarks/README.md")
    tell.add_argument("--comparison", type=Path, default=_RESULTS / "comparison.json", help="results of `run`")
    tell.add_argument("--soak", type=Path, default=_RESULTS / "soak.json", help="results of `soak`")
    tell.add_argument("--variants", type=Path, default=_RESULTS / "variants.json", help="results of `variants`")
    tell.add_argument("--page", type=Path, default=ROOT / "docs" / "explanation" / "serving.md", help="where those go")
    tell.add_argument("--tables", type=Path, default=ROOT / "benchmarks" / "README.md", help="where they go")
    tell.add_argument("--chart", type=Path, default=_RESULTS / "comparison.svg")
    tell.add_argument("--settings", type=Path, default=_SETTINGS, help="default: configs/benchmarks.yaml")
    tell.set_defaults(run=_report)
    return parser


def _add_common(parser: argparse.ArgumentParser, output: str) -> None:
    parser.add_argument("--output", type=Path, default=_RESULTS / output, help="JSON file (default: %(default)s)")
    parser.add_argument("--settings", type=Path, default=_SETTINGS, help="default: configs/benchmarks.yaml")
    parser.add_argument("--store", type=Path, default=_STORE, help="data, models and environments (default: .bench)")


def _run(options: argparse.Namespace) -> None:
    _compare(options, _peers(options.peers))


def _variants(options: argparse.Namespace) -> None:
    _compare(options, VARIANTS)


def _compare(options: argparse.Namespace, peers: Sequence[Peer]) -> None:
    _check_output(options.output)
    settings = _settings(options, seconds=options.seconds, rounds=options.rounds)
    compare(Store(options.store.resolve()), settings, peers, Progress(), _command(options.store)).write(options.output)


def _soak(options: argparse.Namespace) -> None:
    _check_output(options.output)
    settings = _settings(options)
    plan = _changed(settings.soak, windows=options.windows, window_seconds=options.seconds)
    settings = _changed(settings, soak=plan)
    soak(Store(options.store.resolve()), settings, Progress(), _command(options.store)).write(options.output)


def _recording(options: argparse.Namespace) -> None:
    _side_by_side(options, recording_cost)


def _access(options: argparse.Namespace) -> None:
    _side_by_side(options, access_cost)


def _side_by_side(options: argparse.Namespace, measure: Callable[..., Costs]) -> None:
    _check_output(options.output)
    store = Store(options.store.resolve())
    size = {"windows": options.windows, "seconds": options.seconds}
    measured = measure(store, _settings(options), Progress(), _command(options.store), **size)
    measured.write(options.output)
    for cost in measured.costs:
        sys.stdout.write(
            f"{cost.connections:3} connections, {cost.choice}: {cost.median_us:.0f} us per request,"
            f" {cost.difference_us:+.1f} us, {cost.ratio:.3f} of {measured.costs[0].choice}\n"
        )


def _monitoring(options: argparse.Namespace) -> None:
    _check_output(options.output)
    seed = _settings(options).seed
    reports = measure_reports(
        options.model, options.applications, options.decisions, options.scratch, seed=seed, progress=Progress()
    )
    counts = " ".join(map(str, options.decisions))
    record(
        reports, f"python -m benchmarks monitoring --model DIR --applications FILE --decisions {counts}", options.output
    )


def _false_alarms(options: argparse.Namespace) -> None:
    _check_output(options.output)
    rules = MonitoringSettings.load(_MONITORING).drift
    seed, windows = _settings(options).seed, options.windows
    found = false_alarms(options.model, options.applications, rules, windows=windows, seed=seed, progress=Progress())
    command = f"python -m benchmarks false-alarms --model DIR --applications FILE --windows {windows}"
    record_alarms(found, rules, command, options.output)
    for each in found:
        sys.stdout.write(f"{each.rows:6,} rows: {each.alarms} alarms in {each.windows:,} windows\n")


def _report(options: argparse.Namespace) -> None:
    long = SoakRecord.read(options.soak) if options.soak.exists() else None
    bars = _settings(options).bars
    told = report(Comparison.read(options.comparison), long, bars, page=options.tables, chart=options.chart)
    sys.stdout.write(told)
    if options.variants.exists():
        sys.stdout.write(report_variants(Comparison.read(options.variants), options.page))


def _check_output(output: Path) -> None:
    """BenchmarkError, before half an hour of measuring rather than after, where no file can be written."""
    folder = next(parent for parent in output.resolve().parents if parent.exists())
    if output.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise BenchmarkError(f"{output}: cannot be written")


def _settings(options: argparse.Namespace, **changes: object) -> BenchmarkSettings:
    return _changed(BenchmarkSettings.load(options.settings), **changes)


def _changed(settings: Changed, **changes: object) -> Changed:
    """The settings with what is not None in its place."""
    return settings.model_copy(update={name: value for name, value in changes.items() if value is not None})


def _peers(names: Sequence[str] | None) -> list[Peer]:
    return [peer for peer in PEERS if names is None or peer.name in names]


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _positive(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError("must be positive")
    return value


def _command(store: Path) -> str:
    """The command as given, without the folder where things are kept, which changes no figure."""
    given = [word for word in sys.argv[1:] if word not in ("--store", str(store), f"--store={store}")]
    return shlex.join(["python", "-m", "benchmarks", *given])
