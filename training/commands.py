"""What the commands of `python -m training` do."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import bentoml
import click
from bentoml.exceptions import BentoMLException
from mlflow.exceptions import MlflowException

from decision_log.reader import DecisionLogReader
from jobs.commandline import Progress, say
from jobs.errors import OutputError, SettingsError
from monitoring.cli import ALARM
from monitoring.settings import MonitoringSettings
from scoring.cli import served_name
from scoring.scorer import Scorer
from training.cli import SETTINGS
from training.dataset import Dataset, find_applications, is_generated, split_by_time
from training.errors import FleetError, RegistryError, TrackingError, TrainingError
from training.fair_fit import refuse_fairness
from training.fleet import Fleet
from training.generation import FileFormat, generator_of
from training.portfolio.commands import served_otherwise
from training.registry.fitted import register_fitted, run_of_fitted
from training.registry.promotion import Verdict, judge, keep, make_champion, promote, rollback
from training.registry.registry import Registered, changes, copy_report, current_champion, find, succession
from training.registry.store import champion_lock, import_model
from training.registry.tracking import connect, resumed_run, scratch, without_secrets
from training.retraining import Retrainer, WatchedLog
from training.run import deliver, deliver_fleet, load, registry_lines, trained_lines, verdict_lines
from training.search.frontier import FoundAlternatives
from training.search_settings import without_credentials
from training.settings import TrainingSettings

if TYPE_CHECKING:
    from training.registry.revision import Revision

_Options = ParamSpec("_Options")
_Code = TypeVar("_Code", int, None)
"""What a command returns: its exit code, or nothing for 0."""


def _working(command: Callable[_Options, _Code]) -> Callable[_Options, _Code]:
    """The command with a scratch folder of its own; what libraries and the system refuse is an error of training."""

    @wraps(command)
    def working(*args: _Options.args, **options: _Options.kwargs) -> _Code:
        try:
            with scratch():
                return command(*args, **options)
        except MlflowException as error:  # the server may be gone by now, and its address may hold a password
            raise TrackingError(f"MLflow: {without_secrets(error)}") from None
        except BentoMLException as error:
            raise RegistryError(str(error)) from None
        except OSError as error:  # a full disk, a folder that cannot be written
            raise OutputError(f"{error.filename}: {error.strerror}" if error.filename else str(error)) from None

    return working


def pasted(words: Sequence[str], settings: Path, portfolio: Path | None, tracking_uri: str | None) -> str:
    """Return a training command that can be pasted, with every option that it needs to act on the same model."""
    options = [*_named("--portfolio", portfolio), *_named("--settings", None if settings == SETTINGS else settings)]
    # A password stays out of the terminal; the variable holds in the next command too.
    if tracking_uri not in (None, os.environ.get("MLFLOW_TRACKING_URI")):
        options += _named("--tracking-uri", without_credentials(str(tracking_uri)))
    return shlex.join([_python(), "-m", "training", *words, *options])


def _batch(model: str, file: Path) -> str:
    tagged = [] if model == served_name() else ["--model", model]
    return shlex.join([_python(), "-m", "scoring", "batch", "--input", str(file), "--output", "scores", *tagged])


def _python() -> str:
    python, here = Path(sys.executable), Path.cwd()
    return str(python.relative_to(here) if python.is_relative_to(here) else python)


def _named(option: str, value: object) -> list[str]:
    return [] if value is None else [option, str(value)]


def _loaded(settings: Path, portfolio: Path | None, tracking_uri: str | None) -> TrainingSettings:
    loaded = TrainingSettings.load(settings, portfolio)
    if not tracking_uri:
        return loaded
    tracking = loaded.tracking.model_copy(update={"uri": tracking_uri})
    return loaded.model_copy(update={"tracking": tracking})


@_working
def run(
    *,
    data: Path | None,
    params: Path | None,
    alternatives: Path | None,
    by_blocks: bool,
    machines: str | None,
    rank: int | None,
    shared: Path | None,
    lost_after: float,
    save_every: int,
    no_promote: bool,
    allow_generated: bool,
    allow_uncompared: bool,
    settings: Path,
    portfolio: Path | None,
    tracking_uri: str | None,
) -> None:
    """Train, register and judge a model; promote it if it passes."""
    loaded = _loaded(settings, portfolio, tracking_uri)
    if params is not None:
        from training.search.tuning import TunedParameters

        loaded = TunedParameters.apply(params, loaded)
    allowed = {"generated_allowed": allow_generated, "uncompared_allowed": allow_uncompared}
    searched = None if alternatives is None else FoundAlternatives.read(alternatives)
    if machines is None:
        delivered = deliver(data, loaded, Progress(), **allowed, by_blocks=by_blocks, searched=searched)
    else:
        fleet = Fleet.of(machines, rank, shared, lost_after=lost_after, save_every=save_every)
        if data is None:
            raise FleetError("--machines: needs --data, which all machines can read")
        fit, finished = deliver_fleet(data, loaded, fleet, Progress(), **allowed)
        say([f"rank {fleet.rank} fitted {fit.own_rows:,} of {fit.rows:,} rows: {fit.trees} trees, {fit.digest[:12]}"])
        if finished is None:
            return
        delivered = finished
    say(trained_lines(delivered.trained))
    if no_promote:
        keep(delivered.verdict, datetime.now(UTC))
        say([*verdict_lines(delivered.verdict), f"{delivered.registered} is challenger"])
        following = [["promote", "--version", delivered.registered.version, *_named("--data", data)]]
    else:
        _promote_judged(delivered.verdict)
        before = succession(changes(loaded.tracking.model))[:-1]
        following = [["rollback"]] if before else []
    say([*served_otherwise(loaded.tracking.model), "next, for this model:"])
    say(f"  {pasted(words, settings, portfolio, tracking_uri)}" for words in (["list"], *following))
    if data is not None and not no_promote:
        say([f"  {_batch(loaded.tracking.model, find_applications(data, loaded.declared))}"])


@_working
def register(*, folder: Path, settings: Path, portfolio: Path | None, tracking_uri: str | None) -> None:
    """Register a fitted model that was kept in a folder."""
    run_id = run_of_fitted(folder)
    with resumed_run(_loaded(settings, portfolio, tracking_uri).tracking, run_id):
        registered = register_fitted(folder)
    say([f"{registered} is challenger"])


@_working
def experiments(
    *, data: Path | None, only: str | None, settings: Path, portfolio: Path | None, tracking_uri: str | None
) -> None:
    """Compare models on the same folds."""
    from training.experiments import EXPERIMENTS, table_lines  # imbalanced-learn takes seconds

    if only is not None and only not in EXPERIMENTS:
        raise TrainingError(f"--only {only}: not one of {', '.join(EXPERIMENTS)}")
    loaded, progress = _loaded(settings, portfolio, tracking_uri), Progress()
    refuse_fairness(loaded.model)
    dataset, _ = split_by_time(load(data, loaded, progress), loaded.out_of_time)
    for name in [only] if only else EXPERIMENTS:
        say([f"{name}:", *table_lines(EXPERIMENTS[name].run(dataset, loaded, progress)), ""])


@_working
def search(
    *,
    data: Path | None,
    trials: int | None,
    study: str | None,
    storage: str | None,
    output: Path,
    settings: Path,
    portfolio: Path | None,
    tracking_uri: str | None,
) -> None:
    """Search parameters, into a file."""
    from training.search.tuning import tune, tuning_lines

    if not output.parent.is_dir() or output.is_dir():
        raise OutputError(f"--output {output}: not a file in a folder that exists")
    progress = Progress()
    values = _loaded(settings, portfolio, tracking_uri).model_dump(mode="json")
    given = {"trials": trials, "study": study, "storage": storage}
    values["tuning"] |= {name: value for name, value in given.items() if value is not None}
    loaded = _with_options(values)
    refuse_fairness(loaded.model)
    dataset, _ = split_by_time(load(data, loaded, progress), loaded.out_of_time)
    tuned = tune(dataset, loaded, progress)
    tuned.parameters.write(output)
    say(tuning_lines(tuned, output))


@_working
def search_fairer(
    *,
    data: Path | None,
    output: Path,
    minutes: float,
    trials: int | None,
    penalty: bool,
    protected: Path | None,
    settings: Path,
    portfolio: Path | None,
) -> None:
    """Search less discriminatory alternatives, into a folder."""
    from training.report.alternatives_page import PAGE, RESULT, result_lines, write_result
    from training.search.alternatives import search_alternatives
    from training.search.levers import side_groups

    output.mkdir(parents=True, exist_ok=True)
    values = TrainingSettings.load(settings, portfolio).model_dump(mode="json")
    if trials is not None:
        values["alternatives"]["trials"] = trials
    values["alternatives"]["levers"]["penalty"] |= penalty
    loaded, progress = TrainingSettings.checked(values, Path("--trials")), Progress()
    dataset, _ = split_by_time(load(data, loaded, progress), loaded.out_of_time)
    beside = {} if protected is None else side_groups(protected, dataset)
    found = search_alternatives(dataset, loaded, output, progress, minutes=minutes, beside=beside)
    write_result(output, found)
    say([*result_lines(found), f"written to {output / RESULT}, {output / PAGE} and {output}/*.yaml"])


def _with_options(values: dict[str, Any]) -> TrainingSettings:
    """Settings of a file that was read before, with what options say: a fault is an option's."""
    try:
        return TrainingSettings.checked(values, Path("--"))
    except SettingsError as error:
        raise TrainingError(str(error).replace("--: tuning.", "--")) from None


