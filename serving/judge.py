"""The judge of a challenger in shadow: it decides on blocks of applications, compares, and records."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import groupby, product
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from decision_log.format import Caller
from decision_log.writer import Failure
from features.portfolio import Portfolio
from features.transformer import Columns
from monitoring.recorder import DecisionRecords
from scoring.policy import DecisionKind
from scoring.scorer import Scores
from scoring.store import StoredModel
from serving.offered import OfferedRows


@dataclass(frozen=True, slots=True)
class ComparedBlock:
    """What a challenger would have decided on applications that the champion has decided.

    Attributes
    ----------
    decisions : how many there are of each pair of the champion's decision and the challenger's
    champion, challenger : sums of the PDs
    reasons : declines by both whose first reasons differ
    """

    rows: int
    decisions: Mapping[tuple[DecisionKind, DecisionKind], int]
    champion: float
    challenger: float
    reasons: int

    @classmethod
    def of(cls, champion: OfferedRows, challenger: Scores) -> Self:
        """The comparison of a block; ValueError for scores of other rows."""
        firsts = zip(champion.reason.tolist(), challenger.reasons.tolist(), strict=True)
        changed = sum(bool(was and reasons and was != reasons[0].code) for was, reasons in firsts)
        of_champion, of_challenger = (
            {kind: decisions == kind for kind in DecisionKind} for decisions in (champion.decision, challenger.decision)
        )
        return cls(
            len(champion),
            {
                (was, now): int(np.count_nonzero(of_champion[was] & of_challenger[now]))
                for was, now in product(DecisionKind, DecisionKind)
            },
            float(champion.probability.sum()),
            float(challenger.probability.sum()),
            changed,
        )


class ChallengerError(Exception):
    """What a challenger raised: the name of the error's type, since the error's text may hold an applicant's value."""


class Judge(Protocol):
    """Has a challenger decide on one block after the other."""

    def begin(self) -> None:
        """Get ready, before the first block."""
        ...

    def decide(self, rows: OfferedRows) -> ComparedBlock:
        """Decide on a block, whatever the challenger raises."""
        ...

    def record(self) -> int:
        """Record the block decided last; returns how many lines were lost since the last call."""
        ...

    def close(self) -> None:
        """Close the log, if there is one."""
        ...


class OwnJudge:
    """A judge in this process.

    Parameters
    ----------
    portfolio : the champion's, of raw columns
    records : writes the lines into the log of shadows; None where nothing is recorded
    with_reasons : whether declines carry reasons
    """

    def __init__(
        self,
        served: StoredModel,
        portfolio: Portfolio,
        records: DecisionRecords | None = None,
        *,
        with_reasons: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._served = served
        self._portfolio = portfolio
        self._records = records
        self._with_reasons = with_reasons
        self._clock = clock
        self._decided: tuple[OfferedRows, NDArray[np.float64], Scores] | None = None

    def begin(self) -> None:
        """It is ready."""

    def decide(self, rows: OfferedRows) -> ComparedBlock:
        """Decide on a block, whatever the challenger raises."""
        scorer, matrix = self._served.scorer, rows.matrix
        if not matrix.shape[1]:
            matrix = scorer.transformer.transform(Columns(rows.numbers, rows.levels, self._portfolio))
        scores = scorer.decide(matrix, scorer.model.margins(matrix), with_reasons=self._with_reasons)
        compared = ComparedBlock.of(rows, scores)
        self._decided = rows, matrix, scores
        return compared

    def record(self) -> int:
        """Record the block decided last; returns how many of its lines were lost."""
        decided, self._decided = self._decided, None
        if self._records is None or decided is None:
            return 0
        return _recorded(self._records, *decided, self._clock())

    def close(self) -> None:
        """Close the log, if there is one."""
        if self._records is not None:
            self._records.close()


def _recorded(
    records: DecisionRecords, rows: OfferedRows, matrix: NDArray[np.float64], scores: Scores, at: float
) -> int:
    lost = 0
    for route, group in groupby(range(len(scores)), key=rows.route.__getitem__):
        places = list(group)
        part = slice(places[0], places[-1] + 1)
        callers = list(map(Caller._make, rows.caller[part].tolist()))
        lines = records.lines(route, callers, matrix[part], scores.take(part), at)
        if isinstance(records.append(lines), Failure):
            lost += len(places)
    return lost
