"""The decision policy: cut-off, refer band, risk levels, score points, and the rule of completeness."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from features.portfolio import Portfolio
from features.transformer import FeatureTransformer
from scoring.errors import ArtefactError

Matrix = NDArray[np.float64]

# Sums of shares are exact only within rounding: a row at the limit must not fall short by chance.
_ROUNDING = 1e-9
# Such products are too small for the threads of BLAS, which would wait for each other on the processor.
_ROWS_AT_ONCE = 512
_DRAWN_BYTES, _DRAWS = 8, 1 << 64


class DecisionKind(StrEnum):
    """The decision on an application."""

    APPROVE = "approve"
    REFER = "refer"
    DECLINE = "decline"


class RiskLevel(StrEnum):
    """Bands of PD, from best to worst."""

    LOW = "LOW"
    MEDIUM = "MEDIUM"
    HIGH = "HIGH"
    CRITICAL = "CRITICAL"


def _fixed(values: Sequence[object]) -> NDArray[np.object_]:
    """An array of its own for each value, of shape (1,) and shared by all who get it, in an array."""
    found = np.empty((len(values), 1), dtype=object)
    for place, value in enumerate(values):
        found[place, 0] = value
    found.flags.writeable = False
    return found


_DECISIONS, _LEVELS, _NOTHING = _fixed(list(DecisionKind)), _fixed(list(RiskLevel)), _fixed([()])
_PREDICTIONS = np.array([[0], [1]])
_PREDICTIONS.flags.writeable = False


@dataclass(frozen=True)
class DecisionPolicy:
    """The thresholds that turn a PD into a decision, and the rule of completeness for approvals.

    A PD of at least `cutoff` is predicted to default. A PD below `refer_from` is approved, one of at least
    `refer_to` is declined, and one between goes to a person. `level_bounds` are the lower bounds of MEDIUM, HIGH and
    CRITICAL. `cost_fn` is the cost of approving a bad application, `cost_fp` that of declining a good one. Without
    `completeness` the PD alone decides. Without `explore` no decline is approved at random.
    """

    cutoff: float
    refer_from: float
    refer_to: float
    level_bounds: tuple[float, float, float]
    cost_fn: float
    cost_fp: float
    scale: PointScale
    completeness: CompletenessRule | None = None
    explore: ExploreRule | None = None

    def __post_init__(self) -> None:
        if self.explore is not None and not self.refer_to < self.explore.up_to <= 1:
            raise ArtefactError("explore.up_to must be above refer_to, from which on applications are declined")
        if not 0 <= self.refer_from <= self.cutoff <= self.refer_to <= 1:
            raise ArtefactError("a policy needs 0 <= refer_from <= cutoff <= refer_to <= 1")
        if not 0 < self.level_bounds[0] < self.level_bounds[1] < self.level_bounds[2] < 1:
            raise ArtefactError("the bounds of the risk levels must rise within (0, 1)")

    def predictions(self, probabilities: NDArray[np.float64]) -> NDArray[np.int64]:
        """1 where default is predicted (PD >= cut-off), else 0."""
        return (probabilities >= self.cutoff).astype(np.int64)

    def outcomes(self, probabilities: NDArray[np.float64]) -> NDArray[np.object_]:
        """The DecisionKind of each PD, as objects of shape (n,)."""
        # The right side: a PD equal to a bound belongs to the worse band, as PD >= cut-off is a default.
        return _DECISIONS[:, 0][self._refer_band.searchsorted(probabilities, side="right")]

    def risk_levels(self, probabilities: NDArray[np.float64]) -> NDArray[np.object_]:
        """The RiskLevel of each PD, as objects of shape (n,)."""
        return _LEVELS[:, 0][self._level_bounds.searchsorted(probabilities, side="right")]

    def of_one(self, probability: float) -> tuple[NDArray[np.int64], NDArray[np.object_], NDArray[np.object_]]:
        """The prediction, decision and risk level of one PD that is not NaN, each of shape (1,) and read-only."""
        return (
            _PREDICTIONS[int(probability >= self.cutoff)],
            _DECISIONS[bisect_right((self.refer_from, self.refer_to), probability)],
            _LEVELS[bisect_right(self.level_bounds, probability)],
        )

    @cached_property
    def _refer_band(self) -> NDArray[np.float64]:
        return np.array([self.refer_from, self.refer_to])

    @cached_property
    def _level_bounds(self) -> NDArray[np.float64]:
        return np.array(self.level_bounds)


# No slots: cached_property keeps its value in __dict__.
@dataclass(frozen=True)
class PointScale:
    """Score points: `base` points at good:bad odds of `odds`, and `double` more for each doubling of the odds."""

    base: float
    odds: float
    double: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.base) and self.odds > 0 and self.double > 0):
            raise ArtefactError("a point scale needs a finite base, positive odds and positive points to double them")

    def points(self, log_odds: NDArray[np.float64]) -> NDArray[np.int64]:
        """Points for log-odds of default, higher is better, rounded half to even.

        >>> PointScale(base=600, odds=50, double=20).points(-np.log([50.0, 100.0]))
        array([600, 620])
        """
        factor, offset = self.line
        return np.rint(offset - factor * log_odds).astype(np.int64)

    def of_one(self, log_odds: float) -> int:
        """Points for one number of finite log-odds."""
        factor, offset = self.line
        return round(offset - factor * log_odds)

    @cached_property
    def line(self) -> tuple[float, float]:
        """How many points each unit of log-odds takes away, and the points at log-odds of 0, before rounding."""
        factor = self.double / math.log(2)
        return factor, self.base - factor * math.log(self.odds)


@dataclass(frozen=True)
class ExploreRule:
    """The rule of which declines are approved at random, so that outcomes of declined applications become known.

    Attributes
    ----------
    share : part of the declines with a client, enough known and a PD up to the bound that is approved
    up_to : the highest PD that is explored
    """

    share: float
    up_to: float

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ArtefactError("explore.share must be between 0 and 1")

    def draws(self, client: bytes, policy_version: str) -> bool:
        """Whether a client is drawn, from the keyed hash of its id.

        >>> rule = ExploreRule(share=0.5, up_to=0.25)
        >>> [rule.draws(bytes([client]) * 16, "0123456789abcdef") for client in range(6)]
        [False, False, True, False, True, False]
        """
        # By the client and not by the request: whoever applies again must not draw again. Nobody without the key of
        # the decision log can compute the hash. Another policy draws others.
        drawn = blake2b(client + policy_version.encode(), digest_size=_DRAWN_BYTES, person=b"explore").digest()
        return int.from_bytes(drawn) < self.share * _DRAWS


@dataclass(frozen=True)
class CompletenessRule:
    """The rule of how much must be known for an approval; an application that falls short is referred.

    Attributes
    ----------
    known : raw columns that must be known; columns that the model does not read are ignored
    max_missing_share : largest share of the model's gain, 0 to 1, that may rest on missing or unknown values
    """

    known: tuple[str, ...]
    max_missing_share: float

    def __post_init__(self) -> None:
        if len(set(self.known)) != len(self.known):
            raise ArtefactError(f"columns named twice: {', '.join(self.known)}")
        if not 0 <= self.max_missing_share <= 1:
            raise ArtefactError("a completeness rule needs a share of the gain between 0 and 1")

    @property
    def limit(self) -> float:
        """The largest sum of shares that is complete enough, rounding included."""
        return self.max_missing_share + _ROUNDING

    @property
    def shortfall(self) -> str:
        """What is said of an approval beyond the limit."""
        return (
            f"more than {100 * self.max_missing_share:.12g} % of the model's gain rests on what is missing or unknown"
        )


class Completeness:
    """Judges how complete rows of the model matrix are. Without a rule every row is complete enough.

    A column is missing where its own feature is NaN. If the model has only features derived from the column, it is
    missing where all of these are NaN.
    """

    def __init__(
        self, transformer: FeatureTransformer, importance: Mapping[str, float], rule: CompletenessRule | None
    ) -> None:
        names, portfolio = transformer.names, transformer.state.portfolio
        undeclared = [name for name in (rule.known if rule else ()) if name not in portfolio.schema]
        if undeclared:
            raise ArtefactError(f"columns that are not declared: {', '.join(undeclared)}")
        read = _inputs(names, portfolio)
        own, derived = [name for name in read if name in names], [name for name in read if name not in names]
        self.inputs = (*own, *derived)
        """The raw columns that the model reads; those that are features themselves come first."""
        self._names = names
        self._unknown = np.full(len(names), np.nan)  # equal to nothing where the feature is no category
        self._coded, self._largest = np.array(transformer.categorical, dtype=np.intp), transformer.largest_codes
        self._unknown[self._coded] = self._largest
        self._own = np.array([names.index(name) for name in own], dtype=np.intp)
        of_features = [[name in portfolio.features[feature].sources for name in derived] for feature in names]
        members = np.array(of_features, dtype=np.bool_).reshape(len(names), len(derived))
        members[[i for i, name in enumerate(names) if portfolio.features[name].never_missing]] = False
        self._sources = np.flatnonzero(members.any(axis=1))
        self._members = members[self._sources].astype(np.float64)
        self._all_members = self._members.sum(axis=0)
        shares = column_shares(importance, self.inputs, portfolio)
        self._shares = np.array([shares[name] for name in self.inputs])
        self._rule = rule
        self._required = [name for name in ([] if rule is None else rule.known) if name in self.inputs]
        self._required_at = np.array([self.inputs.index(name) for name in self._required], dtype=np.intp)
        self._counts = np.arange(len(self.inputs) + 1).reshape(-1, 1)
        self._counts.flags.writeable = False
        self._derived = {tuple(self._sources[one > 0].tolist()) for one in self._members.T}
        self._sums = np.zeros((len(names), 4))
        self._sums[self._own] = [
            (1, share, name in self._required, 0) for name, share in zip(own, self._shares, strict=False)
        ]
        self._sums[:, 3] = [importance[name] for name in names]
        self._derived_sums = np.array(
            [
                (1, share, name in self._required, 0)
                for name, share in zip(derived, self._shares[len(own) :], strict=True)
            ],
            dtype=np.float64,
        ).reshape(-1, 4)

    def of(self, matrix: Matrix) -> Known:
        """The missing and unknown values in the rows of a model matrix, shape (n, features)."""
        if len(matrix) == 1 and (known := self._usual(matrix[0])) is not None:
            return known
        missing_features, unknown_levels = np.isnan(matrix), matrix.take(self._coded, axis=1) == self._largest
        tallies, unknown = self._tallies(missing_features), no_tuples(len(matrix))
        missing = tallies[:, 0].astype(np.int64)
        if np.count_nonzero(unknown_levels):  # a quarter of the cost of asking each row, and most requests have none
            unknown, rows = empty_tuples(len(matrix)), unknown_levels.any(axis=1).nonzero()[0]
            for row in rows.tolist():
                unknown[row] = tuple(self._names[i] for i in self._coded[unknown_levels[row]].tolist())
            missing_features[:, self._coded] |= unknown_levels
            tallies[rows] = self._tallies(missing_features[rows])
        short = {} if self._rule is None else self._short(missing_features, tallies, self._rule)
        return Known(missing, unknown, short)

    def _usual(self, row: Matrix) -> Known | None:
        """The answer for one row, shape (features,), of which clearly enough is known for an approval; else None."""
        missing, unknown_levels, unknown = np.isnan(row), row == self._unknown, no_tuples(1)
        for features in self._derived:
            if all(map(missing.item, features)):
                return None
        count, share, required, gain = missing.astype(np.float64).dot(self._sums).tolist()
        if np.count_nonzero(unknown_levels):
            unknown = empty_tuples(1)
            unknown[0] = tuple(self._names[i] for i in unknown_levels.nonzero()[0].tolist())
            _, share, required, gain = (missing | unknown_levels).astype(np.float64).dot(self._sums).tolist()
        if self._rule is not None and (required or max(share, gain) > self._rule.max_missing_share - _ROUNDING):
            return None
        return Known(self._counts[int(count)], unknown, _NONE_SHORT)

    def missing_columns(self, matrix: Matrix) -> list[tuple[str, ...]]:
        """Names of the missing raw columns in each row of a model matrix."""
        missing = self._missing_columns(np.isnan(matrix))
        return [tuple(name for name, lacks in zip(self.inputs, row, strict=True) if lacks) for row in missing.tolist()]

    def _missing_columns(self, features: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Whether each raw column is missing, shape (n, inputs), from the missing features."""
        own = features.take(self._own, axis=1)
        if not len(self._sources):
            return own
        missing = features.take(self._sources, axis=1).astype(np.float64) @ self._members
        return np.concatenate([own, missing == self._all_members], axis=1)

    def _tallies(self, features: NDArray[np.bool_]) -> Matrix:
        """Of the missing features: the missing columns, their share, the required ones, the features' gain; (n, 4)."""
        found = np.empty((len(features), self._sums.shape[1]))
        for start in range(0, len(features), _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            missing = features[rows].astype(np.float64)
            np.matmul(missing, self._sums, out=found[rows])
            if len(self._sources):
                lacking = missing.take(self._sources, axis=1) @ self._members == self._all_members
                found[rows] += lacking.astype(np.float64) @ self._derived_sums
        return found

    def _short(
        self, features: NDArray[np.bool_], tallies: Matrix, rule: CompletenessRule
    ) -> dict[int, tuple[str, ...]]:
        """The reasons of rows that fall short; `features` is true where one is missing."""
        # The larger of both: derived features can hide a missing column, and one column can spoil many features.
        over_limit = np.maximum(tallies[:, 1], tallies[:, 3]) > rule.limit
        rows = (over_limit | (tallies[:, 2] > 0)).nonzero()[0]
        needed = self._missing_columns(features[rows]).take(self._required_at, axis=1)
        short: dict[int, tuple[str, ...]] = {}
        for row, lacking, over in zip(rows.tolist(), needed.tolist(), over_limit[rows].tolist(), strict=True):
            reasons = [f"{name} must be known" for name, lacks in zip(self._required, lacking, strict=True) if lacks]
            short[row] = (*reasons, *([rule.shortfall] if over else ()))
        return short


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """The missing and unknown values of n applications; both arrays have shape (n,).

    Attributes
    ----------
    missing : int64, how many of the model's input columns are missing
    unknown : object, a tuple of the columns whose level the model does not know
    short : the reasons to withhold an approval, of each row that has some
    """

    missing: NDArray[np.int64]
    unknown: NDArray[np.object_]
    short: Mapping[int, tuple[str, ...]]


_NONE_SHORT: Mapping[int, tuple[str, ...]] = {}


def column_shares(importance: Mapping[str, float], columns: Sequence[str], portfolio: Portfolio) -> dict[str, float]:
    """Share of the model's gain that rests on each column, its derived features included.

    The sources of a feature that are among the columns share its importance equally. The shares add up to the sum of
    the importance.
    """
    shares = dict.fromkeys(columns, 0.0)
    for feature, share in importance.items():
        sources = [name for name in columns if name in portfolio.features[feature].sources]
        for name in sources:
            shares[name] += share / len(sources)
    return shares


def _inputs(names: Sequence[str], portfolio: Portfolio) -> tuple[str, ...]:
    features = [portfolio.features[name] for name in names]
    read = {source for feature in features if not feature.never_missing for source in feature.sources}
    return tuple(column.name for column in portfolio.schema if column.name in read)


def no_tuples(rows: int) -> NDArray[np.object_]:
    """The same as `empty_tuples` for those who only read: it costs nothing, however many rows there are."""
    return np.broadcast_to(_NOTHING[0], (rows,)) if rows != 1 else _NOTHING[0]


def empty_tuples(rows: int) -> NDArray[np.object_]:
    """An array of empty tuples, objects of shape (rows,)."""
    # np.full would take the empty tuple for an array without elements.
    empty = np.empty(rows, dtype=object)
    empty.fill(())
    return empty
