"""Reject inference: figures for approved and declined applicants together, and whether guessed outcomes help.

Outcomes are known of the approved alone, so figures on them are biased: they say nothing of the applicants whom the
model holds for the worst. Explored applications are declines that were approved at random. Each stands for 1 / share of
all that could be drawn, so figures that weight it so are unbiased (D. Horvitz and D. Thompson, JASA 47, 1952). Without
them lenders guess the outcomes of declines from their PDs, which is called parcelling. Guesses can only repeat what the
model believes of them.

Sources: N. Kozodoi and others, arXiv:2407.13009; J. Crook and J. Banasik, J. Banking & Finance 28, 2004.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from decision_log.format import EXPLORED
from decision_log.reader import DecisionLogReader
from decision_log.replay import policy_decisions
from jobs.commandline import table
from monitoring.measures import Estimate
from monitoring.outcomes import Matched
from monitoring.realised import Cohort
from monitoring.settings import PerformanceSettings
from scoring.policy import DecisionKind, ExploreRule

Floats = NDArray[np.float64]

_FEWEST = 5
"""Explored defaults, and explored repaid, below which nothing is weighted: their interval would say nothing."""
FIGURES = ("AUC", "default rate", "observed over expected")
"""The names of the figures, in the order in which they are shown."""
APPROVED, WEIGHTED, PARCELLED = "approved alone", "explored, weighted", "parcelled"


@dataclass(frozen=True, slots=True)
class RejectInference:
    """The same figures by each method, of the approved and of the declines up to the highest PD that is explored.

    Attributes
    ----------
    approved, explored : of them with a known outcome; `declined` are without one
    share, up_to : of the exploration; the share is None where nothing is explored
    figures : by method and name; `observed over expected` is the default rate over the mean PD
    nearer : how much nearer parcelling is to the weighted figure than the approved alone are, by name of the figure;
        empty where nothing is weighted
    """

    approved: int
    explored: int
    declined: int
    share: float | None
    up_to: float
    figures: Mapping[str, Mapping[str, Estimate]]
    nearer: Mapping[str, Estimate]

    def lines(self) -> Iterator[str]:
        """The figures as a table, and whether reject inference helps."""
        counts = f"{self.approved:,} approved and {self.explored:,} explored with a known outcome"
        yield f"reject inference: {counts}, {self.declined:,} declined, PDs up to {self.up_to:g}"
        rows = [(method, *(str(found[name]) for name in FIGURES)) for method, found in self.figures.items()]
        yield from (f"  {line}" for line in table([("", *FIGURES), *rows], right={1, 2, 3}))
        yield from (f"  {line}" for line in self.verdicts())

    def verdicts(self) -> Iterator[str]:
        """A sentence for each figure that can be judged."""
        if not self.nearer:
            yield (
                f"too few outcomes of explored applications ({self.explored:,}): nothing tells whether parcelling helps"
            )
        for name, change in self.nearer.items():
            yield f"{name}: {_verdict(change)} (nearer by {change})"


def _verdict(nearer: Estimate) -> str:
    if nearer.low > 0:
        return "parcelling moves towards the truth"
    return "parcelling moves away from the truth" if nearer.high < 0 else "it cannot be told whether parcelling helps"


def declined_probabilities(log: DecisionLogReader) -> Floats:
    """The PDs of all declines of a log, those that were approved at random among them, shape (n,)."""
    blocks = log.tables(["probability", "decision", EXPLORED])
    found = [block["probability"].to_numpy()[policy_decisions(block) == DecisionKind.DECLINE] for block in blocks]
    return np.concatenate([np.empty(0), *found])


def infer(
    matched: Matched, declined: Floats, rule: ExploreRule | None, settings: PerformanceSettings
) -> RejectInference | None:
    """Infer figures from matched decisions and the PDs of all declines, shape (n,); None if nobody was approved.

    Referred applications are left out: persons chose among them, by what no record says.
    """
    up_to = 1.0 if rule is None else rule.up_to
    approved = matched.of_rows(matched.decision == _place(DecisionKind.APPROVE))
    explored = matched.of_rows(matched.explored & (matched.probability <= up_to))
    if not 0 < approved.outcome.sum(dtype=np.int64) < len(approved.outcome):
        return None
    declined = declined[declined <= up_to]
    # Outcomes of some of the approved are not known yet. The declines stand beside as large a part of the approved.
    known = len(approved.outcome) / int(matched.decisions[_place(DecisionKind.APPROVE)])
    defaults = int(explored.outcome.sum(dtype=np.int64))
    weighted = rule is not None and min(defaults, len(explored.outcome) - defaults) >= _FEWEST
    sample = _Sample(
        Cohort.of(approved.probability, approved.outcome, settings.groups),
        Cohort.of(explored.probability, explored.outcome, settings.groups) if weighted else None,
        Cohort.of(declined, None, settings.groups) if len(declined) else None,
        known,
        1.0 if rule is None else rule.share,
    )
    values, ends = _measured(sample, settings)
    return RejectInference(
        approved=len(approved.outcome),
        explored=len(explored.outcome),
        declined=len(declined),
        share=None if rule is None else rule.share,
        up_to=up_to,
        figures={
            method: dict(zip(FIGURES, map(Estimate, values[method], *ends[method]), strict=True))
            for method in values
            if method != _NEARER
        },
        nearer=dict(zip(_JUDGED, map(Estimate, values[_NEARER], *ends[_NEARER]), strict=True))
        if _NEARER in values
        else {},
    )


def _place(kind: DecisionKind) -> int:
    return list(DecisionKind).index(kind)


_JUDGED = (FIGURES[0], FIGURES[2])
"""The default rate of the approved is no estimate of that of all, so parcelling could only be nearer."""
_NEARER = "nearer"


@dataclass(frozen=True, slots=True, eq=False)
class _Sample:
    """Cohorts of approved, explored and declined; `known` is the part of the approved whose outcome is known."""

    approved: Cohort
    explored: Cohort | None
    declined: Cohort | None
    known: float
    share: float

    def drawn(self, random: np.random.Generator) -> _Sample:
        """A sample by a Poisson bootstrap, in which the approved have both outcomes."""
        approved = _drawn(self.approved, random)
        while not (approved.bad.any() and approved.good.any()):
            approved = _drawn(self.approved, random)
        explored = None if self.explored is None else _drawn(self.explored, random)
        return _Sample(approved, explored, self.declined, self.known, self.share)

    def figures(self) -> dict[str, Floats]:
        """The figures of each method, shape (3,), and how much nearer parcelling is, shape (2,)."""
        found = {APPROVED: _figures([self.approved])}
        if self.explored is not None:
            found[WEIGHTED] = _figures([self.approved, _times(self.explored, 1 / self.share)])
        if self.declined is not None:
            found[PARCELLED] = _figures([self.approved, _times(_parcelled(self.declined, self.approved), self.known)])
        if len(found) == 3:
            truth, judged = found[WEIGHTED], [FIGURES.index(name) for name in _JUDGED]
            distances = [np.abs(found[method] - truth)[judged] for method in (APPROVED, PARCELLED)]
            found[_NEARER] = distances[0] - distances[1]
        return found


def _drawn(cohort: Cohort, random: np.random.Generator) -> Cohort:
    bad, good = (random.poisson(part).astype(np.float64) for part in (cohort.bad, cohort.good))
    return Cohort(cohort.probability, bad + good, bad)


def _times(cohort: Cohort, weight: float) -> Cohort:
    return Cohort(cohort.probability, weight * cohort.rows, weight * cohort.bad)


def _parcelled(declined: Cohort, approved: Cohort) -> Cohort:
    """The declines with the defaults that the line through the approved gives for their PDs, in parts of a default."""
    intercept, slope = _line(_log_odds(approved.probability), approved)
    rate = _rates(intercept + slope * _log_odds(declined.probability))
    return Cohort(declined.probability, declined.rows, declined.rows * rate)


_STEPS, _CLOSE = 50, 1e-9


def _line(odds: Floats, cohort: Cohort) -> tuple[float, float]:
    """Intercept and slope of the logistic regression of the outcome on the log-odds, by Newton's method."""
    # `fit_line` takes some 40 ms, and each of the hundreds of resamples needs a line.
    design, found = np.stack([np.ones_like(odds), odds]), np.array([0.0, 1.0])
    for _ in range(_STEPS):
        rate = _rates(found @ design)
        weights = cohort.rows * rate * (1 - rate)
        information = (design * weights) @ design.T + _CLOSE * np.eye(2)  # all PDs may be the same
        step = np.linalg.solve(information, design @ (cohort.bad - cohort.rows * rate))
        found += step
        if np.abs(step).max() < _CLOSE:
            break
    return float(found[0]), float(found[1])


