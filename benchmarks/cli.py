"""`python -m benchmarks`: what it measures of the service, its peers and its parts, and the report of that."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

import benchmarks
from benchmarks.access import access_cost
from benchmarks.book import BookRecord, measure_book
from benchmarks.comparison import compare
from benchmarks.errors import BenchmarkError
from benchmarks.exploration import covered, record_coverage
from benchmarks.export import export_lines, measure_export, record_export
from benchmarks.false_alarms import false_alarms, record_alarms
from benchmarks.fleet import measure_fleet, record_fleet
from benchmarks.generators import Generators, compare_generators
from benchmarks.histories import measure_gains, record_gains
from benchmarks.look_ups import measure_look_ups, record_look_ups
from benchmarks.materialization import PARTS, measure_rolling_up, record_rolling_up
from benchmarks.monitoring_scale import measure_reports, record_reports
from benchmarks.peer import PEERS, VARIANTS, Peer
from benchmarks.recording import recording_cost, shadow_cost
from benchmarks.report import report, report_book, report_generators, report_histories, report_variants
from benchmarks.results import Comparison, SoakRecord
from benchmarks.settings import BenchmarkSettings
from benchmarks.side_by_side import Costs
from benchmarks.soak import soak
from benchmarks.store import ROOT, Store
from benchmarks.trees import measure_stages, measure_trees, record_timings
from jobs.commandline import PATH, CommandGroup, Progress, run_command, say
from jobs.settings import Settings
from monitoring.settings import MonitoringSettings
from scoring.policy import ExploreRule
from training.settings import TrainingSettings

_SETTINGS = ROOT / "configs" / "benchmarks.yaml"
_MONITORING = ROOT / "configs" / "monitoring.yaml"
_TRAINING = ROOT / "configs" / "training.yaml"
_STORE = ROOT / ".bench"
_RESULTS = ROOT / "benchmarks" / "results"
Changed = TypeVar("Changed", bound=Settings)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 if it succeeded, 1 after one line on standard error if it did not."""
    return run_command(commands, arguments, program="python -m benchmarks", at_once=True)


@click.group(cls=CommandGroup, help=benchmarks.__doc__)
def commands() -> None:
    """Hold the commands."""


_COUNT = click.IntRange(min=1)
_POSITIVE = click.FloatRange(min=0, min_open=True)
_Command = TypeVar("_Command", bound=Callable[..., Any])

_settings = click.option("--settings", type=PATH, default=_SETTINGS, help="default: configs/benchmarks.yaml")
_store = click.option("--store", type=PATH, default=_STORE, help="data, models and environments (default: .bench)")
_seconds = click.option("--seconds", type=_POSITIVE, help="of one window of load (default: the settings)")
_rounds = click.option("--rounds", type=_COUNT, metavar="N", help="default: the settings")
_artefact = click.option("--model", type=PATH, required=True, help="directory of an artefact")


def _kept(name: str) -> Callable[[_Command], _Command]:
    """Options of every command that measures and keeps what it found."""

    def decorate(command: _Command) -> _Command:
        output = click.option("--output", type=PATH, default=_RESULTS / name, show_default=True, help="JSON file")
        return output(_settings(_store(command)))

    return decorate


def _windows(command: _Command) -> _Command:
    each = click.option("--windows", type=_COUNT, default=15, show_default=True, metavar="N", help="of each kind")
    long = click.option("--seconds", type=_POSITIVE, default=1.0, show_default=True, help="of one window")
    return each(long(command))


@commands.command("run")
@click.option("--peers", multiple=True, type=click.Choice([peer.name for peer in PEERS]), help="default: all")
@_seconds
@_rounds
@_kept("comparison.json")
def run_peers(*, peers: Sequence[str], **options: Any) -> None:
    """Measure all peers, one after the other in every round."""
    _compare([peer for peer in PEERS if not peers or peer.name in peers], **options)


@commands.command()
@_seconds
@_rounds
@_kept("variants.json")
def variants(**options: Any) -> None:
    """Measure the service under other settings, one choice at a time."""
    _compare(VARIANTS, **options)


