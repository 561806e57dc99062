"""The commands of `python -m training`: each function runs one."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import bentoml
from bentoml.exceptions import BentoMLException
from mlflow.exceptions import MlflowException

from features.errors import FeatureError
from jobs.errors import JobError, OutputError, SettingsError
from jobs.progress import Progress, until_stopped
from scoring.errors import ScoringError
from training.dataset import is_generated, split_by_time
from training.errors import RegistryError, TrainingError
from training.promotion import Verdict, judge, keep, make_champion, promote, rollback
from training.registry.fitted import register_fitted, run_of_fitted
from training.registry.registry import Registered, copy_report, current_champion, find
from training.registry.store import champion_lock, import_model
from training.registry.tracking import connect, resumed_run, scratch, without_secrets
from training.run import deliver, load, registry_lines, trained_lines, verdict_lines
from training.settings import TrainingSettings
from training.synthesis.dataset import ALL, APPLICATIONS, synthesize, total_clients
from training.synthesis.draws import SynthesisError

_EXPECTED = (
    FeatureError, JobError, ScoringError, TrainingError, SynthesisError, BentoMLException,
)  # fmt: skip


def execute(command: str, options: argparse.Namespace) -> int:
    """Run a command; 0 if it succeeded, 1 after one line on standard error if not, 128 + n if signal n ended it."""
    return until_stopped(lambda: _executed(_COMMANDS[command], options))


def _executed(command: Callable[[argparse.Namespace], None], options: argparse.Namespace) -> int:
    try:
        with scratch():
            command(options)
    except MlflowException as error:  # the server may be gone by now, and its address may hold a password
        return _failed(f"MLflow: {without_secrets(error)}")
    except _EXPECTED as error:
        return _failed(str(error))
    except OSError as error:  # a full disk, a folder that cannot be written
        return _failed(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    return 0


def _failed(reason: str) -> int:
    sys.stderr.write(f"error: {' '.join(reason.split())}\n")
    return 1


def _settings(options: argparse.Namespace) -> TrainingSettings:
    settings = TrainingSettings.load(options.settings)
    if not options.tracking_uri:
        return settings
    tracking = settings.tracking.model_copy(update={"uri": options.tracking_uri})
    return settings.model_copy(update={"tracking": tracking})


def _run(options: argparse.Namespace) -> None:
    settings = _settings(options)
    if options.params is not None:
        from training.tuning import TunedParameters

        settings = TunedParameters.apply(options.params, settings)
    delivered = deliver(options.data, settings, Progress(), **_permissions(options))
    _say(trained_lines(delivered.trained))
    if options.no_promote:
        keep(delivered.verdict)
        _say([*verdict_lines(delivered.verdict), f"{delivered.registered} is challenger"])
    else:
        _promote_judged(delivered.verdict)


def _register(options: argparse.Namespace) -> None:
    run_id = run_of_fitted(options.folder)
    with resumed_run(_settings(options).tracking, run_id):
        registered = register_fitted(options.folder)
    _say([f"{registered} is challenger"])


def _experiments(options: argparse.Namespace) -> None:
    from training.experiments import EXPERIMENTS, table_lines  # imbalanced-learn takes seconds

    if options.only is not None and options.only not in EXPERIMENTS:
        raise TrainingError(f"--only {options.only}: not one of {', '.join(EXPERIMENTS)}")
    settings, progress = _settings(options), Progress()
    dataset, _ = split_by_time(load(options.data, settings, progress), settings.out_of_time)
    for name in [options.only] if options.only else EXPERIMENTS:
        _say([f"{name}:", *table_lines(EXPERIMENTS[name].run(dataset, settings, progress)), ""])


def _tune(options: argparse.Namespace) -> None:
    from training.tuning import tune, tuning_lines

    # Checked before the search, which may take hours.
    if not options.output.parent.is_dir() or options.output.is_dir():
        raise OutputError(f"--output {options.output}: not a file in a folder that exists")
    progress = Progress()
    values = _settings(options).model_dump(mode="json")
    given = {name: getattr(options, name) for name in ("trials", "study", "storage")}
    values["tuning"] |= {name: value for name, value in given.items() if value is not None}
    settings = _with_options(values)
    dataset, _ = split_by_time(load(options.data, settings, progress), settings.out_of_time)
    tuned = tune(dataset, settings, progress)
    tuned.parameters.write(options.output)
    _say(tuning_lines(tuned, options.output))


def _with_options(values: dict[str, Any]) -> TrainingSettings:
    """Checks settings that options have changed; the file was valid, so an error names the option."""
    try:
        return TrainingSettings.checked(values, Path("--"))
    except SettingsError as error:
        raise TrainingError(str(error).replace("--: tuning.", "--")) from None


def _promote(options: argparse.Namespace) -> None:
    settings = _connected(options)
    registered = find(settings.tracking.model, options.version)
    # A promotion that was cut short may have set the alias without importing the model: finish it, do not judge again.
    with champion_lock():
        finished = (
            make_champion(registered, datetime.now(UTC)) if registered == current_champion(registered.name) else None
        )
    if finished is not None:
        _say_champion(registered, finished)
        return
    if options.data is None and not is_generated(registered.source):
        raise RegistryError(f"{registered} was trained on {registered.source}: give labelled rows with --data")
    dataset = load(options.data, settings, Progress(), to_fit=False)
    _promote_judged(judge(registered, dataset, settings, **_permissions(options)))


def _permissions(options: argparse.Namespace) -> dict[str, bool]:
    return {"generated_allowed": options.allow_generated, "uncompared_allowed": options.allow_uncompared}


def _promote_judged(verdict: Verdict) -> None:
    _say(verdict_lines(verdict))
    _say_champion(verdict.challenger.registered, promote(verdict, datetime.now(UTC)))


def _say_champion(registered: Registered, tag: bentoml.Tag) -> None:
    _say([f"{registered} is champion", f"imported {tag}"])


def _rollback(options: argparse.Namespace) -> None:
    name = _connected(options).tracking.model
    _say_champion(*rollback(name, datetime.now(UTC), lambda line: _say([line])))


def _list(options: argparse.Namespace) -> None:
    _say(registry_lines(_connected(options).tracking.model))


def _report(options: argparse.Namespace) -> None:
    if not options.output.parent.is_dir() or options.output.is_dir():
        raise OutputError(f"--output {options.output}: not a file in a folder that exists")
    registered = find(_connected(options).tracking.model, options.version)
    copy_report(registered, options.output)
    _say([f"report of {registered}, digest {registered.digest[:12]}: {options.output}"])


def _import(options: argparse.Namespace) -> None:
    name = _connected(options).tracking.model
    with champion_lock():
        registered = current_champion(name)
        if registered is None:
            raise RegistryError(f"{name}: no version was promoted")
        tag = import_model(registered)
    _say([str(tag)])


def _connected(options: argparse.Namespace) -> TrainingSettings:
    settings = _settings(options)
    connect(settings.tracking)
    return settings


def _say(lines: Iterable[str]) -> None:
    # A pipe is buffered: without the flush, a log would show these lines after those of standard error.
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


def _synthesize(options: argparse.Namespace) -> None:
    tables = APPLICATIONS if options.applications_only else ALL
    with Progress().step("clients", total_clients(options.clients)) as advance:
        synthesize(
            options.output,
            clients=options.clients,
            seed=options.seed,
            file_format=options.format,
            tables=tables,
            progress=advance,
        )


_COMMANDS: dict[str, Callable[[argparse.Namespace], None]] = {
    "run": _run,
    "register": _register,
    "experiments": _experiments,
    "tune": _tune,
    "promote": _promote,
    "rollback": _rollback,
    "list": _list,
    "report": _report,
    "import": _import,
    "synthesize": _synthesize,
}