@_working
def promote_version(
    *,
    version: str,
    data: Path | None,
    allow_generated: bool,
    allow_uncompared: bool,
    settings: Path,
    portfolio: Path | None,
    tracking_uri: str | None,
) -> None:
    """Judge a registered model and put it in charge if it passes."""
    loaded = _connected(settings, portfolio, tracking_uri)
    registered = find(loaded.tracking.model, version)
    with champion_lock():
        finished = (
            make_champion(registered, datetime.now(UTC)) if registered == current_champion(registered.name) else None
        )
    if finished is not None:
        _say_champion(registered, finished)
        return
    dataset = _labelled(data, registered, loaded)
    _promote_judged(
        judge(registered, dataset, loaded, generated_allowed=allow_generated, uncompared_allowed=allow_uncompared)
    )


def _labelled(data: Path | None, registered: Registered, settings: TrainingSettings) -> Dataset:
    """The rows to judge a version on; generated ones only where it was trained on such."""
    if data is None and not is_generated(registered.source):
        raise RegistryError(f"{registered} was trained on {registered.source}: give labelled rows with --data")
    return load(data, settings, Progress(), to_fit=False)


@_working
def revise_policy(
    *,
    version: str,
    cost_fn: float | None,
    cost_fp: float | None,
    cutoff: float | None,
    refer_from: float | None,
    refer_to: float | None,
    explore_share: float | None,
    explore_up_to: float | None,
    note: str,
    data: Path | None,
    folder: Path | None,
    dry_run: bool,
    settings: Path,
    portfolio: Path | None,
    tracking_uri: str | None,
) -> None:
    """Revise the policy of a registered model, and judge the revision."""
    from training.registry.revision import PolicyChange, register_revision, revise

    loaded, now = _connected(settings, portfolio, tracking_uri), datetime.now(UTC)
    base = find(loaded.tracking.model, version)
    change = PolicyChange(cost_fn, cost_fp, cutoff, refer_from, refer_to, explore_share, explore_up_to)
    dataset = _labelled(data, base, loaded)
    if dry_run:
        say(_revision_lines(revise(base, change, dataset, loaded, run_id="", note=note, now=now), folder))
        return
    revision, registered = register_revision(base, change, dataset, loaded, note=note, now=now)
    say(_revision_lines(revision, folder))
    verdict = judge(registered, dataset, loaded)
    keep(verdict, now)
    say([*verdict_lines(verdict), f"{registered} is challenger; it revises {base}", "next, for this model:"])
    words = ["promote", "--version", registered.version, *_named("--data", data)]
    say([f"  {pasted(words, settings, portfolio, tracking_uri)}"])


