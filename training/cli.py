"""`python -m training`: portfolios (init, check, diff), training (run, tune), models (promote, list) and data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

import training
from jobs.commandline import PATH, CommandGroup, moment, run_command

_STORAGE = "CREDIT_SCORING_TUNING_STORAGE"
"""The environment variable for an address whose password must not be in the list of processes."""
SETTINGS = Path(__file__).resolve().parent.parent / "configs" / "training.yaml"
"""The settings that a command uses unless it is told others."""
MONITORING = SETTINGS.with_name("monitoring.yaml")
"""The settings of drift and performance that a command uses unless it is told others."""
_POSITIVE, _SHARE = click.FloatRange(min=0, min_open=True), click.FloatRange(0, 1)
_Command = TypeVar("_Command", bound=Callable[..., Any])
_GATE_ENDS = "exit code: 0 done, 3 a gate is missed, 1 an error, said in one line, 2 wrong usage"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 if it succeeded, 3 for a finding, 1 for an error, 128 + n if signal n ended it."""
    return run_command(commands, arguments, program="python -m training")


@click.group(cls=CommandGroup, help=training.__doc__)
def commands() -> None:
    """Hold the commands. What they do is imported when one runs: MLflow and LightGBM take seconds."""


def _settings(command: _Command) -> _Command:
    """Options of every command that uses the settings."""
    tracking = "MLflow server or database (default: MLFLOW_TRACKING_URI, then the settings)"
    command = click.option("--tracking-uri", envvar="MLFLOW_TRACKING_URI", help=tracking)(command)
    return _declared(command)


def _declared(command: _Command) -> _Command:
    """Options that name the settings and the portfolio."""
    named = "folder or file of the portfolio (default: the one that the settings name)"
    command = click.option("--portfolio", type=PATH, help=named)(command)
    return click.option("--settings", type=PATH, default=SETTINGS, help="default: configs/training.yaml")(command)


def _allowed(command: _Command) -> _Command:
    """Options of every command that promotes."""
    uncompared = "let a model replace a champion that this code cannot score, so that nothing compares the two"
    command = click.option("--allow-uncompared", is_flag=True, help=uncompared)(command)
    generated = "let a model of generated data replace a model of real data"
    return click.option("--allow-generated", is_flag=True, help=generated)(command)


_data = click.option(
    "--data", type=PATH, help="folder of the portfolio's files, or its file, CSV or Parquet (default: generated)"
)


@commands.command()
@click.option("--data", type=PATH, required=True, help="labelled file, CSV or Parquet")
@click.option("--output", type=PATH, required=True, metavar="DIR", help="folder that does not exist yet, or is empty")
@click.option("--outcome", metavar="COLUMN", help="column of the outcome (default: found by name and values)")
@click.option("--hint", type=PATH, metavar="FILE", help="Table Schema of the file, which says what need not be guessed")
def init(**options: Any) -> None:
    """Draft a portfolio from one labelled file; a person answers its questions."""
    from training.portfolio.commands import init as draft_portfolio

    draft_portfolio(**options, settings=SETTINGS)


@commands.command()
@click.option("--data", type=PATH, required=True, help="folder of the portfolio's files, or its file, CSV or Parquet")
@_declared
def check(**options: Any) -> None:
    """Hold labelled data against a portfolio and the settings; fits no model."""
    from training.portfolio.commands import check_data

    check_data(**options)


@commands.command(epilog="exit code: 0 no caller breaks, 3 callers break, 1 an error, said in one line, 2 wrong usage")
@click.argument("old", type=PATH)
@click.argument("new", type=PATH)
@click.option("--json", "as_json", is_flag=True, help="as JSON")
def diff(**options: Any) -> int:
    """Say what the portfolio NEW breaks for callers of OLD."""
    from training.portfolio.commands import diff as compare

    return compare(**options)


@commands.command("reasons")
@click.option("--portfolio", type=PATH, required=True, help="folder or file of the portfolio")
def reasons(**options: Any) -> None:
    """Print a draft of the reasons of a portfolio, to be appended to its file and reviewed."""
    from training.portfolio.commands import draft_reasons

    draft_reasons(**options)


@commands.command("table-schema")
@click.option("--portfolio", type=PATH, required=True, help="folder or file of the portfolio")
@click.option("--output", type=PATH, required=True, metavar="FILE", help="replaced if it exists")
def table_schema(**options: Any) -> None:
    """Write the Table Schema of a portfolio's labelled file."""
    from training.portfolio.commands import write_table_schema

    write_table_schema(**options)


