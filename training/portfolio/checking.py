"""Holds labelled data against a portfolio's declaration and the settings of training. Nothing is fitted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from features.files import open_file
from features.portfolio import FILE_NAME, Portfolio
from features.schema import Column, Protection
from features.validation import RuleViolation
from jobs.errors import ProjectError, SettingsError
from jobs.settings import questions_in, read_document, told
from scoring.cli import served_name
from training.dataset import (
    Dataset,
    find_applications,
    outside_leaks,
    read_dataset,
    refuse_leaks,
    refuse_too_few,
    split_by_time,
)
from training.settings import TrainingSettings


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
