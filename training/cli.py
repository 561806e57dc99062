"""`python -m training`: run, import, synthesize."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from mlflow.exceptions import MlflowException

from features import FeatureError
from scoring import Progress, ScoringError

from .delivery import deliver
from .errors import TrainingError
from .registry import CHAMPION, find
from .report import lines
from .settings import TrainingSettings
from .store import import_model
from .synthesis import ALL, APPLICATIONS, SynthesisError, synthesize
from .tracking import connect

_SETTINGS = Path(__file__).resolve().parent.parent / "configs" / "training.yaml"
_EXPECTED = (FeatureError, ScoringError, TrainingError, SynthesisError, MlflowException)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 if it succeeded, 1 after one line on standard error if it did not."""
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
    except _EXPECTED as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training", description=sys.modules["training"].__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")

    run = commands.add_parser("run", help="train, track, register, promote and import a model")
    run.add_argument("--data", type=Path, help="folder with application_train (.csv or .parquet); default: generated")
    _add_settings(run)
    run.set_defaults(command=_run)

    load = commands.add_parser("import", help="import a registered model into the BentoML model store")
    load.add_argument("--version", default=f"@{CHAMPION}", help="number or @alias (default: %(default)s)")
    _add_settings(load)
    load.set_defaults(command=_import)

    generate = commands.add_parser("synthesize", help="write generated data in Kaggle's Home Credit layout")
    generate.add_argument("--clients", type=int, required=True, help="rows of application_train")
    generate.add_argument("--seed", type=int, default=0)
    generate.add_argument("--output", type=Path, required=True, help="folder that does not exist yet, or is empty")
    generate.add_argument("--format", choices=("csv", "parquet"), default="csv")
    generate.add_argument("--applications-only", action="store_true", help="leave the history tables out")
    generate.set_defaults(command=_synthesize)
    return parser


def _add_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--settings", type=Path, default=_SETTINGS, help="default: configs/training.yaml")
    parser.add_argument(
        "--tracking-uri",
        default=os.environ.get("MLFLOW_TRACKING_URI"),
        help="MLflow server or database (default: MLFLOW_TRACKING_URI, then the settings)",
    )


def _settings(options: argparse.Namespace) -> TrainingSettings:
    settings = TrainingSettings.load(options.settings)
    if not options.tracking_uri:
        return settings
    tracking = settings.tracking.model_copy(update={"uri": options.tracking_uri})
    return settings.model_copy(update={"tracking": tracking})


def _run(options: argparse.Namespace) -> None:
    delivered = deliver(options.data, _settings(options), Progress())
    sys.stdout.writelines(f"{line}\n" for line in lines(delivered))


def _import(options: argparse.Namespace) -> None:
    settings = _settings(options)
    connect(settings.tracking)
    sys.stdout.write(f"{import_model(find(settings.tracking.model, options.version))}\n")


def _synthesize(options: argparse.Namespace) -> None:
    tables = APPLICATIONS if options.applications_only else ALL
    with Progress().step("clients", options.clients) as advance:
        synthesize(
            options.output,
            clients=options.clients,
            seed=options.seed,
            file_format=options.format,
            tables=tables,
            progress=advance,
        )
