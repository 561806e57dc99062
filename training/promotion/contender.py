"""A registered model on labelled rows that it was not fitted on."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from features import Columns
from scoring import Artefact, ArtefactError, Scorer
from training.data import Dataset
from training.errors import RegistryError
from training.registry import Registered, artefact_folder, download, recorded_predictions


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
    """PDs by this code, which nothing but the verified artefact is handed to."""
    try:
        scorer = Scorer(Artefact.read(artefact_folder(download(registered, scratch), registered)))
    except ArtefactError as error:
        raise RegistryError(f"{registered} cannot score the rows it was not fitted on: {error}") from None
    return scorer.score(columns).probability