def _compare(
    peers: Sequence[Peer], *, seconds: float | None, rounds: int | None, output: Path, settings: Path, store: Path
) -> None:
    _check_output(output)
    changed = _changed(BenchmarkSettings.load(settings), seconds=seconds, rounds=rounds)
    compare(Store(store.resolve()), changed, peers, Progress(), _command(store)).write(output)


@commands.command("soak")
@click.option("--windows", type=_COUNT, metavar="N", help="default: the settings")
@click.option("--seconds", type=_POSITIVE, help="of one window (default: the settings)")
@_kept("soak.json")
def run_soak(*, windows: int | None, seconds: float | None, output: Path, settings: Path, store: Path) -> None:
    """Load the service for half an hour; needs some 15 GB."""
    _check_output(output)
    loaded = BenchmarkSettings.load(settings)
    plan = _changed(loaded.soak, windows=windows, window_seconds=seconds)
    soak(Store(store.resolve()), _changed(loaded, soak=plan), Progress(), _command(store)).write(output)


@commands.command()
@click.option("--rows", type=_COUNT, multiple=True, help="of one book (default: the settings)")
@click.option("--pandas-rows", type=_COUNT, help="default: the settings")
@click.option("--clean", is_flag=True, help="remove the generated applications at the end")
@_kept("book.json")
def book(
    *, rows: Sequence[int], pandas_rows: int | None, clean: bool, output: Path, settings: Path, store: Path
) -> None:
    """Time the decisions on millions of applications."""
    _check_output(output)
    loaded = BenchmarkSettings.load(settings)
    plan = _changed(loaded.book, rows=tuple(sorted(rows)) or None, pandas_rows=pandas_rows)
    kept, changed = Store(store.resolve()), _changed(loaded, book=plan)
    measure_book(kept, changed, Progress(), _command(store), clean=clean).write(output)


@commands.command()
@_windows
@_kept("recording.json")
def recording(**options: Any) -> None:
    """Measure what recording decisions costs the service."""
    _side_by_side(recording_cost, **options)


@commands.command()
@_windows
@_kept("shadow.json")
def shadow(**options: Any) -> None:
    """Measure what challengers in shadow cost the service."""
    _side_by_side(shadow_cost, **options)


@commands.command()
@_windows
@_kept("access.json")
def access(**options: Any) -> None:
    """Measure what checking API keys costs the service."""
    _side_by_side(access_cost, **options)


@commands.command()
@_windows
@_kept("generators.json")
def generators(*, windows: int, seconds: float, output: Path, settings: Path, store: Path) -> None:
    """Compare the load generator with h2load, which it needs."""
    _check_output(output)
    loaded, kept = BenchmarkSettings.load(settings), Store(store.resolve())
    compare_generators(kept, loaded, Progress(), _command(store), windows=windows, seconds=seconds).write(output)


def _side_by_side(measure: Callable[..., Costs], *, output: Path, settings: Path, store: Path, **size: float) -> None:
    _check_output(output)
    measured = measure(Store(store.resolve()), BenchmarkSettings.load(settings), Progress(), _command(store), **size)
    measured.write(output)
    say(
        f"{cost.connections:3} connections, {cost.choice}: {cost.median_us:.0f} us per request,"
        f" {cost.difference_us:+.1f} us, {cost.ratio:.3f} of {measured.costs[0].choice}"
        for cost in measured.costs
    )


@commands.command("monitoring")
@_artefact
@click.option("--applications", type=PATH, required=True, help="file that decisions are drawn from")
@click.option("--decisions", type=_COUNT, multiple=True, default=(100_000, 1_000_000, 10_000_000), show_default=True)
@click.option("--scratch", type=PATH, default=Path(), help="folder with some 10 GB (default: this one)")
@_kept("monitoring.json")
def run_monitoring(
    *, model: Path, applications: Path, decisions: Sequence[int], scratch: Path, output: Path, settings: Path,
    store: Path,  # noqa: ARG001 - an option of every command that measures
) -> None:  # fmt: skip
    """Time the reports of monitoring on generated decisions."""
    _check_output(output)
    seed = BenchmarkSettings.load(settings).seed
    reports = measure_reports(model, applications, decisions, scratch, seed=seed, progress=Progress())
    counts = " ".join(map(str, decisions))
    record_reports(
        reports, f"python -m benchmarks monitoring --model DIR --applications FILE --decisions {counts}", output
    )


