"""`python -m scoring`: batch, export, keys. The program adds verify and prove, which are about the decision log."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click
from pydantic import TypeAdapter, ValidationError

from jobs.commandline import PATH, CommandGroup, Progress, run_command, say
from jobs.errors import SettingsError
from jobs.output import write_bytes
from jobs.settings import read_document
from scoring.keys import KEYS_VARIABLE, KeyFile, KeyFileError, KeyName, Scope, create_key, issue, revoke_key

if TYPE_CHECKING:
    from scoring.engines import Engine, Shard
    from scoring.histories import ApplicationOnly, JobHistories
    from scoring.job import BatchJob, Summary
    from scoring.part import Output
    from scoring.store import StoredModel

_SERVING = Path(__file__).resolve().parent.parent / "configs" / "serving.yaml"
# Files may lack dozens of columns, and naming them all would bury the counts above.
_MOST_LISTED = 8
_PROCESSORS = len(os.sched_getaffinity(0))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 if it succeeded, 1 after one line on standard error if not, 128 + n if signal n ended it."""
    return run_command(commands, arguments, program="python -m scoring")


@click.group(cls=CommandGroup, help=sys.modules["scoring"].__doc__)
def commands() -> None:
    """Hold the commands."""


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise click.BadParameter(f"{text}: must be at least 1")
    return number


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share <= 1:
        raise click.BadParameter(f"{text}: not a share from 0 to 1")
    return share


def _positive_number(text: str) -> float:
    number = float(text)
    if not (number > 0 and math.isfinite(number)):
        raise click.BadParameter(f"{text}: must be a positive number")
    return number


def served_name(settings: Path = _SERVING) -> str:
    """Return the name in the BentoML store that the service's settings give its model; SettingsError if they do not."""
    document = read_document(settings)
    named = document.get("model") if isinstance(document, dict) else None
    if not isinstance(named, str):
        raise SettingsError(f"{settings}: model: must name a model of the BentoML store")
    return named


def served_ttl_days(settings: Path = _SERVING) -> float:
    """Return the `ttl_days` of the service's settings; SettingsError if they have none."""
    document = read_document(settings)
    histories = document.get("histories") if isinstance(document, dict) else None
    days = histories.get("ttl_days") if isinstance(histories, dict) else None
    if isinstance(days, bool) or not isinstance(days, int | float) or not (days > 0 and math.isfinite(days)):
        raise SettingsError(f"{settings}: histories: ttl_days: must be a positive number")
    return float(days)


@commands.command()
@click.option("--input", "source", required=True, help="file, folder or address of raw applications")
@click.option("--query", metavar="SQL", help="select statement, where --input is a database")
@click.option("--table", metavar="NAME", help="table to read, where --input is a database")
@click.option("--split-by", metavar="COLUMN", help="key, a whole number or date, by whose ranges a query is cut")
@click.option("--splits", type=_positive, metavar="N", default=1, show_default=True, help="parts of a query")
@click.option(
    "--output", required=True, help="folder that does not exist yet, or is empty; address of fsspec; or database"
)
@click.option("--output-table", metavar="NAME", help="table to append to, where --output is a database")
@click.option("--work", metavar="FOLDER", help="folder or address for plan, quarantine and manifest, "
              "where --output is a database")  # fmt: skip
@click.option("--model", default=served_name,
              help="tag in the BentoML model store, or the folder of an artefact, with a / in its name "
              "(default: the latest of that in configs/serving.yaml)")  # fmt: skip
@click.option("--workers", type=_positive, metavar="N", default=_PROCESSORS, show_default="one for each processor",
              help="processes")  # fmt: skip
@click.option("--engine", type=click.Choice(["local", "dask"]), default="local", show_default=True,
              help="processes of this machine, or the workers of a Dask cluster")  # fmt: skip
@click.option("--scheduler", metavar="ADDRESS", help="of the Dask cluster, such as tcp://10.0.0.7:8786")
@click.option("--chunk-rows", type=int, default=8_192, show_default=True, help="rows scored at a time")
@click.option("--max-rejected", type=_share, default=0.5, show_default=True, metavar="SHARE",
              help="fail if more than this share of the applications is rejected")  # fmt: skip