def _revision_lines(revision: Revision, folder: Path | None) -> Iterator[str]:
    """What a revision changes on labelled rows, and in a decision log if one is given."""
    from training.registry.revision import log_flips

    yield from revision.lines()
    if folder is not None:
        log = DecisionLogReader(folder, digest=revision.before.digest)
        flips = log_flips(log, Scorer(revision.after), revision.before.policy)
        yield f"{flips.rows:,} decisions of this model in {folder}:"
        yield from flips.lines()


def _promote_judged(verdict: Verdict) -> None:
    say(verdict_lines(verdict))
    _say_champion(verdict.challenger.registered, promote(verdict, datetime.now(UTC)))


def _say_champion(registered: Registered, tag: bentoml.Tag) -> None:
    say([f"{registered} is champion", f"imported {tag}"])


@_working
def compare(
    *, version: str | None, settings: Path, portfolio: Path | None, tracking_uri: str | None, **options: Any
) -> None:
    """Compare recorded decisions with those of a challenger."""
    from training.comparison import compare_decisions  # plotting and statistics, which take seconds

    numbered = version is not None and (version.isdecimal() or version.startswith("@"))
    name = _connected(settings, portfolio, tracking_uri).tracking.model if numbered else ""
    compare_decisions(find(name, str(version)) if numbered else version, **options)


