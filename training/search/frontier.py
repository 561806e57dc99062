"""What a search for less discriminatory alternatives finds: points, each with searched and confirmed figures."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from jobs.errors import SettingsError
from jobs.settings import Settings, read_regular
from monitoring.measures import Estimate
from scoring.policy import DecisionPolicy
from training.errors import TrainingError

Probabilities = NDArray[np.float64]
Target = NDArray[np.int64]
Weights = NDArray[np.float64]
Groups = Mapping[str, Mapping[str, NDArray[np.bool_]]]
"""By attribute and group: which of the n rows belong to the group."""
EVERY = "every attribute"
"""The name of the least impact ratio of all attributes."""
_LARGEST = 1 << 24
_STEPS = 2000
_MARGIN = 0.04


class SearchedFigures(Settings):
    """SearchedFigures on the rows that chose a point, which flatter it; `approved` is the share of approvals."""

    auc: float
    cost: float
    approved: float
    ratios: dict[str, float]

    def least(self, attribute: str) -> float:
        """The impact ratio of an attribute, or the least of all."""
        return min(self.ratios.values()) if attribute == EVERY else self.ratios[attribute]


class ConfirmedFigures(Settings):
    """Figures on rows that chose nothing, with bootstrap intervals; changes are against the model of the settings."""

    auc: Estimate
    cost: Estimate
    approved: Estimate
    ratios: dict[str, Estimate]
    auc_change: Estimate
    cost_change: Estimate
    ratio_changes: dict[str, Estimate]
    shares: dict[str, dict[str, float]]
    """Share of approvals of each group, by attribute."""

    def least(self, attribute: str) -> float:
        """The impact ratio of an attribute, or the least of all."""
        return min(one.value for one in self.ratios.values()) if attribute == EVERY else self.ratios[attribute].value


class AlternativePoint(Settings):
    """One model with one common cut-off; `file` holds the settings that train it."""

    name: str
    file: str
    trial: int
    rule: str
    """How the cut-off was chosen."""
    reads: tuple[str, ...]
    """Protected attributes that the fit of the trees reads; no feature and no decision does."""
    changes: tuple[str, ...]
    cutoff: float
    searched: SearchedFigures
    confirmed: ConfirmedFigures


class RatioPrice(Settings):
    """What it costs to reach an impact ratio, by the cheapest point that held-out rows confirm.

    `point` is None where none reaches it, and `reached` is then the highest ratio that was confirmed.
    """

    attribute: str
    ratio: float
    how: str
    point: str | None
    reached: float
    auc: Estimate | None
    cost: Estimate | None


class ScreenedProxy(Settings):
    """A column that tells of a protected attribute; see `training.search.levers.Proxy`."""

    column: str
    attribute: str
    tells: float
    carries: float


class FoundAlternatives(Settings):
    """The result of a search."""

    source: str
    sha256: str
    rows: int
    held_out: int
    confidence: float
    trials: int
    attributes: dict[str, tuple[str, ...]]
    """The groups of each attribute that are large enough to be judged."""
    levers: tuple[str, ...]
    proxies: tuple[ScreenedProxy, ...]
    baseline: AlternativePoint
    points: tuple[AlternativePoint, ...]
    prices: tuple[RatioPrice, ...]
    cloud: tuple[SearchedFigures, ...]
    """Every trial, with the cut-off that keeps the number of approvals."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the result in a file; TrainingError if there is none."""
        try:
            return cls.checked(json.loads(read_regular(path, _LARGEST)), path)
        except (OSError, RecursionError, ValueError, SettingsError):
            raise TrainingError(f"{path}: holds no result of `python -m training alternatives`") from None

    def refuse_other(self, dataset_sha256: str) -> None:
        """TrainingError unless these are the data that were searched."""
        if dataset_sha256 != self.sha256:
            raise TrainingError(f"the alternatives were searched on other data, of SHA-256 {self.sha256[:12]}")

    def text(self) -> str:
        """The result as JSON."""
        return json.dumps(self.model_dump(mode="json"), indent=1)


SAME = "as many approvals"
POLICY = "the policy's cut-off"
ANY = "any common cut-off"


