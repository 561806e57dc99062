"""MLflow runs this file to serve an artefact ("models from code"), so no model is pickled.

`mlflow.pyfunc.load_model(uri).predict(frame)` returns the decisions of a frame of raw applications;
`load_model(uri).unwrap_python_model().predict_proba(frame)` returns probabilities as scikit-learn's classifiers do.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel
from numpy.typing import NDArray

from features.errors import ColumnsError
from features.files import read_from, read_table
from scoring.artefact import Artefact
from scoring.scorer import Scorer, Scores


class CreditScoringModel(PythonModel):
    """The model scores behind MLflow's interface; `classes_` and `predict_proba` are those of scikit-learn."""

    classes_: NDArray[np.int64] = np.array([0, 1])

    def load_context(self, context: Any) -> None:
        """Read the artefact that was logged with the model; ArtefactError if it was altered."""
        self.scorer = Scorer(Artefact.read(Path(context.artifacts["artefact"])))

    def predict(
        self,
        context: Any,  # noqa: ARG002 - MLflow's signature
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,  # noqa: ARG002 - MLflow's signature
    ) -> pd.DataFrame:
        """Return one row per application: PD, decision, points, missing or unknown columns, codes of reasons."""
        scores = self._score(model_input)
        return pd.DataFrame(
            {
                "probability": scores.probability,
                "prediction": scores.prediction,
                "decision": [str(outcome) for outcome in scores.decision],
                "risk_level": [str(level) for level in scores.risk_level],
                "score": scores.points,
                "missing": scores.missing,
                "unknown": [len(names) for names in scores.unknown],
                "unknown_columns": ["; ".join(names) for names in scores.unknown],
                "withheld": ["; ".join(reasons) for reasons in scores.withheld],
                "reasons": ["; ".join(reason.code for reason in reasons) for reasons in scores.reasons],
            },
            index=model_input.index,
        )

    def predict_proba(self, frame: pd.DataFrame) -> NDArray[np.float64]:
        """Return the probabilities of repayment and default, shape (n, 2)."""
        probability = self._score(frame).probability
        return np.column_stack([1 - probability, probability])

    def _score(self, frame: pd.DataFrame) -> Scores:
        portfolio = self.scorer.artefact.portfolio
        names = read_from(frame.columns, portfolio)
        absent = [name for name in names if name not in frame]
        if absent:
            raise ColumnsError(f"column missing: {', '.join(absent)}")
        # pandas allows a name twice, and `frame[name]` is then a frame.
        repeated = [name for name in names if frame.columns.tolist().count(name) > 1]
        if repeated:
            raise ColumnsError(f"column repeated: {', '.join(repeated)}")
        batch = read_table(pa.table({name: _stored(frame[name]) for name in names}), portfolio)
        if batch.violations:
            raise ColumnsError("; ".join(map(str, batch.violations)))
        return self.scorer.score(batch.columns)


def _stored(values: pd.Series[Any]) -> pa.Array[Any] | pa.ChunkedArray[Any]:
    """A column as Arrow stores it; ColumnsError, which quotes no value, if it has no one type."""
    # pandas writes a missing number as NaN and a missing date as NaT.
    try:
        return pa.array(values, from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        raise ColumnsError(f"{values.name}: must hold values of one type") from None


set_model(CreditScoringModel())