def _rates(log_odds: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-np.clip(log_odds, -700, 700))), dtype=np.float64)


def _log_odds(probability: Floats) -> Floats:
    within = np.clip(probability, np.finfo(np.float64).tiny, 1 - np.finfo(np.float64).eps)
    return np.asarray(np.log(within) - np.log1p(-within), dtype=np.float64)


def _figures(cohorts: Sequence[Cohort]) -> Floats:
    """AUC, default rate, and default rate over mean PD, of cohorts together."""
    probability = np.concatenate([one.probability for one in cohorts])
    order = np.argsort(probability, kind="stable")
    bad, good = (np.concatenate([getattr(one, name) for one in cohorts])[order] for name in ("bad", "good"))
    rows, defaults = float((bad + good).sum()), float(bad.sum())
    right = float((bad * (np.cumsum(good) - good / 2)).sum())
    expected = float(((bad + good) * probability[order]).sum())
    return np.array([right / (defaults * (rows - defaults)), defaults / rows, defaults / expected])


def _measured(sample: _Sample, settings: PerformanceSettings) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """The figures of each method, and the ends of their intervals, of shape (2, figures)."""
    random = np.random.default_rng(settings.seed)
    drawn = [sample.drawn(random).figures() for _ in range(settings.resamples)]
    tail = (1 - settings.confidence) / 2
    values = sample.figures()
    return values, {name: np.quantile([one[name] for one in drawn], [tail, 1 - tail], axis=0) for name in values}