_applications = click.option("--applications", type=PATH, required=True, help="file of applications")


@commands.command("trees")
@click.option("--model", "models", type=PATH, required=True, multiple=True, help="directory of an artefact")
@_applications
@click.option("--rows", type=_COUNT, default=10_000, show_default=True, help="different applications")
@_kept("trees.json")
def run_trees(
    *, models: Sequence[Path], applications: Path, rows: int, output: Path,
    settings: Path,  # noqa: ARG001 - an option of every command that measures
    store: Path,  # noqa: ARG001
) -> None:  # fmt: skip
    """Time the trees and the reasons, by tables and by LightGBM itself."""
    _check_output(output)
    found = [each for model in models for each in measure_trees(model, applications, rows=rows, progress=Progress())]
    named = " ".join(["--model DIR"] * len(models))
    record_timings(found, f"python -m benchmarks trees {named} --applications FILE --rows {rows}", output)
    say(
        f"{each.what:24} {each.trees:5,} trees of {each.leaves:2} leaves {each.batch:6,} at once "
        f"{each.us:8.1f} us {each.ns_per_tree:7.1f} ns a tree"
        for each in found
    )


@commands.command("stages")
@_artefact
@_applications
@click.option("--rows", type=_COUNT, default=2_000, show_default=True, help="different applications")
@_kept("stages.json")
def run_stages(
    *, model: Path, applications: Path, rows: int, output: Path,
    settings: Path,  # noqa: ARG001 - an option of every command that measures
    store: Path,  # noqa: ARG001
) -> None:  # fmt: skip
    """Time each stage of a request, for one application and in batches."""
    _check_output(output)
    found = measure_stages(model, applications, rows=rows, progress=Progress())
    record_timings(found, f"python -m benchmarks stages --model DIR --applications FILE --rows {rows}", output)
    say(f"{each.stage:10} {each.batch:6,} at once {each.us:8.1f} us" for each in found)


@commands.command("export")
@_artefact
@click.option("--rows", type=_COUNT, default=100_000, show_default=True, help="drawn applications")
@click.option("--postgresql", metavar="ADDRESS", help="of a PostgreSQL on this machine; without it DuckDB alone")
@_kept("export.json")
def run_export(
    *, model: Path, rows: int, postgresql: str | None, output: Path, settings: Path,
    store: Path,  # noqa: ARG001 - an option of every command that measures
) -> None:  # fmt: skip
    """Run the exported scorer in databases, and compare every row with the service's decision."""
    _check_output(output)
    seed = BenchmarkSettings.load(settings).seed
    found = measure_export(model, rows=rows, postgresql=postgresql, seed=seed, progress=Progress())
    command = f"python -m benchmarks export --model DIR --rows {rows}" + (" --postgresql ADDRESS" if postgresql else "")
    record_export(found, command, output)
    say(export_lines(found))


@commands.command("fleet")
@click.option("--clients", type=_COUNT, multiple=True, default=(100_000, 1_000_000), show_default=True)
@click.option("--trees", type=_COUNT, default=100, show_default=True, help="the most trees of a fit")
@click.option("--folds", type=click.IntRange(min=2), default=2, show_default=True)
@click.option("--memory-only", is_flag=True, help="leave the two ranks out")
@click.option("--scratch", type=PATH, default=Path(), help="folder on a disk, 3 kB a client (default: this one)")
@_kept("fleet.json")
def run_fleet(
    *, clients: Sequence[int], trees: int, folds: int, memory_only: bool, scratch: Path, output: Path,
    settings: Path,  # noqa: ARG001 - an option of every command that measures
    store: Path,  # noqa: ARG001
) -> None:  # fmt: skip
    """Measure a training in memory, by blocks and with two ranks, on generated clients."""
    _check_output(output)
    loaded = TrainingSettings.load(_TRAINING)
    used = loaded.model_copy(update={"model": loaded.model.model_copy(update={"folds": folds})})
    ways, qualities = measure_fleet(clients, used, scratch, trees=trees, judge=not memory_only, progress=Progress())
    counts = " ".join(map(str, clients))
    command = f"python -m benchmarks fleet --clients {counts} --trees {trees} --folds {folds}"
    record_fleet(ways, qualities, command + (" --memory-only" if memory_only else ""), output)
    say(f"{way.clients:9,} clients, {way.way:11} {way.peak_mb:6,} MB {way.cpu_seconds:7.1f} s" for way in ways)
    say(f"{each.clients:9,} clients, two ranks - one: {each.difference:+.5f} [{each.low:+.5f}, {each.high:+.5f}]"
        for each in qualities)  # fmt: skip


