"""Fit the original design's scikit-learn Pipeline on the comparison's applications and register it in MLflow."""

from __future__ import annotations

import os
from pathlib import Path

import mlflow
import pandas as pd
from lightgbm import LGBMClassifier
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from benchmarks.peers.original_design.features import with_domain_features

MODEL = "credit_scoring_original_design"
ALIAS = "champion"
_TARGET = "TARGET"
IDENTIFIER = "SK_ID_CURR"


def fit(frame: pd.DataFrame, target: pd.Series[int], *, trees: int, leaves: int, seed: int) -> Pipeline:
    """Median imputation, one-hot encoding, scaling and a balanced LightGBM classifier of the given size."""
    numbers = frame.select_dtypes("number").columns.tolist()
    categories = [name for name in frame.columns if name not in numbers]
    columns = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), numbers),
            ("categories", OneHotEncoder(drop="first", handle_unknown="ignore", sparse_output=False), categories),
        ]
    )
    classifier = LGBMClassifier(
        n_estimators=trees, num_leaves=leaves, class_weight="balanced", random_state=seed, verbosity=-1
    )
    return Pipeline([("columns", columns), ("classifier", classifier)]).fit(frame, target)


def main() -> None:
    """Fit and register."""
    raw = pd.read_parquet(Path(os.environ["DATA"]) / "application_train.parquet")
    frame = with_domain_features(raw.drop(columns=[IDENTIFIER, _TARGET]))
    size = {name.lower(): int(os.environ[name]) for name in ("TREES", "LEAVES", "SEED")}
    with mlflow.start_run(run_name=MODEL):
        logged = mlflow.sklearn.log_model(
            fit(frame, raw[_TARGET], **size),
            name="model",
            registered_model_name=MODEL,
            serialization_format="cloudpickle",
        )
    mlflow.MlflowClient().set_registered_model_alias(MODEL, ALIAS, logged.registered_model_version)


if __name__ == "__main__":
    main()
