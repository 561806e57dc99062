"""PDs of a registered model by its own code: run as a script, outside this checkout's modules.

A model carries the features and scoring code that it was logged with. In a process of its own it can be asked even
where this checkout declares other features.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import mlflow
import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PROBABILITY = "probability"


def predicted_probabilities(model: Path, applications: pd.DataFrame) -> NDArray[np.float64]:
    """PDs, shape (n,), of raw applications by the MLflow model in the folder `model`.

    CalledProcessError, with the reason on standard error, if it cannot score them.
    """
    with tempfile.TemporaryDirectory() as scratch:
        given, answered = Path(scratch) / "applications.parquet", Path(scratch) / "answers.parquet"
        applications.to_parquet(given)
        command = [sys.executable, "-P", __file__, str(model), str(given), str(answered)]
        subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - this very file
        return pd.read_parquet(answered)[_PROBABILITY].to_numpy(dtype=np.float64)


def _main(model: str, applications: str, answers: str) -> None:
    answered = mlflow.pyfunc.load_model(model).predict(pd.read_parquet(applications))
    answered[[_PROBABILITY]].to_parquet(answers)


if __name__ == "__main__":
    _main(*sys.argv[1:])
