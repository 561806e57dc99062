"""How long one application takes."""

from __future__ import annotations

import time

import numpy as np

from features import Columns
from scoring import Scorer


def median_milliseconds(scorer: Scorer, columns: Columns, applications: int) -> float:
    """Median time of scoring a single application, raw columns to decision, over the first `applications` rows."""
    singles = [columns.take(slice(row, row + 1)) for row in range(min(applications, len(columns)))]
    return float(np.median([_milliseconds(scorer, single) for single in singles]))


def _milliseconds(scorer: Scorer, single: Columns) -> float:
    started = time.perf_counter()
    scorer.score(single)
    return 1000 * (time.perf_counter() - started)
