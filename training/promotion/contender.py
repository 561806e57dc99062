"""A registered model on labelled rows that it was not fitted on."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from subprocess import CalledProcessError

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features import APPLICATION, Columns
from training.data import Dataset
from training.errors import RegistryError
from training.registry import Registered, download, recorded_predictions

from .predicting import predicted_probabilities


@dataclass(frozen=True, slots=True, eq=False)
class Contender:
    """A registered model and its PDs on the rows of a data set.

    Attributes
    ----------
    probability : float64, shape (n,); each from a model that was not fitted on the row
    fitted_on : how many of the rows the model was fitted on; their PDs are out of fold, as its training recorded them
    """

    registered: Registered
    probability: NDArray[np.float64]
    fitted_on: int


def contend(registered: Registered, dataset: Dataset) -> Contender:
    """The version on the rows of `dataset`; RegistryError if it keeps no out-of-fold PDs or cannot score a row."""
    with tempfile.TemporaryDirectory() as scratch:
        probability = recorded_predictions(registered, Path(scratch)).of_rows(dataset)
        new = np.isnan(probability)
        if new.any():
            probability[new] = _predicted(registered, dataset.columns.take(new), Path(scratch))
    return Contender(registered, probability, int(np.count_nonzero(~new)))


def _predicted(registered: Registered, columns: Columns, scratch: Path) -> NDArray[np.float64]:
    try:
        return predicted_probabilities(download(registered, scratch), _frame(columns))
    except CalledProcessError as error:
        last = str(error.stderr).strip().splitlines()[-1:]
        raise RegistryError(f"{registered} cannot score the rows: {''.join(last)}") from None


def _frame(columns: Columns) -> pd.DataFrame:
    """The raw columns under their names."""
    numbers = pd.DataFrame(columns.numbers, columns=[column.name for column in APPLICATION.numeric])
    levels = pd.DataFrame(columns.levels, columns=[column.name for column in APPLICATION.categorical])
    return pd.concat([numbers, levels], axis=1)