@commands.command("json-schema")
@click.option("--output", type=PATH, required=True, metavar="FILE", help="replaced if it exists")
def json_schema(**options: Any) -> None:
    """Write the JSON Schema of portfolio files, for editors."""
    from training.portfolio.commands import write_json_schema

    write_json_schema(**options)


@commands.command(epilog=_GATE_ENDS)
@_data
@click.option("--params", type=PATH, metavar="FILE", help="parameters that `tune` wrote, to use instead")
@click.option("--alternatives", type=PATH, metavar="FILE", help="result of `alternatives`, for a chapter of the report")
@click.option("--by-blocks", is_flag=True, help="keep columns and matrices in files in TMPDIR: less memory, same model")
@click.option("--machines", metavar="LIST", help="fit on several machines: host:port,host:port, the same on each")
@click.option("--rank", type=int, envvar="JOB_COMPLETION_INDEX", help="this machine's place in --machines, from 0")
@click.option("--shared", type=PATH, metavar="DIR", help="folder that all of --machines can write")
@click.option("--lost-after", type=float, default=60.0, show_default=True, help="seconds until a silent rank is lost")
@click.option("--save-every", type=int, default=50, show_default=True, help="trees between two saved states")
@click.option("--no-promote", is_flag=True, help="keep the model a challenger even if it passes")
@_allowed
@_settings
def run(**options: Any) -> None:
    """Train, track, register and judge a model; promote it if it passes."""
    from training.commands import run as run_training

    run_training(**options)


@commands.command()
@click.argument("folder", type=PATH)
@_settings
def register(**options: Any) -> None:
    """Register a fitted model that MLflow could not take when it was trained: FOLDER is where `run` said it is."""
    from training.commands import register as register_model

    register_model(**options)


@commands.command()
@_data
@click.option("--only", metavar="NAME", help="model_selection, feature_engineering or options")
@_settings
def experiments(**options: Any) -> None:
    """Compare models, features and sampling on the same folds."""
    from training.commands import experiments as run_experiments

    run_experiments(**options)


@commands.command()
@_data
@click.option("--trials", type=int, help="number of trials in the study (default: the settings)")
@click.option("--study", help="name of the study (default: the settings)")
@click.option("--storage", metavar="URL", envvar=_STORAGE,
              help=f"database that keeps the trials (default: {_STORAGE}, then the settings)")  # fmt: skip
@click.option("--output", type=PATH, default=Path("tuned.yaml"), show_default=True, help="file for `run --params`")
@_settings
def tune(**options: Any) -> None:
    """Search LightGBM's parameters; continues a study that was stopped."""
    from training.commands import search

    search(**options)


@commands.command()
@_data
@click.option("--output", type=PATH, required=True, metavar="DIR", help="folder for the result; a search there goes on")
@click.option("--minutes", type=_POSITIVE, default=25.0, show_default=True, help="time for all of it, about")
@click.option("--trials", type=int, help="the most trials (default: the settings)")
@click.option("--penalty", is_flag=True, help="also fits that penalize scores which differ by group")
@click.option(
    "--protected", type=PATH, metavar="FILE", help="CSV or Parquet: client_id, and attributes beside the data"
)
@_declared
def alternatives(**options: Any) -> None:
    """Search models that approve protected groups more alike, and state their price."""
    from training.commands import search_fairer

    search_fairer(**options)


@commands.command(epilog=_GATE_ENDS)
@click.option("--version", default="@challenger", show_default=True, help="number or @alias")
@click.option("--data", type=PATH, help="folder or file of labelled applications to judge on; default: generated")
@_allowed
@_settings
def promote(**options: Any) -> None:
    """Judge a registered model and make it champion if it passes."""
    from training.registry.commands import promote_version

    promote_version(**options)


@commands.command(
    epilog="exit code: 0 trained, or not due; 3 trained, and a gate is missed; 1 an error, said in one line"
)
@_data
@click.option("--if-drifted", is_flag=True, help="only if decisions have drifted, performance is low, or by schedule")
@click.option("--log", type=PATH, metavar="DIR", help="the decision log, for --if-drifted")
@click.option("--outcomes", type=PATH, metavar="FILE", help="outcomes of decisions, as for `monitoring performance`")
@click.option("--monitoring", type=PATH, default=MONITORING, help="default: configs/monitoring.yaml")
@click.option("--because", metavar="TEXT", default="as asked for", show_default=True, help="why, without --if-drifted")
@click.option("--force", is_flag=True, help="within the cooldown too; the budget holds")
@click.option("--json", "as_json", is_flag=True, help="as JSON")
@_allowed
@_settings
def retrain(**options: Any) -> int:
    """Train on matured data if it is due, and leave what passes as challenger."""
    from training.commands import retrain as retrain_if_due

    return retrain_if_due(**options)


