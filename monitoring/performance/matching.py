"""Decisions and the outcomes that have become known of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from monitoring.errors import SourceError
from monitoring.sources import DecisionLog, Keys, contested, decision_columns, decision_keys, places, unmatched
from scoring import Outcome

from .outcomes import Outcomes

if TYPE_CHECKING:
    import pyarrow as pa

_DECISIONS = list(Outcome)
_NEVER = np.iinfo(np.int64).min


@dataclass(frozen=True, slots=True, eq=False)
class Matched:
    """Decisions with a known outcome: of a client with several decisions the last one. All arrays have shape (n,).

    Attributes
    ----------
    outcome : int8, 1 is default
    probability : the PD decided with
    month : int32, months since January 1970
    decision : int8, position in `Outcome`
    decisions : by position in `Outcome`, how many decisions there are in all
    unmatched : decisions without a known outcome
    repeated : decisions of a client before its last one
    unknown : outcomes of no decision in the log
    contested : outcomes of a request_id that names several decisions; they are left out
    """

    outcome: NDArray[np.int8]
    probability: NDArray[np.float64]
    month: NDArray[np.int32]
    decision: NDArray[np.int8]
    decisions: NDArray[np.int64]
    unmatched: int
    repeated: int
    unknown: int
    contested: int = 0


def match(log: DecisionLog, outcomes: Outcomes, progress: Callable[[int], object] = lambda _: None) -> Matched:
    """The decisions of the log that an outcome is known of; SourceError if there is none."""
    several = contested(log, outcomes.by, outcomes.keys)
    matching = _Matching(replace(outcomes, keys=outcomes.keys[~several], outcome=outcomes.outcome[~several]))
    for table in log.tables([*decision_columns(outcomes.by), "time", "probability", "decision"]):
        matching.add(decision_keys(outcomes.by, table), table)
        progress(table.num_rows)
    return matching.result(log, int(np.count_nonzero(several)))


class _Matching:
    """What is known of each outcome's decision after each block."""

    def __init__(self, outcomes: Outcomes) -> None:
        count = len(outcomes.outcome)
        self._outcomes = outcomes
        self._time = np.full(count, _NEVER)
        self._probability = np.empty(count)
        self._decision = np.zeros(count, dtype=np.int8)
        self._decisions = np.zeros(len(_DECISIONS), dtype=np.int64)
        self._found = 0

    def add(self, keys: Keys, table: pa.Table) -> None:
        """Take in one block of decisions."""
        decision = _codes(table["decision"])
        self._decisions += np.bincount(decision, minlength=len(_DECISIONS))
        time = table["time"].cast("int64").to_numpy()
        row = np.argsort(time, kind="stable")  # of several decisions in the block the last one is written last
        place = places(self._outcomes.keys, keys[row])
        row, place = row[place >= 0], place[place >= 0]
        self._found += len(row)
        later = time[row] >= self._time[place]
        row, place = row[later], place[later]
        self._time[place] = time[row]
        self._probability[place] = table["probability"].to_numpy()[row]
        self._decision[place] = decision[row]

    def result(self, log: DecisionLog, contested: int) -> Matched:
        """All that was found."""
        matched = self._time != _NEVER
        count = int(np.count_nonzero(matched))
        if not count:
            hint = unmatched(self._outcomes.by, self._outcomes.floats)
            raise SourceError(f"{log.directory}: no decision of this model and time has an outcome{hint}")
        time = self._time[matched].view("datetime64[us]")
        return Matched(
            outcome=self._outcomes.outcome[matched],
            probability=self._probability[matched],
            month=time.astype("datetime64[M]").astype(np.int32),
            decision=self._decision[matched],
            decisions=self._decisions,
            unmatched=int(self._decisions.sum()) - self._found,
            repeated=self._found - count,
            unknown=len(matched) - count,
            contested=contested,
        )


def _codes(column: pa.ChunkedArray[Any]) -> NDArray[np.int8]:
    """The position of each decision in `Outcome`."""
    import pyarrow as pa

    whole = column.combine_chunks()
    whole = whole if pa.types.is_dictionary(whole.type) else whole.dictionary_encode()
    codes = np.array([_DECISIONS.index(Outcome(name)) for name in whole.dictionary.to_pylist()], dtype=np.int8)
    chosen: NDArray[np.int8] = codes[whole.indices.to_numpy()]
    return chosen