@commands.command("false-alarms")
@_artefact
@click.option("--applications", type=PATH, required=True, help="file of the same population, not fitted on")
@click.option("--windows", type=_COUNT, default=1_000, show_default=True, help="of each size")
@_kept("false_alarms.json")
def count_false_alarms(
    *, model: Path, applications: Path, windows: int, output: Path, settings: Path,
    store: Path,  # noqa: ARG001 - an option of every command that measures
) -> None:  # fmt: skip
    """Count the drift alarms among windows without drift."""
    _check_output(output)
    rules = MonitoringSettings.load(_MONITORING).drift
    seed = BenchmarkSettings.load(settings).seed
    found = false_alarms(model, applications, rules, windows=windows, seed=seed, progress=Progress())
    command = f"python -m benchmarks false-alarms --model DIR --applications FILE --windows {windows}"
    record_alarms(found, rules, command, output)
    say(f"{each.rows:6,} rows: {each.alarms} alarms in {each.windows:,} windows" for each in found)


@commands.command("exploration")
@_artefact
@click.option(
    "--applications", type=PATH, required=True, help="labelled folder or file that the model was not fitted on"
)
@click.option("--draws", type=_COUNT, default=100, show_default=True, help="explorations of the same applications")
@_kept("exploration.json")
def cover_truth(
    *, model: Path, applications: Path, draws: int, output: Path, settings: Path,
    store: Path,  # noqa: ARG001 - an option of every command that measures
) -> None:  # fmt: skip
    """Count how often the intervals of reject inference hold the truth."""
    _check_output(output)
    rules, rule = MonitoringSettings.load(_MONITORING).performance, ExploreRule(share=0.05, up_to=0.5)
    seed = BenchmarkSettings.load(settings).seed
    found = covered(model, applications, rule, rules, draws=draws, seed=seed, progress=Progress())
    command = f"python -m benchmarks exploration --model DIR --applications DIR --draws {draws}"
    record_coverage(found, rule, command, output)
    say(f"{each.method:18} {each.figure:22} {each.held:4} of {each.draws} held {each.truth:.4f}" for each in found)


@commands.command("histories")
@click.argument("data", type=PATH)
@click.option("--up-to", type=_COUNT, metavar="CLIENT", help="the last client who is measured (default: all)")
@click.option("--seeds", type=_COUNT, default=5, show_default=True, help="of the folds and of the trees")
@_kept("histories.json")
def gain_of_histories(
    *, data: Path, up_to: int | None, seeds: int, output: Path,
    settings: Path, store: Path,  # noqa: ARG001 - options of every command that measures
) -> None:  # fmt: skip
    """Measure what histories add to the applications in the folder DATA."""
    _check_output(output)
    found = measure_gains(data, TrainingSettings.load(_TRAINING), up_to=up_to, seeds=seeds, progress=Progress())
    bound = "" if up_to is None else f" --up-to {up_to}"
    record_gains(found, f"python -m benchmarks histories DIR{bound} --seeds {seeds}", output)
    say(f"{each.way:24} {each.application.value:.4f} + {each.difference}" for each in found.gains)


@commands.command("materialize")
@click.argument("data", type=PATH)
@click.option("--parts", type=_COUNT, multiple=True, default=PARTS, show_default=True, help="1/N of the clients")
@click.option("--scratch", type=PATH, default=Path(), help="folder with some 2 GB (default: this one)")
@_kept("materialize.json")
def roll_up(
    *, data: Path, parts: Sequence[int], scratch: Path, output: Path,
    settings: Path, store: Path,  # noqa: ARG001 - options of every command that measures
) -> None:  # fmt: skip
    """Time how the histories in the folder DATA are rolled up, for stores and for training."""
    _check_output(output)
    portfolio = TrainingSettings.load(_TRAINING).portfolio
    found = measure_rolling_up(data, portfolio, parts, scratch, Progress())
    named = "" if tuple(parts) == PARTS else "".join(f" --parts {part}" for part in parts)
    record_rolling_up(found, f"python -m benchmarks materialize DIR{named}", output)
    say(
        f"{one.what:20} {one.clients:8,} clients {one.seconds:6.1f} s {one.cpu_seconds:6.1f} s of CPU"
        f" {one.peak_mb:7,.0f} MB"
        for one in found
    )


