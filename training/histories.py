"""The histories of a data folder, rolled up for its applications."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from features.history_files import HistoryFolder, roll_up_folder
from features.portfolio import Portfolio
from features.transformer import Columns
from jobs.commandline import Progress
from training.dataset import Dataset
from training.errors import DataError
from training.settings import TrainingSettings

_MISSING = "their roll-ups are missing"


def reads_histories(settings: TrainingSettings) -> bool:
    """Whether a chosen feature reads a roll-up."""
    rolled_up = {column.name for column in settings.declared.schema.rolled_up}
    return any(not rolled_up.isdisjoint(one.sources) for one in settings.features.select(settings.declared))


def with_histories(dataset: Dataset, data: Path, settings: TrainingSettings, progress: Progress) -> Dataset:
    """The applications with the roll-ups of their clients, where features read them and the folder has the tables.

    The roll-ups of a table whose file is not there stay missing, and a warning names it. A file of applications may
    state its roll-ups itself; then no table is read.
    """
    portfolio = settings.declared
    if portfolio.histories is None or not reads_histories(settings) or _states_roll_ups(dataset.columns):
        return dataset
    absent = HistoryFolder.open(data, portfolio).absent if data.is_dir() else [*portfolio.declared.histories]
    if absent:
        dataset = replace(dataset, warnings=(*dataset.warnings, f"no file of {', '.join(absent)}: {_MISSING}"))
    if len(absent) == len(portfolio.histories.tables):
        return dataset
    rolled_up = roll_up_folder(data, portfolio, dataset.ids, _days(dataset.columns), progress=progress)
    dataset.columns.numbers[:, -rolled_up.shape[1] :] = rolled_up
    digest = hashlib.sha256(dataset.fingerprint.encode())
    digest.update(np.ascontiguousarray(rolled_up).tobytes())
    return replace(dataset, fingerprint=digest.hexdigest())


def _states_roll_ups(columns: Columns) -> bool:
    return not np.isnan(columns.numbers[:, -len(columns.schema.rolled_up) :]).all()


def _days(columns: Columns) -> NDArray[np.float64] | None:
    """The day of each application since 1970-01-01, where the portfolio says which column holds it."""
    day = columns.portfolio.declared.decided_on
    return None if day is None else columns.numbers[:, columns.schema.position[day]]


def refuse_unread(data: Path, settings: TrainingSettings) -> None:
    """DataError where histories would be read in blocks, which is not done."""
    portfolio: Portfolio = settings.declared
    if portfolio.histories is None or not reads_histories(settings) or not data.is_dir():
        return
    if HistoryFolder.open(data, portfolio).tables:
        raise DataError(
            f"{data}: histories are not read in blocks: write the roll-ups into the applications (python -m features"
            " export), or leave the set history out of features.sets"
        )
