"""Windows of the decision log, counted column by column."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from monitoring.decision import FEATURE_PREFIX
from monitoring.drift import Window
from monitoring.errors import SourceError
from scoring import DriftReference

from .log import DecisionLog

_PROBABILITY = "probability"


def window_of_log(
    log: DecisionLog, reference: DriftReference, progress: Callable[[int], object] = lambda _: None
) -> Window:
    """The window of the log's decisions; SourceError if it has none of this model and time."""
    features = np.zeros_like(reference.counts)
    probability = np.zeros(reference.probability.size, dtype=np.int64)
    columns = {f"{FEATURE_PREFIX}{name}": bins for name, bins in reference.features.items()}
    for table in log.tables([_PROBABILITY, *columns]):
        for row, (name, bins) in zip(features, columns.items(), strict=True):
            row[: bins.size] += bins.count(table[name].to_numpy())
        probability += reference.probability.count(table[_PROBABILITY].to_numpy())
        progress(table.num_rows)
    if not probability.sum():
        raise SourceError(f"{log.directory}: no decision of this model and time")
    return Window(features, probability)
