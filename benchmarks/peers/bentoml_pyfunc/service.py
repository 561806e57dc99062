"""A stock BentoML service: the registered pyfunc model, frames in and out, BentoML's own settings."""

from __future__ import annotations

import bentoml
import pandas as pd


@bentoml.service
class Pyfunc:
    """The registered model."""

    model = bentoml.models.BentoModel("credit_scoring_pyfunc:latest")

    def __init__(self) -> None:
        self.pyfunc = bentoml.mlflow.load_model(self.model)

    @bentoml.api
    def predict(self, applications: pd.DataFrame) -> pd.DataFrame:
        """Decide on each row."""
        return self.pyfunc.predict(applications)
