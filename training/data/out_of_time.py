"""Judging on applications that came later than those a model was fitted on."""

from __future__ import annotations

import numpy as np

from training.errors import DataError
from training.settings import OutOfTimeSettings

from .dataset import Dataset


def split_by_time(dataset: Dataset, settings: OutOfTimeSettings | None) -> tuple[Dataset, Dataset | None]:
    """The earlier and the later applications; everything and None where no date column is given.

    A day is never divided. DataError if either part would be empty, or the later one would hold one outcome only.
    """
    if settings is None or dataset.dates is None:
        return dataset, None
    first_late = np.sort(dataset.dates)[int(len(dataset) * (1 - settings.share))]
    late = dataset.dates >= first_late
    later = dataset.take(np.flatnonzero(late))
    if late.all() or len(np.unique(later.target)) < 2:
        raise DataError(f"{settings.column}: no later part of {settings.share:g} of the rows holds both outcomes")
    return dataset.take(np.flatnonzero(~late)), later