@click.option("--carry", multiple=True, metavar="COLUMN", help="repeat this column of the input beside the decisions")
@click.option("--reasons/--no-reasons", default=True, show_default=True, help="the reasons of declines")
@click.option("--store", metavar="ADDRESS",
              help="feature store with the clients' roll-ups, where the model reads some: sqlite:///PATH or "
              "redis://HOST:PORT/0 (default: that of FEATURE_STORE, or of the file that FEATURE_STORE_FILE "
              "names)")  # fmt: skip
@click.option("--ttl-days", type=_positive_number, metavar="DAYS",
              help="an older entry of the store is not used (default: that of configs/serving.yaml)")  # fmt: skip
@click.option("--without-history", metavar="score|refuse|MODEL", default="score", show_default=True,
              help="score a row whose client's history is not known, refuse it, or leave it to a model of the "
              "application alone, named as for --model")  # fmt: skip
@click.option("--limit", type=_positive, metavar="N", help="read the first N rows only")
@click.option("--sample", type=_share, default=1.0, metavar="SHARE", help="score this share, chosen by identifiers")
@click.option("--shard", metavar="I/N", help="score the parts that leave I, from 0, when divided by N "
              "(default: from JOB_COMPLETION_INDEX, if set)")  # fmt: skip
@click.option("--shards", type=_positive, metavar="N", help="number of shards (default: JOB_COMPLETIONS, if set)")
@click.option("--finish", is_flag=True, help="score nothing; finish the job if all its parts are there")
@click.option("--dry-run", is_flag=True, help="say what would be done, score the first rows, and write nothing")
def batch(
    *, source: str, query: str | None, table: str | None, split_by: str | None, splits: int,
    output: str, output_table: str | None, work: str | None, model: str, workers: int,
    engine: str, scheduler: str | None, chunk_rows: int,
    max_rejected: float, carry: tuple[str, ...], reasons: bool, store: str | None, ttl_days: float | None,
    without_history: str, limit: int | None, sample: float,
    shard: str | None, shards: int | None, finish: bool, dry_run: bool,
) -> None:  # fmt: skip
    """Score files of raw applications. The same command goes on with a job that was interrupted."""
    # The serving image has no pyarrow, and keys are made there.
    from features.sources import open_source
    from scoring.engines import Shard, end_job, run_job
    from scoring.job import BatchJob
    from scoring.part import JobOptions

    share = Shard.of(shard, shards=shards)
    place, database = _placed(output, output_table, work)
    stored, reference = _loaded(model)
    portfolio = stored.scorer.artefact.portfolio
    job = BatchJob(
        open_source(source, portfolio, query=query, table=table, split_by=split_by, splits=splits),
        stored,
        reference,
        place,
        JobOptions(carry, reasons, limit, sample),
        chunk_rows=chunk_rows,
        max_rejected=max_rejected,
        database=database,
        table=output_table,
        histories=_histories(stored, store, ttl_days, without_history),
    )
    if dry_run:
        say(_dry_lines(job))
        return
    scored_by = _engine(job, workers, engine, scheduler)
    with Progress().step("applications", job.rows) as advance:
        summary = end_job(job) if finish else run_job(job, scored_by, shard=share, advance=advance)
    say(_waiting_lines(job, share) if summary is None else _lines(summary, _shown(job)))


def _placed(output: str, table: str | None, work: str | None) -> tuple[Output, str | None]:
    """Where files go, and the address of the database if decisions go there."""
    from features.database import is_database
    from jobs.destination import open_output

    if not is_database(output):
        if table or work:
            raise click.UsageError("--output-table and --work are for an output in a database")
        return open_output(output), None
    if not (table and work):
        raise click.UsageError("an output in a database needs --output-table and --work")
    return open_output(work), output


def _shown(job: BatchJob) -> str:
    """The output, as messages name it."""
    return f"{job.plan.table}; {job.output.address}" if job.database else job.output.address


