"""Calendar columns: what says when somebody applied comes round, and a window that is shorter sees only a part of it.

The values of such a column, and of what is made of them, are judged where the window covers whole periods. Elsewhere
they are shown; only their missing values and unknown categories are judged, which have no season.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

import numpy as np
from numpy.typing import NDArray

from features import APPLICATION, CATALOGUE, Calendar

PERIODS = {Calendar.DAY: timedelta(days=1), Calendar.WEEK: timedelta(weeks=1)}
WHOLE = frozenset(Calendar)
_LEFT_OVER = 0.02
"""Part of a window that may be too much or too little: it changes a share by so little that no bound is reached."""
_OF_PRESENCE = ("missing", "missing_count")
"""Operations that look only whether a value is there."""


def bound_to(feature: str) -> frozenset[Calendar]:
    """The calendars that the values of a feature follow."""
    return _BOUND.get(feature, frozenset())


def whole_periods(covered: timedelta) -> frozenset[Calendar]:
    """The calendars of which a stretch of time holds a whole number of periods, but for a fiftieth of it."""
    return frozenset(calendar for calendar, period in PERIODS.items() if _is_whole(covered / period))


def partial(features: Iterable[str], whole: frozenset[Calendar]) -> NDArray[np.bool_]:
    """Which of the features follow a calendar of which the window covers no whole periods."""
    return np.array([not bound_to(name) <= whole for name in features])


def _is_whole(periods: float) -> bool:
    return round(periods) >= 1 and abs(periods - round(periods)) <= _LEFT_OVER * periods


def _calendars() -> dict[str, frozenset[Calendar]]:
    of = {column.name: column.calendar for column in APPLICATION if column.calendar}
    return {
        feature.name: frozenset(of[source] for source in feature.sources if source in of)
        for feature in CATALOGUE
        if feature.operation is None or feature.operation.__name__ not in _OF_PRESENCE
    }


_BOUND = _calendars()