@commands.command("look-ups")
@click.option("--clients", type=_COUNT, default=300_000, show_default=True, help="in the store")
@click.option("--times", type=_COUNT, default=20_000, show_default=True, help="that each is timed")
@_kept("look_ups.json")
def look_up(
    *, clients: int, times: int, output: Path, settings: Path,
    store: Path,  # noqa: ARG001 - an option of every command that measures
) -> None:  # fmt: skip
    """Time a look-up in a feature store, and what a history adds to a request."""
    _check_output(output)
    seed, portfolio = BenchmarkSettings.load(settings).seed, TrainingSettings.load(_TRAINING).declared
    found = measure_look_ups(portfolio, clients=clients, times=times, seed=seed, progress=Progress())
    record_look_ups(found, clients, f"python -m benchmarks look-ups --clients {clients} --times {times}", output)
    say(f"{one.what:28} {one.median_us:8.1f} us, p99 {one.p99_us:8.1f} us" for one in found)


@commands.command("report")
@click.option("--comparison", type=PATH, default=_RESULTS / "comparison.json", help="results of `run`")
@click.option("--soak", "long", type=PATH, default=_RESULTS / "soak.json", help="results of `soak`")
@click.option("--variants", "choices", type=PATH, default=_RESULTS / "variants.json", help="results of `variants`")
@click.option("--generators", "both", type=PATH, default=_RESULTS / "generators.json", help="results of `generators`")
@click.option("--book", "whole", type=PATH, default=_RESULTS / "book.json", help="results of `book`")
@click.option("--look-ups", type=PATH, default=_RESULTS / "look_ups.json", help="results of `look-ups`")
@click.option("--materialize", type=PATH, default=_RESULTS / "materialize.json", help="results of `materialize`")
@click.option("--page", type=PATH, default=ROOT / "docs" / "explanation" / "serving.md", help="where those go")
@click.option("--tables", type=PATH, default=ROOT / "benchmarks" / "README.md", help="where they go")
@click.option("--chart", type=PATH, default=_RESULTS / "comparison.svg")
@_settings
def tell(
    *, comparison: Path, long: Path, choices: Path, both: Path, whole: Path, look_ups: Path, materialize: Path,
    page: Path, tables: Path, chart: Path, settings: Path,
) -> None:  # fmt: skip
    """Draw the chart and write the tables into benchmarks/README.md."""
    soaked = SoakRecord.read(long) if long.exists() else None
    bars = BenchmarkSettings.load(settings).bars
    sys.stdout.write(report(Comparison.read(comparison), soaked, bars, page=tables, chart=chart))
    if choices.exists():
        sys.stdout.write(report_variants(Comparison.read(choices), page))
    if both.exists():
        sys.stdout.write(report_generators(Generators.read(both), tables))
    if whole.exists():
        sys.stdout.write(report_book(BookRecord.read(whole), bars, tables))
    sys.stdout.write(report_histories(look_ups, materialize, tables))


def _check_output(output: Path) -> None:
    """BenchmarkError, before half an hour of measuring rather than after, where no file can be written."""
    folder = next(parent for parent in output.resolve().parents if parent.exists())
    if output.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise BenchmarkError(f"{output}: cannot be written")


def _changed(settings: Changed, **changes: object) -> Changed:
    """The settings with what is not None in its place."""
    return settings.model_copy(update={name: value for name, value in changes.items() if value is not None})


def _command(store: Path) -> str:
    """The command as given, without the folder where things are kept, which changes no figure."""
    given = [word for word in sys.argv[1:] if word not in ("--store", str(store), f"--store={store}")]
    return shlex.join(["python", "-m", "benchmarks", *given])
