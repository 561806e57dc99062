"""How often intervals of reject inference hold the truth, on generated applications whose outcomes are all known."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.results import record
from jobs.commandline import Progress
from monitoring.measures import auc_estimate
from monitoring.outcomes import Matched
from monitoring.reject_inference import FIGURES, infer
from monitoring.settings import PerformanceSettings
from scoring.artefact import Artefact
from scoring.policy import DecisionKind, ExploreRule
from scoring.scorer import Scorer
from training.dataset import load_dataset

_KINDS = list(DecisionKind)


@dataclass(frozen=True, slots=True)
class ExploredBook:
    """A book of decided applications, all of whose outcomes are known; arrays have shape (n,)."""

    probability: NDArray[np.float64]
    outcome: NDArray[np.int8]
    decision: NDArray[np.int8]
    rule: ExploreRule

    @classmethod
    def of(cls, scorer: Scorer, applications: Path, rule: ExploreRule) -> ExploredBook:
        """The labelled applications of a folder or file, decided by the PD alone."""
        dataset = load_dataset(applications, scorer.artefact.portfolio)
        probability = scorer.score(dataset.columns).probability
        decided = scorer.artefact.policy.outcomes(probability)
        decision = np.array([_KINDS.index(one) for one in decided], dtype=np.int8)
        return cls(probability, dataset.target.astype(np.int8), decision, rule)

    @property
    def approved(self) -> NDArray[np.bool_]:
        """Which are approved by their PD."""
        return np.asarray(self.decision == _KINDS.index(DecisionKind.APPROVE))

    @property
    def declined(self) -> NDArray[np.bool_]:
        """Which are declined and may be explored."""
        return np.asarray((self.decision == _KINDS.index(DecisionKind.DECLINE)) & (self.probability <= self.rule.up_to))

    def truth(self) -> dict[str, float]:
        """The figures over approved and declined, from all of their outcomes."""
        rows = self.approved | self.declined
        outcome, probability = self.outcome[rows], self.probability[rows]
        auc = auc_estimate(outcome.astype(np.int64), probability, 0.95).value
        return dict(zip(FIGURES, (auc, float(outcome.mean()), float(outcome.sum() / probability.sum())), strict=True))

    def explored(self, random: np.random.Generator) -> Matched:
        """What is known of the book after a share of its declines was approved at random."""
        drawn = self.declined & (random.random(len(self.outcome)) < self.rule.share)
        known = self.approved | drawn
        return Matched(
            outcome=self.outcome[known],
            probability=self.probability[known],
            month=np.zeros(int(known.sum()), dtype=np.int32),
            decision=self.decision[known],
            explored=drawn[known],
            decisions=np.bincount(self.decision, minlength=len(_KINDS)),
            unmatched=0,
            repeated=0,
            unknown=0,
        )


@dataclass(frozen=True, slots=True)
class IntervalCoverage:
    """In how many of `draws` explorations a method's interval held the truth, and its mean value."""

    method: str
    figure: str
    truth: float
    mean: float
    held: int
    draws: int


def covered(
    artefact: Path,
    applications: Path,
    rule: ExploreRule,
    settings: PerformanceSettings,
    *,
    draws: int,
    seed: int,
    progress: Progress,
) -> list[IntervalCoverage]:
    """Explore the same book several times, and hold each interval against the truth."""
    book = ExploredBook.of(Scorer(Artefact.read(artefact)), applications, rule)
    truth, declined = book.truth(), book.probability[book.declined]
    with progress.step(f"{draws:,} explorations", draws) as advance:
        found = []
        for draw in range(draws):
            inference = infer(book.explored(np.random.default_rng([seed, draw])), declined, rule, settings)
            found += [] if inference is None else [inference.figures]
            advance(1)
    methods = dict.fromkeys(method for one in found for method in one)
    return [
        IntervalCoverage(
            method,
            name,
            truth[name],
            float(np.mean([one.value for one in estimates])),
            sum(bool(one.low <= truth[name] <= one.high) for one in estimates),
            len(estimates),
        )
        for method in methods
        for name in FIGURES
        for estimates in [[one[method][name] for one in found if method in one]]
    ]


def record_coverage(found: list[IntervalCoverage], rule: ExploreRule, command: str, output: Path) -> None:
    """Write what was found with its command and date."""
    record(output, command, explore=asdict(rule), intervals=[asdict(each) for each in found])
