"""The queue of referred applications that no person has decided yet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from decision_log.overrides import OverrideReader
from decision_log.reader import DecisionLogReader
from scoring.errors import ScoringError
from scoring.policy import DecisionKind
from scoring.store import load_artefact

if TYPE_CHECKING:
    import pyarrow as pa

_PLACE = ("request_id", "index", "time")
_COLUMNS = (*_PLACE, "decision", "probability", "margin", "risk_level", "model", "model_version")
Place = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Referral:
    """A referred application that waits for a person.

    Attributes
    ----------
    probability : calibrated PD
    points : as in the answer; None where the model store lacks the model
    """

    request_id: str
    index: int
    time: datetime
    probability: float
    points: int | None
    risk_level: str

    def waiting(self, now: datetime) -> float:
        """Return the seconds since the decision."""
        return (now - self.time).total_seconds()


def open_referrals(log: DecisionLogReader) -> list[Referral]:
    """Return the referrals without a person's decision, oldest first; SourceError if there is no log.

    Of several decisions with one request id and index, the newest counts.
    """
    newest: dict[Place, dict[str, Any]] = {}
    for row in _rows(log, _COLUMNS, referred=True):
        _keep_newest(newest, row)
    for row in _rows(log, _PLACE, referred=False):
        known = newest.get((row["request_id"], row["index"]))
        if known is not None and known["time"] < row["time"]:
            del newest[row["request_id"], row["index"]]
    overrides = OverrideReader(log.directory)
    overrides.look()
    decided = {place: datetime.fromisoformat(one.timestamp) for place, one in overrides.standing.items()}
    waiting = [row for place, row in newest.items() if place not in decided or decided[place] < row["time"]]
    waiting.sort(key=lambda row: (row["time"], row["request_id"], row["index"]))
    return [_referral(row) for row in waiting]


def _keep_newest(newest: dict[Place, dict[str, Any]], row: dict[str, Any]) -> None:
    known = newest.get((row["request_id"], row["index"]))
    if known is None or known["time"] <= row["time"]:
        newest[row["request_id"], row["index"]] = row


def _rows(log: DecisionLogReader, columns: tuple[str, ...], *, referred: bool) -> Iterator[dict[str, Any]]:
    import pyarrow.compute as pc

    for table in log.tables(list(dict.fromkeys((*columns, "decision")))):
        is_referral: pa.ChunkedArray[Any] = pc.equal(table["decision"].cast("string"), str(DecisionKind.REFER))
        yield from table.filter(is_referral if referred else pc.invert(is_referral)).select(columns).to_pylist()


def _referral(row: dict[str, Any]) -> Referral:
    points = _points(f"{row['model']}:{row['model_version']}", row["margin"])
    return Referral(row["request_id"], row["index"], row["time"], row["probability"], points, row["risk_level"])


def _points(tag: str, margin: float) -> int | None:
    """Return the points of a margin on the scale of the model; None where the store lacks the model."""
    made = _scale(tag)
    if made is None:
        return None
    return int(made.policy.scale.points(made.calibration.log_odds(np.array([margin])))[0])


@cache
def _scale(tag: str) -> Any:
    try:
        return load_artefact(tag)[2]
    except ScoringError:
        return None
