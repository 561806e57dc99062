"""The scorer turns raw columns, or a model matrix, into decisions. Every score comes from it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from features.errors import ColumnsError
from features.reasons import Reason
from features.transformer import Columns, FeatureState, FeatureTransformer
from scoring.artefact import Artefact, Conformance
from scoring.errors import ArtefactError
from scoring.model import Model
from scoring.policy import Completeness, DecisionKind, Known, empty_tuples, no_tuples
from scoring.reasons import Explainer

_CONFORMANCE_ROWS = 128
# NumPy may change the stream of a seed (NEP 19): the artefact keeps the rows themselves.
_SEED = 20_180_517


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of n applications; every array has shape (n,).

    Attributes
    ----------
    margin : float64, raw log-odds of default
    probability : float64, calibrated PD in [0, 1]
    prediction : int64, 1 where the PD reaches the cut-off
    decision : object, DecisionKind; a withheld approval is a referral
    risk_level : object, RiskLevel
    points : int64, higher is better
    missing : int64, how many of the model's input columns are missing
    unknown : object, a tuple of the columns whose level the model does not know
    withheld : object, a tuple of what an approval was withheld for; empty without any
    reasons : object, a tuple of the Reasons of a decline; empty for other decisions, and where none are given
    """

    margin: NDArray[np.float64]
    probability: NDArray[np.float64]
    prediction: NDArray[np.int64]
    decision: NDArray[np.object_]
    risk_level: NDArray[np.object_]
    points: NDArray[np.int64]
    missing: NDArray[np.int64]
    unknown: NDArray[np.object_]
    withheld: NDArray[np.object_]
    reasons: NDArray[np.object_]

    def __len__(self) -> int:
        return len(self.margin)

    def with_reasons(self, reasons: Sequence[tuple[Reason, ...]]) -> Scores:
        """The same scores, in which the declines have the reasons of their rows."""
        found = empty_tuples(len(self))
        for row, decision in enumerate(self.decision.tolist()):
            if decision is DecisionKind.DECLINE:
                found[row] = reasons[row]
        return replace(self, reasons=found)

    def approved(self, rows: NDArray[np.bool_]) -> Scores:
        """The same scores, in which the declines that `rows` marks are approved, and so have no reasons."""
        decision, reasons = self.decision.copy(), self.reasons.copy()
        for row in rows.nonzero()[0].tolist():
            decision[row], reasons[row] = DecisionKind.APPROVE, ()
        return replace(self, decision=decision, reasons=reasons)

    def take(self, rows: slice) -> Scores:
        """The scores of the chosen rows."""
        return Scores(
            self.margin[rows],
            self.probability[rows],
            self.prediction[rows],
            self.decision[rows],
            self.risk_level[rows],
            self.points[rows],
            self.missing[rows],
            self.unknown[rows],
            self.withheld[rows],
            self.reasons[rows],
        )


def in_order(parts: Sequence[tuple[NDArray[np.intp], Scores]]) -> Scores:
    """The scores of several groups of rows as one, in the order of the places that each group has."""
    order = np.argsort(np.concatenate([places for places, _ in parts]))
    together = (np.concatenate([getattr(scores, field.name) for _, scores in parts]) for field in fields(Scores))
    return Scores(*(values[order] for values in together))