@_working
def rollback_champion(*, settings: Path, portfolio: Path | None, tracking_uri: str | None) -> None:
    """Put the previous champion back in charge."""
    name = _connected(settings, portfolio, tracking_uri).tracking.model
    _say_champion(*rollback(name, datetime.now(UTC), lambda line: say([line])))


@_working
def audit(
    *,
    at: datetime | None,
    output: Path | None,
    key: Path | None,
    exported: Path | None,
    publics: Sequence[Path],
    settings: Path,
    portfolio: Path | None,
    tracking_uri: str | None,
) -> None:
    """Tell who decided when, or write it, or verify what was written."""
    from training.registry.audit import champion_lines, export, history, verify

    if bool(exported) != bool(publics):
        raise click.UsageError("--verify and --public belong together")
    if exported is not None:
        say([verify(exported, publics)])
        return
    name = _connected(settings, portfolio, tracking_uri).tracking.model
    events = history(name)
    if at is not None:
        say(champion_lines(name, events, at))
    if output is not None:
        export(name, events, output, key, datetime.now(UTC))
        say([f"{len(events):,} events of {name}: {output}"])
    if at is None and output is None:
        say(map(str, events))


@_working
def list_registered(*, settings: Path, portfolio: Path | None, tracking_uri: str | None) -> None:
    """Show the registered models."""
    name = _connected(settings, portfolio, tracking_uri).tracking.model
    say(registry_lines(name, pasted(["import"], settings, portfolio, tracking_uri)))


@_working
def report(*, version: str, output: Path, settings: Path, portfolio: Path | None, tracking_uri: str | None) -> None:
    """Copy the report of a registered model."""
    if not output.parent.is_dir() or output.is_dir():
        raise OutputError(f"--output {output}: not a file in a folder that exists")
    registered = find(_connected(settings, portfolio, tracking_uri).tracking.model, version)
    copy_report(registered, output)
    say([f"report of {registered}, digest {registered.digest[:12]}: {output}"])


@_working
def import_champion(*, settings: Path, portfolio: Path | None, tracking_uri: str | None) -> None:
    """Import the champion into the BentoML store."""
    name = _connected(settings, portfolio, tracking_uri).tracking.model
    with champion_lock():
        registered = current_champion(name)
        if registered is None:
            raise RegistryError(f"{name}: no version was promoted")
        tag = import_model(registered)
    say([str(tag)])


@_working
def retrain(
    *,
    data: Path | None,
    if_drifted: bool,
    log: Path | None,
    outcomes: Path | None,
    monitoring: Path,
    because: str,
    force: bool,
    as_json: bool,
    allow_generated: bool,
    allow_uncompared: bool,
    settings: Path,
    portfolio: Path | None,
    tracking_uri: str | None,
) -> int:
    """Retrain if it is due; 3 if the new model misses a gate."""
    loaded = _loaded(settings, portfolio, tracking_uri)
    data = data or loaded.retraining.data
    if data is None:
        raise TrainingError("--data: name labelled applications, here or as retraining.data in the settings")
    if if_drifted and log is None:
        raise TrainingError("--if-drifted: needs --log, the decisions that may have drifted")
    if not if_drifted and (log or outcomes):
        raise TrainingError("--log and --outcomes: go with --if-drifted")
    watched = None if log is None else WatchedLog(log, outcomes, MonitoringSettings.load(monitoring))
    retrainer = Retrainer(
        data,
        loaded,
        Progress(),
        datetime.now(UTC),
        generated_allowed=allow_generated,
        uncompared_allowed=allow_uncompared,
    )
    done = retrainer.run(watched=watched, because=because, force=force)
    say([json.dumps(asdict(done)) if as_json else str(done)])
    return ALARM if done.missed else 0


def _connected(settings: Path, portfolio: Path | None, tracking_uri: str | None) -> TrainingSettings:
    loaded = _loaded(settings, portfolio, tracking_uri)
    connect(loaded.tracking)
    return loaded


@_working
def generate(
    *,
    output: Path,
    clients: int,
    seed: int,
    file_format: FileFormat,
    applications_only: bool,
    settings: Path,
    portfolio: Path | None,
) -> None:
    """Write generated data."""
    generator = generator_of(TrainingSettings.load(settings, portfolio).declared)
    with Progress().step("clients", generator.total_clients(clients)) as advance:
        generator.synthesize(
            output,
            clients=clients,
            seed=seed,
            file_format=file_format,
            tables="applications" if applications_only else "all",
            progress=advance,
        )
