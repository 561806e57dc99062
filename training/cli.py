"""The command line of training: options of every command, parsed before slow libraries are imported."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import training

_STORAGE = "CREDIT_SCORING_TUNING_STORAGE"
"""The environment variable for an address whose password must not be in the list of processes."""
_SETTINGS = Path(__file__).resolve().parent.parent / "configs" / "training.yaml"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 if it succeeded, 1 after one line on standard error if not, 128 + n if signal n ended it."""
    options = _parser().parse_args(arguments)
    try:
        from training.commands import execute  # MLflow and LightGBM take seconds to import, --help should not

        return execute(options.command, options)
    except KeyboardInterrupt:
        # Only the slow imports can be interrupted here: `execute` handles the signals of a running command itself.
        sys.stderr.write("stopped by SIGINT\n")
        return 128 + signal.SIGINT


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training", description=training.__doc__)
    commands = parser.add_subparsers(required=True, metavar="command", dest="command")

    run = commands.add_parser("run", help="train, track, register and judge a model; promote it if it passes")
    _add_data(run)
    run.add_argument("--params", type=Path, metavar="FILE", help="parameters that `tune` wrote, to use instead")
    run.add_argument("--no-promote", action="store_true", help="keep the model a challenger even if it passes")
    _add_permissions(run)
    _add_settings(run)

    register = commands.add_parser(
        "register", help="register a fitted model that MLflow could not take when it was trained"
    )
    register.add_argument("folder", type=Path, help="the folder that `run` named")
    _add_settings(register)

    compare = commands.add_parser("experiments", help="compare models, features and sampling on the same folds")
    _add_data(compare)
    compare.add_argument("--only", metavar="NAME", help="model_selection, feature_engineering or options")
    _add_settings(compare)

    search = commands.add_parser("tune", help="search LightGBM's parameters; continues a study that was stopped")
    _add_data(search)
    search.add_argument("--trials", type=int, help="number of trials in the study (default: the settings)")
    search.add_argument("--study", help="name of the study (default: the settings)")
    # The default comes from the environment, because other users see the arguments of a process.
    storage = f"database that keeps the trials (default: {_STORAGE}, then the settings)"
    search.add_argument("--storage", metavar="URL", default=os.environ.get(_STORAGE), help=storage)
    output = "file for `run --params` (default: %(default)s)"
    search.add_argument("--output", type=Path, default=Path("tuned.yaml"), help=output)
    _add_settings(search)

    promote = commands.add_parser("promote", help="judge a registered model and make it champion if it passes")
    promote.add_argument("--version", default="@challenger", help="number or @alias (default: %(default)s)")
    promote.add_argument("--data", type=Path, help="folder with application_train to judge on; default: generated")
    _add_permissions(promote)
    _add_settings(promote)

    for name, text in (
        ("rollback", "make the champion before the present one champion again"),
        ("list", "show the registered models and the history of champions"),
        ("import", "import the champion into the BentoML store of this machine"),
    ):
        _add_settings(commands.add_parser(name, help=text))

    report = commands.add_parser("report", help="copy the report of a registered model, one HTML page, to a file")
    report.add_argument("--version", default="@champion", help="number or @alias (default: %(default)s)")
    report.add_argument("--output", type=Path, required=True, metavar="FILE", help="replaced if it exists")
    _add_settings(report)

    generate = commands.add_parser("synthesize", help="write generated data in Kaggle's Home Credit layout")
    generate.add_argument("--clients", type=int, required=True, help="rows of application_train")
    generate.add_argument("--seed", type=int, default=0)
    generate.add_argument("--output", type=Path, required=True, help="folder that does not exist yet, or is empty")
    generate.add_argument("--format", choices=("csv", "parquet"), default="csv")
    generate.add_argument("--applications-only", action="store_true", help="leave the history tables out")
    return parser


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, help="folder with application_train, CSV or Parquet (default: generated)")


def _add_permissions(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--allow-generated",
        action="store_true",
        help="let a model of generated data replace a model of real data",
    )
    parser.add_argument(
        "--allow-uncompared",
        action="store_true",
        help="let a model replace a champion that this code cannot score, so that nothing compares the two",
    )


def _add_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--settings", type=Path, default=_SETTINGS, help="default: configs/training.yaml")
    parser.add_argument(
        "--tracking-uri",
        default=os.environ.get("MLFLOW_TRACKING_URI"),
        help="MLflow server or database (default: MLFLOW_TRACKING_URI, then the settings)",
    )
