"""Score Parquet files by the original design's Pipeline into one file, and tell what that took without the start.

With a third argument, that share of the rows, the most likely to default, get the four features that raise their margin
most, by LightGBM's own contributions.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
from lightgbm import LGBMClassifier
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline

from benchmarks.peers.original_design.features import with_domain_features
from benchmarks.peers.original_design.server import THRESHOLD
from benchmarks.peers.original_design.train import ALIAS, IDENTIFIER, MODEL

_MOST_REASONS = 4


def score(model: Pipeline, book: Path, output: Path, *, explained: float = 0.0) -> None:
    """Read the book's files, compute features, predict, decide and write; the share `explained` gets reasons."""
    columns, classifier = model.named_steps["columns"], model.named_steps["classifier"]
    decided = []
    for path in sorted(book.iterdir()):
        raw = pd.read_parquet(path)
        matrix = np.asarray(columns.transform(with_domain_features(raw.drop(columns=[IDENTIFIER]))))
        probability = classifier.predict_proba(matrix)[:, 1]
        prediction = (probability >= THRESHOLD).astype("int64")
        decision = raw[[IDENTIFIER]].assign(probability=probability, prediction=prediction)
        if explained:
            chosen = np.flatnonzero(probability >= np.quantile(probability, 1 - explained))
            decision["reasons"] = pd.Series(_reasons(classifier, matrix[chosen]), index=decision.index[chosen])
        decided.append(decision)
    pd.concat(decided).to_parquet(output)


def _reasons(classifier: LGBMClassifier, matrix: NDArray[np.float64]) -> list[str]:
    """The numbers of the four features with the largest contributions, for each row."""
    contributions = np.asarray(classifier.predict_proba(matrix, pred_contrib=True))[:, :-1]
    first = np.argsort(-contributions, axis=1)[:, :_MOST_REASONS]
    return [" ".join(map(str, row)) for row in first.tolist()]


def main(book: Path, output: Path, explained: str = "0") -> None:
    """Score the book; the last line that is written is the times as JSON."""
    model = mlflow.sklearn.load_model(f"models:/{MODEL}@{ALIAS}")
    begun, cpu = time.perf_counter(), time.process_time()
    score(model, book, output, explained=float(explained))
    took = {"seconds": time.perf_counter() - begun, "cpu_seconds": time.process_time() - cpu}
    sys.stdout.write(f"\n{json.dumps(took)}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
