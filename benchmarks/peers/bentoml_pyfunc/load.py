"""Import the registered pyfunc model into the BentoML store, as BentoML's documentation does."""

from __future__ import annotations

import os

import bentoml

if __name__ == "__main__":
    bentoml.mlflow.import_model("credit_scoring_pyfunc", os.environ["MODEL_URI"])
