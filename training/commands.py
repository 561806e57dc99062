"""What the commands do that train: fit and register models, search parameters, and write data to fit them on."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jobs.commandline import Progress, say
from jobs.errors import OutputError, SettingsError
from monitoring.cli import ALARM
from monitoring.settings import MonitoringSettings
from training.dataset import find_applications, split_by_time
from training.errors import FleetError, TrainingError
from training.fair_fit import refuse_fairness
from training.fleet import Fleet
from training.generation import FileFormat, generator_of
from training.portfolio.commands import served_otherwise
from training.registry.commands import promote_judged
from training.registry.fitted import register_fitted, run_of_fitted
from training.registry.promotion import keep
from training.registry.registry import changes, succession
from training.registry.tracking import as_command, resumed_run
from training.retraining import Retrainer, WatchedLog
from training.run import deliver, deliver_fleet, load, pasted, promoting, scoring_batch, trained_lines, verdict_lines
from training.search.frontier import FoundAlternatives
from training.settings import TrainingSettings


@as_command
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
    loaded = TrainingSettings.load(settings, portfolio).tracked_at(tracking_uri)
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
        following = [promoting(delivered.registered, data)]
    else:
        promote_judged(delivered.verdict)
        before = succession(changes(loaded.tracking.model))[:-1]
        following = [["rollback"]] if before else []
    say([*served_otherwise(loaded.tracking.model), "next, for this model:"])
    say(f"  {pasted(words, settings, portfolio, tracking_uri)}" for words in (["list"], *following))
    if data is not None and not no_promote:
        say([f"  {scoring_batch(loaded.tracking.model, find_applications(data, loaded.declared))}"])


@as_command
def register(*, folder: Path, settings: Path, portfolio: Path | None, tracking_uri: str | None) -> None:
    """Register a fitted model that was kept in a folder."""
    run_id = run_of_fitted(folder)
    with resumed_run(TrainingSettings.load(settings, portfolio).tracked_at(tracking_uri).tracking, run_id):
        registered = register_fitted(folder)
    say([f"{registered} is challenger"])


@as_command
def experiments(
    *, data: Path | None, only: str | None, settings: Path, portfolio: Path | None, tracking_uri: str | None
) -> None:
    """Compare models on the same folds."""
    from training.experiments import EXPERIMENTS, table_lines  # imbalanced-learn takes seconds

    if only is not None and only not in EXPERIMENTS:
        raise TrainingError(f"--only {only}: not one of {', '.join(EXPERIMENTS)}")
    loaded, progress = TrainingSettings.load(settings, portfolio).tracked_at(tracking_uri), Progress()
    refuse_fairness(loaded.model)
    dataset, _ = split_by_time(load(data, loaded, progress), loaded.out_of_time)
    for name in [only] if only else EXPERIMENTS:
        say([f"{name}:", *table_lines(EXPERIMENTS[name].run(dataset, loaded, progress)), ""])


@as_command
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
    values = TrainingSettings.load(settings, portfolio).tracked_at(tracking_uri).model_dump(mode="json")
    given = {"trials": trials, "study": study, "storage": storage}
    values["tuning"] |= {name: value for name, value in given.items() if value is not None}
    loaded = _with_options(values)
    refuse_fairness(loaded.model)
    dataset, _ = split_by_time(load(data, loaded, progress), loaded.out_of_time)
    tuned = tune(dataset, loaded, progress)
    tuned.parameters.write(output)
    say(tuning_lines(tuned, output))


@as_command
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


@as_command
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
    loaded = TrainingSettings.load(settings, portfolio).tracked_at(tracking_uri)
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


@as_command
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
