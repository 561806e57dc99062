"""Windows of the decision log, counted column by column."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from features import Calendar
from monitoring.decision import FEATURE_PREFIX
from monitoring.drift import PERIODS, Window, bound_to
from monitoring.errors import SourceError
from scoring import DriftReference

from .log import DecisionLog

if TYPE_CHECKING:
    import pyarrow as pa

_PROBABILITY = "probability"


@dataclass(frozen=True, slots=True)
class LogWindow:
    """The window of a log, and the calendars that it can be judged by.

    What follows a calendar is counted over as many whole periods as there are, up to the last decision; over all of the
    time where there is no whole one.
    """

    window: Window
    whole: frozenset[Calendar]


def window_of_log(
    log: DecisionLog, reference: DriftReference, progress: Callable[[int], object] = lambda _: None
) -> LogWindow:
    """The window of the log's decisions; SourceError if it has none of this model and time."""
    first, last = log.span()
    begin = {calendar: _begin(first, last, period) for calendar, period in PERIODS.items() if last - first >= period}
    features = np.zeros_like(reference.counts)
    probability = np.zeros(reference.probability.size, dtype=np.int64)
    columns = {f"{FEATURE_PREFIX}{name}": bins for name, bins in reference.features.items()}
    for table in log.tables(["time", _PROBABILITY, *columns]):
        for row, (name, bins) in zip(features, columns.items(), strict=True):
            counted = _since(
                table, [begin[each] for each in bound_to(name.removeprefix(FEATURE_PREFIX)) & begin.keys()]
            )
            row[: bins.size] += bins.count(counted[name].to_numpy())
        probability += reference.probability.count(table[_PROBABILITY].to_numpy())
        progress(table.num_rows)
    if not probability.sum():
        raise SourceError(f"{log.directory}: no decision of this model and time")
    return LogWindow(Window(features, probability), frozenset(begin))


def _begin(first: datetime, last: datetime, period: timedelta) -> datetime:
    return last - (last - first) // period * period


def _since(table: pa.Table, times: Sequence[datetime]) -> pa.Table:
    import pyarrow.compute as pc

    return table.filter(pc.greater(table["time"], max(times))) if times else table