@dataclass(frozen=True, slots=True, eq=False)
class ApprovalCurve:
    """Shares of approvals and costs at rising numbers of approvals, the lowest PDs first, by one common cut-off.

    Attributes
    ----------
    rows : n
    cutoffs, costs, approvals : shape (k,)
    ratios : impact ratio of each attribute, shape (k,)
    """

    rows: int
    cutoffs: Weights
    costs: Weights
    approvals: NDArray[np.intp]
    ratios: Mapping[str, Weights]

    @classmethod
    def of(cls, target: Target, probability: Probabilities, groups: Groups, policy: DecisionPolicy) -> Self:
        """The curve of n applications; referred ones are not approved."""
        band = policy.refer_from / policy.cutoff
        order = np.argsort(probability, kind="stable")
        rising, bad = probability[order], np.append(0, np.cumsum(target[order]))
        # A cut-off approves all of one PD or none of them.
        steps = np.linspace(1, len(target) - 1, _STEPS).astype(np.intp)
        approvals = np.unique(np.searchsorted(rising, rising[steps]))
        approvals = approvals[approvals > 0]
        cutoffs = np.minimum(rising[approvals] / band, np.nextafter(1.0, 0.0))
        passed = np.searchsorted(rising, cutoffs)
        costs = policy.cost_fn * bad[passed] + policy.cost_fp * (len(target) - passed - (bad[-1] - bad[passed]))
        ratios = {}
        for attribute, marked in groups.items():
            shares = np.array(
                [np.append(0, np.cumsum(rows[order]))[approvals] / rows.sum() for rows in marked.values()]
            )
            ratios[attribute] = np.asarray(shares.min(axis=0) / shares.max(axis=0))
        return cls(
            len(target),
            cutoffs,
            costs / len(target),
            approvals,
            ratios | {EVERY: np.min(list(ratios.values()), axis=0)},
        )

    def nearest(self, approvals: int) -> int:
        """The place of a number of approvals."""
        return int(np.abs(self.approvals - approvals).argmin())

    def reaching(self, attribute: str, ratio: float, approvals: int) -> int | None:
        """The first place from `approvals` on where an impact ratio is reached; None if nowhere below everybody."""
        found = np.flatnonzero((self.ratios[attribute] >= ratio) & (self.approvals >= approvals))
        return int(found[0]) if len(found) else None

    def figures(self, place: int, auc: float) -> SearchedFigures:
        """The figures at a place."""
        return SearchedFigures(
            auc=auc,
            cost=float(self.costs[place]),
            approved=float(self.approvals[place]) / self.rows,
            ratios={name: float(values[place]) for name, values in self.ratios.items() if name != EVERY},
        )


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """The PDs of one model, and its policy, on n rows that chose nothing."""

    target: Target
    probability: Probabilities
    groups: Groups
    policy: DecisionPolicy

    def measured(self, weights: Weights) -> Weights:
        """AUC, cost, share of approvals and the ratio of each attribute, with row i counted `weights[i]` times."""
        approved = weights * (self.probability < self.policy.refer_from)
        declined = self.probability >= self.policy.cutoff
        lost = np.where(self.target == 1, self.policy.cost_fn * ~declined, self.policy.cost_fp * declined)
        ratios = [_ratio([approved[r].sum() / weights[r].sum() for r in g.values()]) for g in self.groups.values()]
        total = weights.sum()
        return np.array([self._auc(weights), (weights * lost).sum() / total, approved.sum() / total, *ratios])

    def shares(self) -> dict[str, dict[str, float]]:
        """The share of approvals of each group."""
        approved = self.probability < self.policy.refer_from
        return {
            attribute: {name: float(approved[rows].mean()) for name, rows in marked.items()}
            for attribute, marked in self.groups.items()
        }

    def _auc(self, weights: Weights) -> float:
        _, place = np.unique(self.probability, return_inverse=True)
        bad = np.bincount(place, weights * self.target)
        good = np.bincount(place, weights * (1 - self.target))
        return float((bad * (np.cumsum(good) - good / 2)).sum() / (bad.sum() * good.sum()))


def _ratio(shares: Sequence[float]) -> float:
    return float(min(shares) / max(shares)) if max(shares) > 0 else 1.0


def confirmed(own: HeldOut, baseline: HeldOut, draws: Sequence[Weights], confidence: float) -> ConfirmedFigures:
    """Measure a point and its changes against the baseline, on the same bootstrap samples of the same rows."""
    everybody = np.ones(len(own.target))
    value, before = own.measured(everybody), baseline.measured(everybody)
    drawn = np.array([own.measured(weights) for weights in draws])
    changed = drawn - np.array([baseline.measured(weights) for weights in draws])
    tail = (1 - confidence) / 2
    ends, change_ends = (np.quantile(one, [tail, 1 - tail], axis=0) for one in (drawn, changed))
    estimates = [Estimate(*map(float, each)) for each in zip(value, *ends, strict=True)]
    differences = [Estimate(*map(float, each)) for each in zip(value - before, *change_ends, strict=True)]
    names = list(own.groups)
    return ConfirmedFigures(
        auc=estimates[0],
        cost=estimates[1],
        approved=estimates[2],
        ratios=dict(zip(names, estimates[3:], strict=True)),
        auc_change=differences[0],
        cost_change=differences[1],
        ratio_changes=dict(zip(names, differences[3:], strict=True)),
        shares=own.shares(),
    )


def prices(
    baseline: AlternativePoint, points: Sequence[AlternativePoint], attributes: Sequence[str], ratios: Sequence[float]
) -> Iterator[RatioPrice]:
    """State for each attribute and ratio what the cheapest confirmed point costs: in AUC, or in cost by any cut-off."""
    every = [baseline, *points]
    ways = [*_ways(SAME, [point for point in every if point.rule != ANY]), *_ways(ANY, every)]
    for attribute in [*attributes, *([EVERY] if len(attributes) > 1 else [])]:
        for ratio in ratios:
            for way, among in ways:
                yield _price(attribute, ratio, way, among, by_cost=way.startswith(ANY))


