"""What the commands of `python -m training` do."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from mlflow.exceptions import MlflowException
from optuna.exceptions import OptunaError

from features import FeatureError
from scoring import Progress, ScoringError

from .delivery import deliver
from .errors import OutputError, TrainingError
from .experiments import EXPERIMENTS, table_lines
from .outoftime import split_by_time
from .registry import find
from .report import lines
from .settings import TrainingSettings
from .source import load
from .store import import_model
from .synthesis import ALL, APPLICATIONS, SynthesisError, synthesize, total_clients
from .tracking import connect
from .tuned_parameters import TunedParameters
from .tuning import tune, tuning_lines

_EXPECTED = (FeatureError, ScoringError, TrainingError, SynthesisError, MlflowException, OptunaError)


def execute(command: str, options: argparse.Namespace) -> int:
    """Run a command; 0 if it succeeded, 1 after one line on standard error if it did not."""
    try:
        _COMMANDS[command](options)
    except _EXPECTED as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        return 1
    return 0


def _settings(options: argparse.Namespace) -> TrainingSettings:
    settings = TrainingSettings.load(options.settings)
    if not options.tracking_uri:
        return settings
    tracking = settings.tracking.model_copy(update={"uri": options.tracking_uri})
    return settings.model_copy(update={"tracking": tracking})


def _run(options: argparse.Namespace) -> None:
    settings = _settings(options)
    if options.params is not None:
        settings = TunedParameters.apply(options.params, settings)
    delivered = deliver(options.data, settings, Progress())
    sys.stdout.writelines(f"{line}\n" for line in lines(delivered))


def _experiments(options: argparse.Namespace) -> None:
    if options.only is not None and options.only not in EXPERIMENTS:
        raise TrainingError(f"--only {options.only}: not one of {', '.join(EXPERIMENTS)}")
    settings, progress = _settings(options), Progress()
    dataset, _ = split_by_time(load(options.data, settings, progress), settings.out_of_time)
    for name in [options.only] if options.only else EXPERIMENTS:
        compared = EXPERIMENTS[name].run(dataset, settings, progress)
        sys.stdout.writelines(f"{line}\n" for line in (f"{name}:", *table_lines(compared), ""))


def _tune(options: argparse.Namespace) -> None:
    if not options.output.parent.is_dir() or options.output.is_dir():
        raise OutputError(f"--output {options.output}: not a file in a folder that exists")
    progress = Progress()
    values = _settings(options).model_dump(mode="json")
    given = {name: getattr(options, name) for name in ("trials", "study", "storage")}
    values["tuning"] |= {name: value for name, value in given.items() if value is not None}
    settings = TrainingSettings.checked(values, options.settings)
    dataset, _ = split_by_time(load(options.data, settings, progress), settings.out_of_time)
    tuned = tune(dataset, settings, progress)
    tuned.parameters.write(options.output)
    sys.stdout.writelines(f"{line}\n" for line in tuning_lines(tuned, options.output))


def _import(options: argparse.Namespace) -> None:
    settings = _settings(options)
    connect(settings.tracking)
    sys.stdout.write(f"{import_model(find(settings.tracking.model, options.version))}\n")


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
    "experiments": _experiments,
    "tune": _tune,
    "import": _import,
    "synthesize": _synthesize,
}