@commands.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="address to listen at")
@click.option("--port", type=click.IntRange(0, 65_535), default=9095, show_default=True)
@click.option("--token-file", type=PATH, metavar="FILE", help="the Bearer token that callers must know")
@click.option("--inbox", type=PATH, metavar="DIR", help="alerts to act on (default: receiver, in BENTOML_HOME)")
@_data
@_allowed
@_settings
def receive(**options: Any) -> None:
    """Listen for Alertmanager's webhooks; retrain, or halt the challengers, on the alerts that the settings name."""
    from training.receiver import receive as receive_alerts

    receive_alerts(**options)


@commands.command()
@click.option("--version", default="@champion", show_default=True, help="number or @alias of the version to revise")
@click.option("--cost-fn", type=_POSITIVE, help="cost of approving a bad application")
@click.option("--cost-fp", type=_POSITIVE, help="cost of declining a good one")
@click.option("--cutoff", type=_SHARE, help="PD from which default is predicted (default: what the costs imply)")
@click.option("--refer-from", type=_SHARE, help="PD from which a person decides (default: moves with the cut-off)")
@click.option("--refer-to", type=_SHARE, help="PD from which an application is declined (default: moves too)")
@click.option(
    "--explore-share", type=click.FloatRange(0, 1, max_open=True), help="of declines, approved at random; 0: off"
)
@click.option("--explore-up-to", type=_SHARE, help="the highest PD that is explored")
@click.option("--note", default="", help="why, for the report and the lineage")
@click.option("--data", type=PATH, help="folder or file of labelled applications to judge on; default: generated")
@click.option("--log", "folder", type=PATH, metavar="DIR", help="decision log, to count what would change in it")
@click.option("--dry-run", is_flag=True, help="show what would change, and register nothing")
@_settings
def policy(**options: Any) -> None:
    """Revise costs, cut-off, refer band or exploration of a version without training; a new version, to be promoted."""
    from training.registry.commands import revise_policy

    revise_policy(**options)


@commands.command()
@click.option("--version", help="challenger: number or @alias of the registry, or tag of the BentoML store")
@click.option("--log", "folder", type=PATH, required=True, metavar="DIR", help="the decision log")
@click.option("--since", type=moment, metavar="TIME", help="decisions from then on: RFC 3339, or a date (UTC)")
@click.option("--until", type=moment, metavar="TIME", help="decisions before then")
@click.option("--shadow", type=PATH, metavar="DIR", help="join what a shadow recorded there instead of computing it")
@click.option(
    "--groups", type=PATH, metavar="FILE", help="client_id, or request_id and index, and protected attributes"
)
@click.option("--group-column", "columns", multiple=True, metavar="NAME", help="of --groups (default: all)")
@click.option("--outcomes", type=PATH, metavar="FILE", help="the same keys, and outcome: 1 default, 0 repaid, or empty")
@click.option("--amount", metavar="FEATURE", help="feature that is summed up (default: that of --monitoring)")
@click.option("--output", type=PATH, metavar="DIR", help="folder that does not exist yet: comparison.json and .html")
@click.option("--monitoring", type=PATH, default=SETTINGS.with_name("monitoring.yaml"),
              help="settings (default: configs/monitoring.yaml)")  # fmt: skip
@_settings
def compare(**options: Any) -> None:
    """Tell what a challenger would have decided on recorded applications, before it sees any traffic."""
    from training.registry.commands import compare as compare_with

    compare_with(**options)


@commands.command("plan-test")
@click.option("--name", required=True, help="of the test")
@click.option("--output", type=PATH, required=True, metavar="FILE", help="the plan, JSON; a plan is never replaced")
@click.option(
    "--metric", type=click.Choice(("default_rate", "profit", "approvals")), default="profit", show_default=True
)
@click.option("--difference", type=float, required=True, help="smallest difference of the metric that matters")
@click.option("--default-rate", type=float, required=True, help="of the approved, by the champion")
@click.option("--approval-share", type=float, required=True, help="by the champion")
@click.option("--cost-fn", type=float, help="of a bad application approved (default: the settings)")
@click.option("--cost-fp", type=float, help="of a good application declined (default: the settings)")
@click.option("--share", type=float, required=True, help="of the clients, that the challenger decides for")
@click.option("--champion-share", type=float, help="where a third variant decides too (default: all others)")
@click.option("--champion", default="champion", show_default=True, help="name of the variant")
@click.option("--challenger", default="challenger", show_default=True, help="name of the variant")
@click.option("--sides", type=click.IntRange(1, 2), default=2, show_default=True, help="1: is it better? 2: or worse?")
@click.option(
    "--alpha", type=float, default=0.05, show_default=True, help="probability of a verdict without difference"
)
@click.option("--power", type=float, default=0.8, show_default=True, help="probability to find --difference")
@click.option("--rule", type=click.Choice(("fixed", "obrien-fleming")), default="obrien-fleming", show_default=True)
@click.option("--looks", type=int, help="at the outcomes (default: 1 where fixed, else 5)")
@click.option("--applicants-per-day", type=float, required=True, help="expected, each client once")
@click.option("--mature-days", type=float, required=True, help="from a decision until its outcome counts as known")
@click.option("--starts", type=moment, required=True, metavar="TIME", help="decisions before then do not count")
@click.option("--settings", type=PATH, default=SETTINGS, help="default: configs/training.yaml")
def plan_test(**options: Any) -> None:
    """Plan a live test of two models: how many applicants, how long, and when it may stop."""
    from training.live.plan import write_plan

    write_plan(**options)


