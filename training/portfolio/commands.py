"""What the commands that need a portfolio and no model do. They start without MLflow."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from features.drawing import UNKNOWN_LEVEL
from features.files import open_file
from features.portfolio import FILE_NAME, Portfolio, PortfolioDeclaration
from features.schema import Column, Protection
from features.validation import RuleViolation
from jobs.commandline import Advance, Progress, say
from jobs.errors import ProjectError, SettingsError
from jobs.output import staged, write_json
from jobs.settings import open_questions, questions_in, read_document, read_yaml, told
from scoring.cli import served_name
from training.dataset import (
    TRUE_PD,
    Dataset,
    find_applications,
    load_dataset,
    outside_leaks,
    read_dataset,
    refuse_leaks,
    refuse_too_few,
    split_by_time,
)
from training.errors import DataError
from training.generation import FEWEST_ROWS, SEGMENTS, STATED, Drawn, FileFormat, LabelledWriter, Likeness, row_digests
from training.portfolio.changes import changes, read_portfolio
from training.portfolio.drafting import draft
from training.portfolio.labelled_file import read_labelled
from training.portfolio.table_schema import TableSchema, table_schema
from training.portfolio.text import draft_text, reasons_text
from training.settings import PolicySettings, TrainingSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What keeps data from being trained on (`faults`), and what is legal but worth knowing (`warnings`).

    `left_out` are lines on the features that the model may not read.
    """

    portfolio: str
    rows: int
    defaults: int
    faults: tuple[str, ...]
    warnings: tuple[str, ...]
    left_out: tuple[str, ...] = ()


def check(data: Path, settings: Path, portfolio: Path | None) -> Checked:
    """Check the labelled data of a portfolio; `portfolio` takes the place of the one that the settings name.

    SettingsError, FileError or ColumnsError where the portfolio or the data cannot be read at all.
    """
    declared = Portfolio.named_in(settings) if portfolio is None else Portfolio.load(portfolio)
    loaded, wrong = _settings(settings, portfolio)
    dates = loaded.out_of_time.column if loaded and loaded.out_of_time else None
    dataset, violations = read_dataset(data, declared, dates=dates)
    return Checked(
        portfolio=declared.name,
        rows=len(dataset),
        defaults=int(np.sum(dataset.target == 1)),
        faults=(*wrong, *map(str, violations), *_data_faults(dataset, violations, loaded)),
        warnings=(
            *_declared_warnings(declared),
            *(() if loaded is None else served_otherwise(loaded.tracking.model)),
            *dataset.warnings,
            *_outside(data, dataset, loaded),
        ),
        left_out=() if loaded is None else tuple(loaded.left_out_lines()),
    )


def _settings(settings: Path, portfolio: Path | None) -> tuple[TrainingSettings | None, tuple[str, ...]]:
    """The settings, None if they are wrong, and what is wrong with them or still open."""
    try:
        loaded = TrainingSettings.load(settings, portfolio, draft=True)
    except SettingsError as error:
        return None, (str(error),)
    file = loaded.portfolio / FILE_NAME if loaded.portfolio.is_dir() else loaded.portfolio
    lines = questions_in(file)
    return loaded, ((f"{file}: {told(lines)}",) if lines else ())


_PROJECT = Path(__file__).resolve().parents[2]


def served_otherwise(model: str, project: Path = _PROJECT) -> Iterator[str]:
    """Say in one line which files to change where the service and the Bento take a model of another name."""
    serving, bento = project / "configs" / "serving.yaml", project / "bentofile.yaml"
    stated = (read_document(bento) or {}).get("models") or []
    pinned = [(one.get("tag"), one.get("alias")) for one in stated if isinstance(one, dict)]
    wrong = [f"model: {model} in configs/serving.yaml"] if served_name(serving) != model else []
    if pinned != [(f"{model}:latest", model)]:
        wrong.append(f"tag: {model}:latest and alias: {model} in bentofile.yaml")
    if wrong:
        yield f"the service does not serve {model} yet: write {', and '.join(wrong)}"


def _declared_warnings(portfolio: Portfolio) -> Iterator[str]:
    """What a declaration leaves open that a lender may not have meant."""
    if not any(column.required for column in portfolio.schema):
        yield "no column is required: an application that states nothing is scored, and may be declined"
    for column in portfolio.schema:
        for protection in column.protections:
            yield from _group_warnings(column, protection)


def _group_warnings(column: Column, protection: Protection) -> Iterator[str]:
    """Groups that no legal value reaches, and levels that no group holds."""
    said = f"{column.name}: the attribute {protection.attribute}"
    low, high = sorted((column.low / protection.per_unit, column.high / protection.per_unit))
    outside = [f"{band:g}" for band in protection.bands if not low < band <= high]
    if outside:
        yield f"{said} has bands outside the bounds, {low:g} to {high:g}: {', '.join(outside)}"
    grouped = {level for _, levels in protection.groups for level in levels}
    alone = [level for level in column.levels if level not in grouped]
    if alone and not column.numeric:
        yield f"{said} has no group for {', '.join(alone)}: their applicants are not screened"


def _data_faults(dataset: Dataset, violations: list[RuleViolation], settings: TrainingSettings | None) -> Iterator[str]:
    """Too few rows, leaks and a later part of one outcome, in the rows whose outcome can be read."""
    sound = dataset.take(np.flatnonzero(dataset.target >= 0))
    if settings is None or len(np.unique(sound.target)) < 2:
        return
    model = settings.model
    yield from _refused(lambda: refuse_too_few(sound.target, folds=model.folds, per_fold=model.min_outcomes_per_fold))
    yield from _refused(lambda: refuse_leaks(sound, settings.leakage))
    if not violations:
        yield from _refused(lambda: split_by_time(sound, settings.out_of_time))


def _refused(step: Callable[[], object]) -> Iterator[str]:
    try:
        step()
    except ProjectError as error:
        yield str(error)


def _outside(data: Path, dataset: Dataset, settings: TrainingSettings | None) -> Iterator[str]:
    if settings is None or not np.array_equal(np.unique(dataset.target), (0, 1)):
        return
    file = open_file(find_applications(data, dataset.portfolio), dataset.portfolio)
    yield from outside_leaks(dataset, file, settings.leakage)


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
    """Write applications that look like a labelled file, and say what they give away; see `training.generation`."""
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


BREAKS = 3
"""Exit code of a comparison in which the newer portfolio breaks callers."""


def diff(*, old: Path, new: Path, as_json: bool) -> int:
    """Say what differs between two portfolios; 3 if the newer one breaks callers, else 0."""
    found = changes(read_portfolio(old), read_portfolio(new))
    breaks, retrain = sum(change.breaks for change in found), any(change.retrain for change in found)
    if as_json:
        say([json.dumps({"breaks": breaks, "retrain": retrain, "changes": [asdict(one) for one in found]}, indent=1)])
    else:
        kept = "a served model keeps the declaration that it was trained with"
        again = f"train again: {kept}" if retrain else f"no new training is needed, though {kept}"
        say([*map(str, found), f"{breaks} of {len(found)} changes break callers; {again}"])
    return BREAKS if breaks else 0


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
