"""The applications that every peer is asked about, and what the scorer says of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import pandas as pd

from benchmarks.errors import BenchmarkError
from features.request import Applications
from features.schema import Schema
from scoring.scorer import Scorer


@dataclass(frozen=True)
class Workload:
    """Raw applications with every declared column filled, as JSON-ready records, and their calibrated PDs."""

    applications: Sequence[dict[str, Any]]
    probabilities: Sequence[float]

    def __len__(self) -> int:
        return len(self.applications)

    def first(self, size: int) -> Workload:
        """The first `size` applications."""
        return self._part(slice(size))

    def batches(self, size: int) -> Iterator[Workload]:
        """All of them, in whole batches of `size`; fewer only if there are fewer in all."""
        for begin in range(0, max(1, len(self) - size + 1), size):
            yield self._part(slice(begin, begin + size))

    def _part(self, rows: slice) -> Workload:
        return Workload(self.applications[rows], self.probabilities[rows])


def workload(data: Path, scorer: Scorer, size: int) -> Workload:
    """The first `size` generated applications; a missing value is filled with that of the next applicant who has one.

    BenchmarkError unless the scorer's margins are those of the booster itself on the same matrix, bit for bit.
    """
    portfolio = scorer.artefact.portfolio
    names = [column.name for column in portfolio.schema.stated]
    frame = pd.read_parquet(data / "application_train.parquet", columns=names).bfill().ffill().head(size)
    applications = [_record(row, portfolio.schema) for row in frame.to_dict("records")]
    reader = Applications(portfolio)
    columns = reader.columns_of([reader.model.model_validate(application) for application in applications])
    scores = scorer.score(columns)
    booster = lgb.Booster(model_str=scorer.artefact.model_text)
    margins = booster.predict(scorer.transformer.transform(columns), raw_score=True, num_threads=1)
    if not np.array_equal(scores.margin, np.asarray(margins)):
        raise BenchmarkError("the scorer's margins are not those of Booster.predict")
    return Workload(applications, scores.probability.tolist())


def _record(row: dict[Any, Any], schema: Schema) -> dict[str, Any]:
    """The row with whole numbers written as such."""
    return {str(name): int(value) if _is_whole(schema, name, value) else value for name, value in row.items()}


def _is_whole(schema: Schema, name: str, value: Any) -> bool:
    return schema[name].whole and float(value).is_integer()