def _loaded(model: str) -> tuple[StoredModel, str]:
    """The model, and the exact name by which other processes find it."""
    from scoring.part import is_folder
    from scoring.store import load_folder, load_stored

    if is_folder(model) and Path(model).is_dir():
        return load_folder(Path(model)), str(Path(model).resolve())
    stored = load_stored(model)
    return stored, f"{stored.name}:{stored.version}"


def _histories(model: StoredModel, store: str | None, ttl_days: float | None, without: str) -> JobHistories | None:
    """Where roll-ups are found, and what becomes of rows without; None if the model reads none."""
    from features.store import stated_address
    from scoring.histories import REFUSE, SCORE, JobHistories

    features = model.scorer.artefact.features
    histories = features.portfolio.histories
    if histories is None or not features.rolled_up:
        return None
    address = stated_address(os.environ) if store is None else store
    found = JobHistories() if address is None else JobHistories.at(address, histories, ttl_days or served_ttl_days())
    second = None if without in (SCORE, REFUSE) else _application_only(without, model)
    return replace(found, refuse=without == REFUSE, application_only=second)


def _application_only(named: str, champion: StoredModel) -> ApplicationOnly:
    """The model that decides where no history is known; ColumnsError if it cannot."""
    from features.errors import ColumnsError, FeatureError
    from scoring.histories import ApplicationOnly
    from scoring.store import require_application_only

    model, reference = _loaded(named)
    try:
        require_application_only(model, champion)
    except FeatureError as error:
        raise ColumnsError(f"--without-history: {named} cannot decide without a history: {error}") from None
    return ApplicationOnly(f"{model.name}:{model.version}", model.version, model.scorer.artefact.digest, reference)


def _engine(job: BatchJob, workers: int, engine: str, scheduler: str | None) -> Engine:
    from scoring.cluster import DaskEngine
    from scoring.engines import InProcess, ProcessPool

    if (engine == "dask") != (scheduler is not None):
        raise click.UsageError("--engine dask and --scheduler belong together")
    if scheduler is not None:
        return DaskEngine(scheduler)
    workers = min(workers, len(job.source.parts))
    return ProcessPool(workers) if workers > 1 else InProcess(job.model)


def _waiting_lines(job: BatchJob, shard: Shard) -> Iterator[str]:
    yield f"shard {shard.index}/{shard.count} is done; {job.output.unfinished} waits for other shards"


def _dry_lines(job: BatchJob) -> Iterator[str]:
    from scoring.part import counts_of_first

    tasks = job.tasks()
    size = "rows that are not counted yet" if job.rows is None else f"{job.rows} rows"
    yield (
        f"would score {size} in {len(tasks)} part{'s' * (len(tasks) > 1)} of {job.source.address} "
        f"by {job.plan.model}, named by {job.source.identifier.name}, into {_shown(job)}"
    )
    counts = counts_of_first(tasks[0], job.model)
    yield f"of the first {counts.rows} rows, {counts.scored} are scored and {counts.rejected} rejected"
    yield from (f"  rejected, {rule}: {count}" for rule, count in counts.rules.most_common())
    yield from _history_lines(counts.histories)


def _lines(summary: Summary, output: str) -> Iterator[str]:
    yield (
        f"{summary.rows} applications by {summary.model}:{summary.version}: "
        f"{summary.scored} scored, {summary.rejected} rejected; {output}"
    )
    yield from (f"  rejected, {rule}: {count}" for rule, count in summary.broken_rules.items())
    if summary.withheld:
        yield f"  referred, too little is known for an approval: {summary.withheld}"
    yield from _history_lines(summary.histories)
    for name, count in summary.unknown_levels.items():
        every = ", every level that is stated" if name in summary.never_known else ""
        yield f"  level that the model did not learn, {name}: {count}{every}"
    for what, names in (
        ("missing in every row", summary.never_stated),
        ("not declared and ignored", summary.ignored_columns),
        ("not read", summary.passed_over),
    ):
        if names:
            yield f"  {what}: {_listed(names)}"