@commands.command("test-result", epilog="exit code: 0 done, 3 the split is broken, 1 an error, 2 wrong usage")
@click.option("--plan", type=PATH, required=True, metavar="FILE", help="what plan-test wrote")
@click.option("--log", type=PATH, required=True, metavar="DIR", help="the decision log")
@click.option("--outcomes", type=PATH, metavar="FILE", help="as of `python -m monitoring performance`")
@click.option("--shadow", type=PATH, metavar="DIR", help="shadow records, to compare both on the same applications")
@click.option("--until", type=moment, metavar="TIME", help="decisions before then, as where the test was halted")
@click.option("--as-of", type=moment, metavar="TIME", help="when outcomes were collected (default: now)")
@click.option("--json", "found", type=PATH, metavar="FILE", help="write everything that was found there as well")
def test_result(**options: Any) -> int:
    """Say what a live test has shown, at the looks of its plan and by its rule alone."""
    from training.live.result import report_result

    return report_result(**options)


@commands.command()
@_settings
def rollback(**options: Any) -> None:
    """Put the previous champion back in charge."""
    from training.registry.commands import rollback_champion

    rollback_champion(**options)


@commands.command()
@click.option("--at", type=moment, metavar="TIME", help="who was champion then: RFC 3339, or a date (UTC)")
@click.option("--export", "output", type=PATH, metavar="FILE", help="write all events, JSON Lines, chained and signed")
@click.option("--key", type=PATH, metavar="PRIVATE.pem", help="key that signs the export (default: RECORD_KEY_FILE)")
@click.option("--verify", "exported", type=PATH, metavar="FILE", help="hold an export against its hashes and signature")
@click.option("--public", "publics", type=PATH, multiple=True, metavar="PUBLIC.pem",
              help="key that verifies it; again for each older one")  # fmt: skip
@_settings
def audit(**options: Any) -> None:
    """Tell who decided when: every registration, judgement, promotion and rollback, with its actor."""
    from training.registry.commands import audit as audit_model

    audit_model(**options)


@commands.command("list")
@_settings
def list_models(**options: Any) -> None:
    """Show the registered models and the history of champions."""
    from training.registry.commands import list_registered

    list_registered(**options)


@commands.command()
@click.option("--version", default="@champion", show_default=True, help="number or @alias")
@click.option("--output", type=PATH, required=True, metavar="FILE", help="replaced if it exists")
@_settings
def report(**options: Any) -> None:
    """Copy the report of a registered model, one HTML page, to a file."""
    from training.registry.commands import report as write_report

    write_report(**options)


@commands.command("import")
@_settings
def import_(**options: Any) -> None:
    """Make the champion the model that this machine's BentoML store serves."""
    from training.registry.commands import import_champion

    import_champion(**options)


@commands.command("synthesize")
@click.option(
    "--like", type=PATH, metavar="FILE", help="labelled file that the data shall look like; no generator draws"
)
@click.option("--clients", type=int, required=True, help="labelled applications")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--output", type=PATH, required=True, help="folder that does not exist yet, or is empty")
@click.option("--format", "file_format", type=click.Choice(("csv", "parquet")), default="csv", show_default=True)
@click.option("--applications-only", is_flag=True, help="leave the history tables out; --like never has any")
@_declared
def generate(*, like: Path | None, applications_only: bool, **options: Any) -> None:
    """Write generated data: of the portfolio's generator, or --like a labelled file, and say what they give away."""
    if like is not None:
        from training.portfolio.commands import imitate

        imitate(like=like, **options)
        return
    from training.commands import generate as write_data

    write_data(applications_only=applications_only, **options)
