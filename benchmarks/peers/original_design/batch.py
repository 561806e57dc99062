"""Score Parquet files by the original design's Pipeline into one file, and tell what that took without the start."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import mlflow
import pandas as pd
from sklearn.pipeline import Pipeline

from benchmarks.peers.original_design.features import with_domain_features
from benchmarks.peers.original_design.server import THRESHOLD
from benchmarks.peers.original_design.train import ALIAS, IDENTIFIER, MODEL


def score(model: Pipeline, book: Path, output: Path) -> None:
    """Read the book's files, compute features, predict, decide and write."""
    decided = []
    for path in sorted(book.iterdir()):
        raw = pd.read_parquet(path)
        probability = model.predict_proba(with_domain_features(raw.drop(columns=[IDENTIFIER])))[:, 1]
        prediction = (probability >= THRESHOLD).astype("int64")
        decided.append(
            pd.DataFrame({IDENTIFIER: raw[IDENTIFIER], "probability": probability, "prediction": prediction})
        )
    pd.concat(decided).to_parquet(output)


def main(book: Path, output: Path) -> None:
    """Score the book; the last line that is written is the times as JSON."""
    model = mlflow.sklearn.load_model(f"models:/{MODEL}@{ALIAS}")
    begun, cpu = time.perf_counter(), time.process_time()
    score(model, book, output)
    took = {"seconds": time.perf_counter() - begun, "cpu_seconds": time.process_time() - cpu}
    sys.stdout.write(f"\n{json.dumps(took)}\n")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