def _ways(how: str, among: Sequence[AlternativePoint]) -> Iterator[tuple[str, Sequence[AlternativePoint]]]:
    """The points whose fit reads no group, and all of them if a fit reads one."""
    unread = [point for point in among if not point.reads]
    if unread:
        yield how, unread
    if len(unread) < len(among):
        yield f"{how}; a fit may read a group", among


def _price(attribute: str, ratio: float, how: str, among: Sequence[AlternativePoint], *, by_cost: bool) -> RatioPrice:
    reaching = [point for point in among if point.confirmed.least(attribute) >= ratio]
    if not reaching:
        highest = max(point.confirmed.least(attribute) for point in among)
        return RatioPrice(attribute=attribute, ratio=ratio, how=how, point=None, reached=highest, auc=None, cost=None)
    # The point of the least price is one of a few, so the price keeps a little of the winner's luck.
    best = min(reaching, key=lambda one: one.confirmed.cost.value if by_cost else -one.confirmed.auc.value)
    found = best.confirmed
    return RatioPrice(
        attribute=attribute,
        ratio=ratio,
        how=how,
        point=best.name,
        reached=found.least(attribute),
        auc=found.auc_change,
        cost=found.cost_change,
    )


@dataclass(frozen=True, slots=True)
class WantedPoint:
    """A point to confirm: a trial, and how its cut-off is chosen."""

    name: str
    trial: int
    rule: str
    drawn: Mapping[str, Any] | None
    reaching: tuple[str, float] | None = None


def wanted_points(
    figures: Mapping[int, Mapping[str, SearchedFigures]],
    drawn: Mapping[int, Mapping[str, Any]],
    attributes: Sequence[str],
    ratios: Sequence[float],
) -> list[WantedPoint]:
    """Choose what is confirmed: the cheapest way to each ratio first, then the rest of each front, evenly spread.

    `figures` are those of each trial by rule of its cut-off, `drawn` the values of its levers.
    """
    goals = [*attributes, *([EVERY] if len(attributes) > 1 else [])]
    unread = [number for number in sorted(figures) if not any(_reading(drawn[number]))]
    chosen: dict[tuple[int, str], None] = {}
    for attribute in goals:
        for ratio in ratios:
            for among in (unread, sorted(figures)):
                # Some that reach more too, since held-out rows take a little away.
                for aim in (ratio, ratio + _MARGIN):
                    chosen |= _cheapest(figures, among, attribute, aim)
                chosen |= _by_cut_off(figures, among, f"{attribute} {ratio:g}")
    for attribute in goals:
        front = pareto_front({number: one[SAME] for number, one in figures.items()}, attribute)
        chosen |= {(number, SAME): None for number in _spread(front)}
    # One model may reach several ratios with one cut-off: it is one point.
    first = {(number, figures[number][rule].cost): rule for number, rule in reversed(chosen)}
    kept = [(number, rule) for number, rule in chosen if first[number, figures[number][rule].cost] == rule]
    return [_wanted(place, number, rule, drawn[number]) for place, (number, rule) in enumerate(kept, start=1)]


def _cheapest(
    figures: Mapping[int, Mapping[str, SearchedFigures]], among: Sequence[int], attribute: str, ratio: float
) -> dict[tuple[int, str], None]:
    """The trial of the highest AUC that reaches a ratio; where none does, the nearest, which says what is missed."""
    reaching = [number for number in among if figures[number][SAME].least(attribute) >= ratio]
    if reaching:
        return {(max(reaching, key=lambda number: figures[number][SAME].auc), SAME): None}
    nearest = max(among, key=lambda number: figures[number][SAME].least(attribute), default=None)
    return {} if nearest is None else {(nearest, SAME): None}


def _by_cut_off(
    figures: Mapping[int, Mapping[str, SearchedFigures]], among: Sequence[int], rule: str
) -> dict[tuple[int, str], None]:
    reaching = [number for number in among if rule in figures[number]]
    return {(min(reaching, key=lambda number: figures[number][rule].cost), rule): None} if reaching else {}


def _wanted(place: int, trial: int, rule: str, drawn: Mapping[str, Any]) -> WantedPoint:
    name = f"point-{place:02}"
    if rule == SAME:
        return WantedPoint(name, trial, SAME, drawn)
    attribute, _, ratio = rule.rpartition(" ")
    return WantedPoint(name, trial, ANY, drawn, (attribute, float(ratio)))


def _reading(drawn: Mapping[str, Any]) -> Iterator[bool]:
    for name, value in drawn.items():
        if name.startswith(("reweigh ", "penalize ")):
            yield bool(value > 0)


def pareto_front(figures: Mapping[int, SearchedFigures], attribute: str) -> list[int]:
    """The trials that no other beats in both AUC and impact ratio, the highest AUC first."""
    front: list[int] = []
    for number in sorted(figures, key=lambda one: (-figures[one].auc, -figures[one].least(attribute), one)):
        if not front or figures[number].least(attribute) > figures[front[-1]].least(attribute):
            front.append(number)
    return front


def _spread(front: Sequence[int], most: int = 4) -> list[int]:
    return [front[i] for i in sorted({round(x) for x in np.linspace(0, len(front) - 1, min(most, len(front)))})]
