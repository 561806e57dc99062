"""The histories of a data folder, rolled up for its applications."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from features.history_files import HistoryFolder, roll_up_folder
from features.portfolio import Portfolio
from features.transformer import Columns
from jobs.commandline import Progress
from training.blocks import StoredDataset
from training.dataset import Dataset
from training.settings import TrainingSettings

AnyDataset = TypeVar("AnyDataset", Dataset, StoredDataset)
_MISSING = "their roll-ups are missing"


def reads_histories(settings: TrainingSettings) -> bool:
    """Whether a chosen feature reads a roll-up."""
    rolled_up = {column.name for column in settings.declared.schema.rolled_up}
    return any(not rolled_up.isdisjoint(one.sources) for one in settings.features.select(settings.declared))


def with_histories(dataset: AnyDataset, data: Path, settings: TrainingSettings, progress: Progress) -> AnyDataset:
    """The applications with the roll-ups of their clients, where features read them and the folder has the tables.

    The roll-ups of a table whose file is not there stay missing, and a warning names it. A file of applications may
    state its roll-ups itself; then no table is read. The columns are written in place.
    """
    portfolio: Portfolio = settings.declared
    if portfolio.histories is None or not reads_histories(settings) or _states_roll_ups(dataset):
        return dataset
    absent = HistoryFolder.open(data, portfolio).absent if data.is_dir() else [*portfolio.declared.histories]
    if absent:
        dataset = replace(dataset, warnings=(*dataset.warnings, f"no file of {', '.join(absent)}: {_MISSING}"))
    if len(absent) == len(portfolio.histories.tables):
        return dataset
    day = portfolio.declared.decided_on
    days = None if day is None else _number(dataset, portfolio.schema.position[day])
    rolled_up = roll_up_folder(data, portfolio, dataset.ids, days, progress=progress)
    if isinstance(dataset, Dataset):
        dataset.columns.numbers[:, -rolled_up.shape[1] :] = rolled_up
    else:
        dataset.columns.fill_roll_ups(rolled_up)
    digest = hashlib.sha256(dataset.fingerprint.encode())
    digest.update(np.ascontiguousarray(rolled_up).tobytes())
    return replace(dataset, fingerprint=digest.hexdigest())


def _states_roll_ups(dataset: Dataset | StoredDataset) -> bool:
    schema = dataset.portfolio.schema
    return any(not np.isnan(_number(dataset, schema.position[one.name])).all() for one in schema.rolled_up)


def _number(dataset: Dataset | StoredDataset, position: int) -> NDArray[np.float64]:
    """One numeric column of all rows."""
    columns = dataset.columns
    return columns.numbers[:, position] if isinstance(columns, Columns) else columns.number(position)