class Scorer:
    """An artefact made ready to score; ArtefactError if its parts do not fit together.

    ConformanceError if this code computes something else than the code that trained the model.

    The scores of a row have the same bits in any batch.
    """

    def __init__(self, artefact: Artefact, *, threads: int = 1) -> None:
        self.artefact = artefact
        self.transformer = FeatureTransformer(artefact.features)
        self.model = Model(artefact.model_text, threads=threads)
        if self.model.features != len(self.features):
            raise ArtefactError(f"the model takes {self.model.features} features, not {len(self.features)}")
        if tuple(artefact.reference.features) != self.features:
            raise ArtefactError("the drift reference is of other features than the model")
        policy, importance = artefact.policy, artefact.reference.importance
        self._completeness = Completeness(self.transformer, importance, policy.completeness)
        self.explainer = self._explainer()
        # Last, since it scores with all of the above: another NumPy, LightGBM or formula shows before any request.
        if artefact.conformance:
            artefact.conformance.check(self)

    def _explainer(self) -> Explainer | None:
        artefact = self.artefact
        if artefact.reasons is None:
            return None
        return Explainer(self.model, self.features, artefact.portfolio, artefact.reasons)

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the model matrix's columns, in order."""
        return self.transformer.names

    @property
    def inputs(self) -> tuple[str, ...]:
        """The raw columns that the model reads; those that are features themselves come first."""
        return self._completeness.inputs

    def score(self, columns: Columns) -> Scores:
        """Scores of raw applications."""
        return self.score_matrix(self.transformer.transform(columns))

    def score_matrix(self, matrix: NDArray[np.float64]) -> Scores:
        """Scores of rows of the model matrix, shape (n, len(features)); ColumnsError for another width."""
        if matrix.ndim != 2 or matrix.shape[1] != len(self.features):
            raise ColumnsError(f"the model takes {len(self.features)} features, not shape {matrix.shape}")
        return self.decide(matrix, self.model.margins(matrix))

    def reasons(self, matrix: NDArray[np.float64]) -> list[tuple[Reason, ...]]:
        """The reasons of each row of the model matrix, declined or not; an empty list if the model gives none."""
        return [] if self.explainer is None else self.explainer.reasons(matrix)

    def missing_columns(self, matrix: NDArray[np.float64]) -> list[tuple[str, ...]]:
        """The raw columns that the model reads and that are missing, for each row of the model matrix."""
        return self._completeness.missing_columns(matrix)

    def decide(self, matrix: NDArray[np.float64], margin: NDArray[np.float64], *, with_reasons: bool = True) -> Scores:
        """Scores of rows of the model matrix, from the margins, shape (n,), that this model gave them."""
        calibration, policy = self.artefact.calibration, self.artefact.policy
        known, withheld = self._completeness.of(matrix), no_tuples(len(matrix))
        if len(margin) == 1 and math.isfinite(one := margin.item()):
            # One row in Python's floats: arrays of one row take three times as long.
            pd = calibration.probability(one)
            probability = np.array([pd])
            prediction, decision, risk_level = policy.of_one(pd)
            points = np.array([policy.scale.of_one(calibration.slope * one + calibration.intercept)])
            declined = pd >= policy.refer_to
        else:
            probability = calibration.probabilities(margin)
            prediction, decision = policy.predictions(probability), policy.outcomes(probability)
            risk_level, points = policy.risk_levels(probability), policy.scale.points(calibration.log_odds(margin))
            declined = bool(np.count_nonzero(probability >= policy.refer_to))
        if known.short:
            decision, withheld = _withheld(decision, known)
        return Scores(
            margin=margin,
            probability=probability,
            prediction=prediction,
            decision=decision,
            risk_level=risk_level,
            points=points,
            missing=known.missing,
            unknown=known.unknown,
            withheld=withheld,
            reasons=self._decline_reasons(matrix, probability >= policy.refer_to)
            if with_reasons and declined
            else no_tuples(len(matrix)),
        )

    def explored(
        self, matrix: NDArray[np.float64], scores: Scores, client: Callable[[int], bytes | None]
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which declines the policy may approve at random, and which of them it does, both of shape (n,).

        `client` gives the keyed hash of the client of a row; without one nothing is drawn.
        """
        possible, drawn = np.zeros(len(scores), dtype=np.bool_), np.zeros(len(scores), dtype=np.bool_)
        policy, rule = self.artefact.policy, self.artefact.policy.explore
        if rule is None:
            return possible, drawn
        rows = np.flatnonzero((scores.probability >= policy.refer_to) & (scores.probability <= rule.up_to))
        # An approval needs that enough is known, also one at random. All of this takes 17 us for a single decline.
        short = self._completeness.of(matrix[rows]).short if len(rows) else {}
        for place, row in enumerate(rows.tolist()):
            hashed = None if place in short else client(row)
            if hashed is not None:
                possible[row], drawn[row] = True, rule.draws(hashed, self.artefact.policy_version)
        return possible, drawn

    def _decline_reasons(self, matrix: NDArray[np.float64], declined: NDArray[np.bool_]) -> NDArray[np.object_]:
        found, rows = empty_tuples(len(matrix)), declined.nonzero()[0]
        for row, reasons in zip(rows.tolist(), self.reasons(matrix[rows]), strict=self.explainer is not None):
            found[row] = reasons
        return found


def _withheld(decision: NDArray[np.object_], known: Known) -> tuple[NDArray[np.object_], NDArray[np.object_]]:
    """The decisions, with a referral for each approval that falls short, and the reasons of these rows."""
    # A decline stays a decline: more knowledge is needed to lend money, and not to refuse it.
    decision, withheld = decision.copy(), empty_tuples(len(decision))
    for row, reasons in known.short.items():
        if decision[row] is DecisionKind.APPROVE:
            decision[row], withheld[row] = DecisionKind.REFER, reasons
    return decision, withheld


def with_conformance(artefact: Artefact) -> Artefact:
    """The artefact with new conformance rows, computed by the code that has just fitted the model."""
    from features.drawing import draw_columns

    bare = replace(artefact, conformance=Conformance())
    state, reference = artefact.features, artefact.reference
    # A number that is a feature itself is drawn from the bins of the reference, so that the trees separate the rows.
    drawn = draw_columns(
        artefact.portfolio,
        _CONFORMANCE_ROWS,
        seed=_SEED,
        edges={name: bins.edges for name, bins in reference.features.items() if bins.kind == "numeric"},
        vocabularies=state.vocabularies,
    )
    return replace(artefact, conformance=Conformance.of(drawn, Scorer(bare)))


@dataclass(frozen=True, slots=True, eq=False)
class TranslatedRows:
    """Rows of one model's matrix, made from those of another.

    Attributes
    ----------
    kept : which of the other's rows they are, shape (n,)
    matrix : shape (kept rows, features)
    at_bounds : which of them have a value where the two models clip differently, shape (kept rows,)
    """

    kept: NDArray[np.bool_]
    matrix: NDArray[np.float64]
    at_bounds: NDArray[np.bool_]


class Translation:
    """Turns rows of one model's matrix into those of another; ColumnsError unless both compute the same features."""

    # A row holds what its own model has clipped and coded: a value at a bound, or the code of the unknown level, stands
    # for several raw values.

    def __init__(self, source: FeatureState, target: Scorer) -> None:
        state = target.artefact.features
        same_features(source.names, state.names)
        if other := [name for name in source.names if _meaning(source, name) != _meaning(state, name)]:
            raise ColumnsError(f"the two models compute features otherwise: {_listed(other)}")
        self._order = [source.names.index(name) for name in state.names]
        self._codes = {
            column: _code_table(source.vocabularies[state.names[column]], state.vocabularies[state.names[column]])
            for column in target.transformer.categorical
        }
        bounds = [[one.clip.get(name, (-np.inf, np.inf)) for one in (source, state)] for name in state.names]
        self._clipped = [column for column, (one, other) in enumerate(bounds) if one != other]
        ends = np.array([bounds[column] for column in self._clipped]).reshape(-1, 2, 2)
        self._low, self._high = ends[:, :, 0].max(axis=1), ends[:, :, 1].min(axis=1)

    def of(self, matrix: NDArray[np.float64]) -> TranslatedRows:
        """Translate rows; those are left out whose level only the target may know."""
        found = matrix[:, self._order]
        kept = np.ones(len(found), dtype=np.bool_)
        for column, codes in self._codes.items():
            known = ~np.isnan(found[:, column])
            found[known, column] = codes.take(found[known, column].astype(np.intp), mode="clip")
            kept &= ~known | ~np.isnan(found[:, column])
        found = found[kept]
        values = found[:, self._clipped]
        return TranslatedRows(kept, found, ((values <= self._low) | (values >= self._high)).any(axis=1))


def same_features(source: Sequence[str], target: Sequence[str]) -> None:
    """Raise ColumnsError, with the names, unless both are the same features, in any order.

    >>> same_features(("income", "age"), ("age", "income"))
    """
    if lacking := [name for name in target if name not in source]:
        raise ColumnsError(f"the other model reads features that these rows lack: {_listed(lacking)}")
    if more := [name for name in source if name not in target]:
        raise ColumnsError(f"the other model does not read all features of these rows: {_listed(more)}")


def _meaning(state: FeatureState, name: str) -> tuple[object, ...]:
    """What a feature is computed from, and how."""
    feature, schema = state.portfolio.features[name], state.portfolio.schema
    return feature.expression, [(source, schema[source].kind, schema[source].missing) for source in feature.sources]


def _code_table(source: Sequence[str], target: Sequence[str]) -> NDArray[np.float64]:
    """The target's code of each code, the unknown level last: NaN for it if the target knows more levels."""
    codes, unknown = {level: float(code) for code, level in enumerate(target)}, float(len(target))
    return np.array(
        [*(codes.get(level, unknown) for level in source), np.nan if set(target) - set(source) else unknown]
    )


_MOST_LISTED = 5


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_LISTED} more" if len(names) > _MOST_LISTED else ""
    return ", ".join(names[:_MOST_LISTED]) + more