def _history_lines(histories: Mapping[str, int]) -> Iterator[str]:
    return (f"  history, {source}: {count}" for source, count in sorted(histories.items()))


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_LISTED} more" if len(names) > _MOST_LISTED else ""
    return ", ".join(names[:_MOST_LISTED]) + more


@commands.command("export")
@click.option("--sql", "dialect", type=click.Choice(["postgresql", "duckdb"]), required=True, help="the database")
@click.option("--model", default=served_name,
              help="tag in the BentoML model store, or the folder of an artefact, with a / in its name "
              "(default: the latest of that in configs/serving.yaml)")  # fmt: skip
@click.option("--table", default="applications", show_default=True, help="of raw applications; NAME or SCHEMA.NAME")
@click.option(
    "--identifier", metavar="COLUMN", help="that names the applicants (default: the portfolio's, or client_id)"
)
@click.option("--create-table", is_flag=True, help="write the statement that creates the table of applications")
@click.option("--output", type=PATH, help="file that is written, or replaced (default: standard output)")
def export_sql(
    *, dialect: str, model: str, table: str, identifier: str | None, create_table: bool, output: Path | None
) -> None:
    """Write the whole scorer, reasons aside, as one SQL statement."""
    from scoring import export
    from scoring.sql import Dialect

    stored, _ = _loaded(model)
    portfolio = stored.scorer.artefact.portfolio
    target = export.Target.of(portfolio, Dialect(dialect), table=table, identifier=identifier)
    text = export.table_statement(portfolio, target) if create_table else export.statement(stored, target)
    if output is None:
        sys.stdout.write(text)
    else:
        write_bytes(output, text.encode())


@commands.group()
def keys() -> None:
    """Create, revoke and list the API keys of the service."""


def _file(command: Callable[..., None]) -> Callable[..., None]:
    return click.option("--file", type=PATH, envvar=KEYS_VARIABLE, help=f"file of keys (default: ${KEYS_VARIABLE})")(
        command
    )


def _named(file: Path | None) -> Path:
    if file is None:
        raise KeyFileError(f"--file or the environment variable {KEYS_VARIABLE} must name the file of keys")
    return file


def _name(text: str) -> str:
    try:
        return TypeAdapter(KeyName).validate_python(text)
    except ValidationError:
        raise click.BadParameter("must be 1 to 64 letters, digits and _ . -") from None


@keys.command()
@click.option("--name", type=_name, required=True, metavar="NAME", help="who holds it; letters, digits and _ . -")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice([scope.value for scope in Scope]),
    multiple=True,
    required=True,
    help="may be given several times",
)
@click.option(
    "--requests-per-second",
    "rate",
    type=_positive_number,
    metavar="N",
    help="of each worker; an application of a batch counts like a request (default: the service's)",
)
@_file
def create(*, name: str, scopes: tuple[str, ...], rate: float | None, file: Path | None) -> None:
    """Make a key and print it, this once."""
    now = datetime.now(UTC).replace(microsecond=0)
    wanted = tuple(Scope(scope) for scope in dict.fromkeys(scopes))
    issued = issue(name, wanted, created=now, requests_per_second=rate)
    create_key(_named(file), issued)
    sys.stdout.write(f"{issued.secret}\n")
    sys.stderr.write(f"key {issued.key.id} for {issued.key.name}; it is not shown again\n")


@keys.command()
@click.argument("key")
@_file
def revoke(*, key: str, file: Path | None) -> None:
    """Take a key back: KEY is its id or the name it was given, never the key itself."""
    revoked = revoke_key(_named(file), key)
    sys.stdout.write(f"key {revoked.id} of {revoked.name} is revoked\n")


@keys.command("list")
@_file
def list_keys(*, file: Path | None) -> None:
    """Show the keys in force, without the keys."""
    for key in KeyFile.read(_named(file)).keys:
        rate = "" if key.requests_per_second is None else f"  {key.requests_per_second:g}/s"
        sys.stdout.write(f"{key.id}  {key.created:%Y-%m-%d}  {key.name}  {','.join(key.scopes)}{rate}\n")
