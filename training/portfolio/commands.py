"""What the commands that need a portfolio and no model do. They start without MLflow."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from features.drawing import UNKNOWN_LEVEL
from features.portfolio import FILE_NAME, Portfolio, PortfolioDeclaration
from jobs.commandline import say
from jobs.output import staged, write_json
from jobs.progress import Advance, Progress
from jobs.settings import open_questions, read_document, read_yaml, told
from training.dataset import TRUE_PD, load_dataset
from training.errors import DataError
from training.generation import FileFormat, LabelledWriter
from training.likeness import FEWEST_ROWS, SEGMENTS, STATED, Drawn, Likeness, row_digests
from training.portfolio.changes import changes, read_portfolio
from training.portfolio.checking import check
from training.portfolio.drafting import draft
from training.portfolio.labelled_file import read_labelled
from training.portfolio.table_schema import TableSchema, table_schema
from training.portfolio.text import draft_text, reasons_text
from training.settings import PolicySettings, TrainingSettings

SCHEMA_NAME = "portfolio.schema.json"
_NAME_LENGTH = 40


def init(*, data: Path, output: Path, hint: Path | None, outcome: str | None, settings: Path) -> None:
    """Draft a portfolio from a labelled file; costs and risk levels are shown as `settings` have them."""
    stated = None if hint is None else TableSchema.load(hint)
    policy = _policy(settings)
    file = read_labelled(data)
    drafted = draft(file, outcome=outcome, hint=stated)
    beside = output.absolute().parent / SCHEMA_NAME
    schema = f"../{SCHEMA_NAME}" if beside.is_file() else None
    text = draft_text(drafted, file, name=_name(output), policy=policy, schema=schema)
    Portfolio.of(read_yaml(text.encode()), str(output / FILE_NAME))  # nothing is written that could not be loaded
    with staged(output) as folder:
        (folder / FILE_NAME).write_text(text, encoding="utf-8")
    lines = open_questions(text)
    left = told(lines) if lines else "no open questions"
    say([f"{output / FILE_NAME}: {len(drafted.columns)} columns; {left}"])


def _policy(settings: Path) -> PolicySettings:
    document = read_document(settings)
    return PolicySettings.checked(document.get("policy") if isinstance(document, dict) else None, settings)


def _name(output: Path) -> str:
    """A legal name from that of the folder."""
    name = re.sub(r"[^a-z0-9_-]+", "_", Path(os.path.abspath(output)).name.lower()).strip("_-")  # noqa: PTH100
    return name[:_NAME_LENGTH] or "portfolio"


def draft_reasons(*, portfolio: Path) -> None:
    """Write the draft of the `reasons` of a portfolio that declares none; DataError if it does."""
    declared = read_portfolio(portfolio)
    if declared.reasons is not None:
        raise DataError(f"{portfolio}: declares its reasons already")
    say([reasons_text(declared).rstrip("\n")])


def check_data(*, data: Path, settings: Path, portfolio: Path | None) -> None:
    """Hold labelled data against a declaration; DataError, after a line for each fault, if they do not fit."""
    checked = check(data, settings, portfolio)
    if portfolio is None:
        say([f"portfolio {checked.portfolio}, which {settings} names"])
    say([*checked.left_out, *(f"warning: {warning}" for warning in checked.warnings)])
    say([f"fault: {fault}" for fault in checked.faults])
    if checked.faults:
        number = len(checked.faults)
        raise DataError(f"{data} does not fit {checked.portfolio}: {number} fault{'s' if number > 1 else ''}")
    say([f"{data} fits {checked.portfolio}: {checked.rows} applications, {checked.defaults} defaults"])


def imitate(
    *,
    like: Path,
    output: Path,
    clients: int,
    seed: int,
    file_format: FileFormat,
    settings: Path,
    portfolio: Path | None,
) -> None:
    """Write applications that look like a labelled file, and say what they give away; see `training.likeness`."""
    if clients < FEWEST_ROWS or seed < 0:
        raise DataError(f"--clients must be at least {FEWEST_ROWS}, and --seed not negative")
    if not like.exists():
        raise DataError(f"--like {like}: no such file")
    declared, progress = TrainingSettings.load(settings, portfolio).declared, Progress()
    with staged(output) as folder:  # first, since something may be in its way
        with progress.step("read and measure"):
            likeness = Likeness.of(load_dataset(like, declared))
        with ExitStack() as files, progress.step("applications", clients) as advance:
            drawn = likeness.batches(clients, seed)
            compared, copies = _write(drawn, LabelledWriter(folder, declared, file_format, files), likeness, advance)
    say(_given_away(likeness, rows=clients, compared=compared, copies=copies))


def _write(batches: Iterator[Drawn], writer: LabelledWriter, likeness: Likeness, advance: Advance) -> tuple[int, int]:
    """Write drawn applications; how many were compared with the rows that were read, and how many equal one."""
    known, compared, copies = set(row_digests(likeness.dataset.columns)), 0, 0
    outcomes: set[int] = set()
    for drawn in batches:
        writer.write(drawn.columns, drawn.target, drawn.pd)
        digests = list(row_digests(drawn.columns))
        compared, copies = compared + len(digests), copies + sum(digest in known for digest in digests)
        outcomes |= set(drawn.target.tolist())
        advance(len(drawn.columns))
    if len(outcomes) < 2:
        raise DataError("--clients: too few, all drawn outcomes are the same")
    return compared, copies


def _given_away(likeness: Likeness, *, rows: int, compared: int, copies: int) -> Iterator[str]:
    """The lines that say what the files of `rows` drawn applications tell of the file that was read."""
    read, source, latents = len(likeness.dataset), likeness.dataset.source, len(likeness.factor)
    yield f"read {read:,} applications of {source}, drew {rows:,}"
    yield f"given away: up to {SEGMENTS + 1} quantiles of each number, shares of values and levels that many rows hold,"
    yield f"  shares of missing values and codes, the default rate, and {latents} x {latents} rank correlations"
    yield f"smallest group behind a share: {likeness.smallest_group} rows; rarer levels are pooled as '{UNKNOWN_LEVEL}'"
    yield f"copies: {copies:,} of {compared:,} drawn rows that state {STATED} numbers or more equal a row that was read"
    yield f"{TRUE_PD} holds the PD from which each outcome was drawn, and marks these files as generated"
    yield "this does not make anybody anonymous: there is no differential privacy, so do not publish these files"


def diff(*, old: Path, new: Path, as_json: bool) -> int:
    """Say what differs between two portfolios; 1 if the newer one breaks callers, else 0."""
    found = changes(read_portfolio(old), read_portfolio(new))
    breaks, retrain = sum(change.breaks for change in found), any(change.retrain for change in found)
    if as_json:
        say([json.dumps({"breaks": breaks, "retrain": retrain, "changes": [asdict(one) for one in found]}, indent=1)])
    else:
        kept = "a served model keeps the declaration that it was trained with"
        again = f"train again: {kept}" if retrain else f"no new training is needed, though {kept}"
        say([*map(str, found), f"{breaks} of {len(found)} changes break callers; {again}"])
    return int(breaks > 0)


def write_table_schema(*, portfolio: Path, output: Path) -> None:
    """Write the Table Schema of a portfolio."""
    write_json(output, table_schema(Portfolio.load(portfolio)))


def write_json_schema(*, output: Path) -> None:
    """Write the JSON Schema of portfolio files."""
    write_json(output, json_schema())


def json_schema() -> dict[str, object]:
    """Return the JSON Schema of portfolio files, by which editors check and complete them."""
    schema = PortfolioDeclaration.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **json.loads(json.dumps(schema))}
