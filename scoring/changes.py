"""What would change it: the smallest changes of changeable columns with which the model approves an application.

Along one column the margin is piecewise constant: it can change only where a feature that reads the column crosses a
threshold of the trees. So the scorer is asked once between two such places, about the application that changes least.
What it is asked about is a whole application, so that an alternative is what /predict would approve.

Source: S. Wachter, B. Mittelstadt and C. Russell, "Counterfactual Explanations without Opening the Black Box", 2017.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from features.schema import Changeable, Schema
from features.transformer import Columns, missing_as_nan
from features.validation import find_violations
from scoring.policy import DecisionKind
from scoring.scorer import Scorer
from scoring.trees import read_thresholds

Matrix = NDArray[np.float64]
Places = NDArray[np.int64]
"""Steps along a line, 0 the nearest to the applicant's value."""

MOST_ALTERNATIVES = 3
"""More choices do not help an applicant."""
_ALL_PLACES = 512
"""A line with more steps is bisected between as many of them."""
_MOST_PLACES = 1 << 53
"""Float64 counts no further."""
_AT_ONCE = 64
"""Applications that the scorer is asked about at once: the nearest first, so that it often need not see the others."""
_PLACES_IN_PAIRS = 10
"""Places of a line that are combined with those of another one."""


@dataclass(frozen=True, slots=True)
class ColumnChange:
    """A column's value as it is, and as it would be."""

    column: str
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class Alternative:
    """An application that the model approves: how it differs from the applicant's, and its PD."""

    changes: tuple[ColumnChange, ...]
    probability: float


@dataclass(frozen=True, slots=True)
class Alternatives:
    """The result of a search.

    Attributes
    ----------
    found : at most three, the smallest first
    complete : whether the search was not cut short
    says : the result in one sentence, without any value
    """

    found: tuple[Alternative, ...]
    complete: bool
    says: str


@dataclass(frozen=True, slots=True)
class SearchBounds:
    """How many applications the scorer may be asked about, and after how many seconds a search is cut short."""

    most_evaluations: int
    seconds: float


class ChangeSearch:
    """Finds the smallest changes that reach approval, of one application at a time.

    Parameters
    ----------
    clock : seconds that never go back
    """

    def __init__(self, scorer: Scorer, bounds: SearchBounds, clock: Callable[[], float] = time.monotonic) -> None:
        self._scorer, self._bounds, self._clock = scorer, bounds, clock
        self._thresholds = read_thresholds(scorer.artefact.model_text, len(scorer.features))
        self._levers = list(_levers(scorer))

    def of(self, columns: Columns) -> Alternatives:
        """The alternatives to the application in the only row of `columns`."""
        columns = columns.declared_by(self._scorer.artefact.portfolio)
        if not any(column.changeable for column in columns.schema):
            return Alternatives((), True, "The portfolio of the model declares no changeable column.")
        applicant = _Applicant(self._scorer, self._thresholds, columns, self._bounds, self._clock)
        if applicant.approves():
            return Alternatives((), True, "The application is approved as it is.")
        singles = [one for one in (_single(applicant, lever) for lever in self._levers) if one]
        found = sorted(singles, key=_size) or _pairs(applicant, self._levers)
        alternatives = tuple(applicant.alternative(one) for one in found[:MOST_ALTERNATIVES])
        return Alternatives(alternatives, applicant.complete, _said(alternatives, complete=applicant.complete))


def _said(found: Sequence[Alternative], *, complete: bool) -> str:
    end = "" if complete else " The search was cut short: there may be others, and smaller ones."
    if found:
        return f"The model approves each of these applications; a lender's decision is not promised.{end}"
    return f"No change within the limits was found that reaches approval.{end}"


@dataclass(frozen=True, slots=True)
class _Lever:
    """A changeable column: its place among the numbers, that of the columns scaled with it, and what reads them."""

    column: int
    changeable: Changeable
    scaled: tuple[int, ...]
    features: tuple[int, ...]


def _levers(scorer: Scorer) -> Iterator[_Lever]:
    """The changeable columns that the model reads. A lever that scales the column of another one stands before it."""
    portfolio, schema = scorer.artefact.portfolio, scorer.artefact.portfolio.schema
    declared = [(one.name, one.changeable) for one in schema.numeric if one.changeable is not None]
    for name, changeable in sorted(declared, key=lambda one: -len(one[1].scaled)):
        moved = {name, *changeable.scaled}
        read = [i for i, one in enumerate(scorer.features) if moved & {*portfolio.features[one].sources}]
        if read:
            scaled = tuple(schema.position[one] for one in changeable.scaled)
            yield _Lever(schema.position[name], changeable, scaled, tuple(read))


@dataclass(frozen=True, slots=True)
class _Line:
    """The steps of a lever in one direction, from the multiple of its step that is nearest to the value."""

    lever: _Lever
    value: float
    first: float
    sign: int
    count: int

    def values(self, places: Places) -> Matrix:
        multiples = self.first + self.sign * places.astype(np.float64)
        return self.lever.changeable.rounded(multiples * self.lever.changeable.step)

    def costs(self, places: Places) -> Matrix:
        """The changes as shares of the value."""
        return np.abs(self.values(places) - self.value) / max(abs(self.value), self.lever.changeable.step)


@dataclass(frozen=True, slots=True)
class _Point:
    """An approved change: places on one line or two, and the sum of their relative changes."""

    lines: tuple[_Line, ...]
    places: tuple[int, ...]
    cost: float

    @property
    def levers(self) -> tuple[_Lever, ...]:
        """What is changed."""
        return tuple(line.lever for line in self.lines)


class _Applicant:
    """One applicant's values, the limits of their changes, and what is left of the bounds of the search."""

    def __init__(
        self,
        scorer: Scorer,
        thresholds: list[Matrix] | None,
        columns: Columns,
        bounds: SearchBounds,
        clock: Callable[[], float],
    ) -> None:
        self.complete = True
        self._scorer, self._thresholds, self._columns, self._clock = scorer, thresholds, columns, clock
        self._left, self._deadline = bounds.most_evaluations, clock() + bounds.seconds
        self._numbers = columns.numbers[0]
        self._known = missing_as_nan(columns)[0]
        self._low, self._high = _limits(columns.schema, self._known)
        self._walked: dict[_Line, _Walk] = {}

    def approves(self) -> bool:
        approved, [self.probability] = self._decided(self._scorer.transformer.transform(self._columns))
        return bool(approved[0])

    @property
    def nothing(self) -> Matrix:
        """A model matrix without rows."""
        return np.empty((0, len(self._scorer.features)))

    def may_go_on(self) -> bool:
        """Whether anything is left of the bounds; the search is incomplete if not."""
        self.complete = self.complete and self._left > 0 and self._clock() < self._deadline
        return self.complete

    def lines(self, lever: _Lever) -> Iterator[_Line]:
        value, step = self._known[lever.column], lever.changeable.step
        if np.isnan(value) or (lever.scaled and not value):
            return
        lower, higher = math.ceil(value / step) - 1, math.floor(value / step) + 1
        down = lower - math.ceil(self._low[lever.column] / step) + 1
        up = math.floor(self._high[lever.column] / step) - higher + 1
        for first, sign, count in ((lower, -1, down), (higher, 1, up)):
            if count > 0:
                yield _Line(lever, float(value), float(first), sign, min(count, _MOST_PLACES))

    def rows(self, lines: Sequence[_Line], places: Sequence[Places]) -> Columns:
        """The application at places of each line; places of one row have the same position."""
        count = len(places[0])
        numbers = np.repeat(self._numbers[np.newaxis], count, axis=0)
        # A lever that scales more columns comes first: the column of a later one is set after it was scaled.
        for line, at in sorted(zip(lines, places, strict=True), key=lambda one: -len(one[0].lever.scaled)):
            changed = line.values(at)
            for column in line.lever.scaled:
                if not np.isnan(self._known[column]):
                    with np.errstate(divide="ignore", invalid="ignore"):  # by 0, which no legal row comes from
                        scaled = numbers[:, column] * (changed / numbers[:, line.lever.column])
                    numbers[:, column] = self._rounded(column, scaled)
            numbers[:, line.lever.column] = changed
        return Columns(numbers, np.repeat(self._columns.levels, count, axis=0), self._columns.portfolio)

    def _rounded(self, column: int, values: Matrix) -> Matrix:
        declared = self._columns.schema.numeric[column]
        if declared.changeable is not None:
            return declared.changeable.rounded(values)
        return np.rint(values) if declared.whole else values

    def _legal(self, rows: Columns) -> NDArray[np.bool_]:
        """Whether each row is changed within the limits, and an application that would be accepted."""
        found: NDArray[np.bool_] = (np.isnan(missing_as_nan(rows)) == np.isnan(self._known)).all(axis=1)
        found &= ~((rows.numbers < self._low) | (rows.numbers > self._high)).any(axis=1)
        found &= self._changed(rows).any(axis=1)
        for violation in find_violations(rows):
            found[violation.rows] = False
        return found

    def _changed(self, rows: Columns) -> NDArray[np.bool_]:
        return np.asarray((rows.numbers != self._numbers) & ~np.isnan(self._numbers))

    def regions(self, line: _Line, others: Sequence[tuple[_Line, int]] = (), *, upto: int | None = None) -> _Regions:
        """The first legal place of each region of a line within which nothing changes, others' places given."""
        count = line.count if upto is None else upto
        at = np.unique(np.linspace(0, count - 1, min(count, _ALL_PLACES)).astype(np.int64))
        seen = self._seen(line, others, at)
        while len(gaps := np.flatnonzero(seen.edges & (np.diff(seen.at) > 1))) and self.may_go_on():
            between = self._seen(line, others, (seen.at[gaps] + seen.at[gaps + 1]) // 2)
            seen = seen.merged(between)
        return seen.starts()

    def matrix(self, lines: Sequence[_Line], places: Sequence[Places]) -> tuple[Matrix, NDArray[np.bool_]]:
        """The model matrix of the application at places of each line, and which rows are legal."""
        rows = self.rows(lines, places)
        return self._scorer.transformer.transform(rows), self._legal(rows)

    def _seen(self, line: _Line, others: Sequence[tuple[_Line, int]], at: Places) -> _Regions:
        placed = [(line, at), *((other, np.full(len(at), place)) for other, place in others)]
        lines, places = zip(*placed, strict=True)
        matrix, legal = self.matrix(lines, places)
        features = sorted({feature for one in lines for feature in one.lever.features})
        return _Regions(at, matrix, self._outcomes(matrix, features, at), legal)

    def _outcomes(self, matrix: Matrix, features: Sequence[int], at: Places) -> NDArray[np.int64]:
        """What the splits and the rule of completeness see of each row: rows of equal outcomes have equal decisions."""
        if self._thresholds is None:  # of linear trees, where every place counts
            return at[:, np.newaxis].copy()
        found = np.empty((len(matrix), len(features)), dtype=np.int64)
        for i, feature in enumerate(features):
            values = matrix[:, feature]
            found[:, i] = np.where(np.isnan(values), -1, self._thresholds[feature].searchsorted(values))
        return found

    def walk(self, line: _Line) -> _Walk:
        """The line with nothing else changed; it is walked once."""
        if line not in self._walked:
            self._walked[line] = self._walk(self.regions(line))
        return self._walked[line]

    def beside(self, line: _Line, upto: int, other: tuple[_Line, int]) -> _Walk:
        """The line up to a place, with a place of another line given."""
        return self._walk(self.regions(line, [other], upto=upto))

    def _walk(self, regions: _Regions) -> _Walk:
        probabilities, approved = np.empty(0), np.empty(0, dtype=np.bool_)
        for more, found in self.decided(regions.matrix):
            approved, probabilities = np.concatenate([approved, more]), np.concatenate([probabilities, found])
            if approved.any():
                break
        return _Walk(regions.at[: len(approved)], probabilities, approved)

    def decided(self, matrix: Matrix) -> Iterator[tuple[NDArray[np.bool_], Matrix]]:
        """Which rows are approved, and their PDs: in parts, as long as the bounds let the search go on."""
        start = 0
        while start < len(matrix) and self.may_go_on():
            part = matrix[start : start + min(_AT_ONCE, self._left)]
            start += len(part)
            yield self._decided(part)

    def _decided(self, matrix: Matrix) -> tuple[NDArray[np.bool_], Matrix]:
        self._left -= len(matrix)
        scores = self._scorer.decide(matrix, self._scorer.model.margins(matrix), with_reasons=False)
        return scores.decision == DecisionKind.APPROVE, scores.probability

    def alternative(self, point: _Point) -> Alternative:
        rows = self.rows(point.lines, [np.array([place]) for place in point.places])
        _, [probability] = self._decided(self._scorer.transformer.transform(rows))
        changed = np.flatnonzero(self._changed(rows)[0]).tolist()
        named = ((rows.schema.numeric[i].name, self._numbers[i], rows.numbers[0, i]) for i in changed)
        return Alternative(tuple(ColumnChange(name, float(x), float(y)) for name, x, y in named), float(probability))


def _limits(schema: Schema, known: Matrix) -> tuple[Matrix, Matrix]:
    """The least and the largest value of each numeric column, shape (n_numeric,), whichever lever moves it."""
    low, high = np.full(len(known), -np.inf), np.full(len(known), np.inf)
    for i, column in enumerate(schema.numeric):
        if column.changeable is not None and not np.isnan(known[i]):
            most = column.changeable.most
            room = math.inf if most == math.inf else abs(known[i]) * most
            low[i] = max(column.low, known[i] - room) if column.changeable.lower else known[i]
            high[i] = min(column.high, known[i] + room) if column.changeable.higher else known[i]
    return low, high


@dataclass(frozen=True, slots=True)
class _Regions:
    """Places on a line in rising order; row i of every array belongs to place i."""

    at: Places
    matrix: Matrix
    outcomes: NDArray[np.int64]
    legal: NDArray[np.bool_]

    @property
    def edges(self) -> NDArray[np.bool_]:
        """Whether something changes between each place and the next."""
        return np.asarray((self.outcomes[1:] != self.outcomes[:-1]).any(axis=1) | (self.legal[1:] != self.legal[:-1]))

    def merged(self, other: _Regions) -> _Regions:
        order = np.concatenate([self.at, other.at]).argsort()
        return _Regions(
            np.concatenate([self.at, other.at])[order],
            np.concatenate([self.matrix, other.matrix])[order],
            np.concatenate([self.outcomes, other.outcomes])[order],
            np.concatenate([self.legal, other.legal])[order],
        )

    def starts(self) -> _Regions:
        first = np.concatenate([[True], self.edges]) & self.legal
        return _Regions(self.at[first], self.matrix[first], self.outcomes[first], self.legal[first])


@dataclass(frozen=True, slots=True)
class _Walk:
    """The places of a line that the scorer was asked about, up to the first that is approved."""

    at: Places
    probabilities: Matrix
    approved: NDArray[np.bool_]

    @property
    def first(self) -> int | None:
        """The nearest place that is approved."""
        return int(self.at[self.approved.argmax()]) if self.approved.any() else None

    def helpful(self, probability: float) -> Places:
        """The places with a lower PD than this one and that of every nearer place, at most ten of them."""
        lowest = np.minimum.accumulate(np.concatenate([[probability], self.probabilities]))
        places = self.at[self.probabilities < lowest[:-1]]
        return places[np.unique(np.linspace(0, len(places) - 1, min(len(places), _PLACES_IN_PAIRS)).astype(np.intp))]


def _single(applicant: _Applicant, lever: _Lever) -> _Point | None:
    """The smallest change of one lever that is approved."""
    walked = [(line, applicant.walk(line).first) for line in applicant.lines(lever) if applicant.may_go_on()]
    found = [_point([line], [first]) for line, first in walked if first is not None]
    return min(found, key=lambda one: one.cost, default=None)


def _point(lines: Sequence[_Line], places: Sequence[int]) -> _Point:
    cost = sum(line.costs(np.array([place]))[0] for line, place in zip(lines, places, strict=True))
    return _Point(tuple(lines), tuple(places), float(cost))


def _size(point: _Point) -> tuple[float, int]:
    """The sum of relative changes; of equal ones, the change of fewer columns is the smaller."""
    return point.cost, sum(len(lever.scaled) for lever in point.levers)


def _pairs(applicant: _Applicant, levers: Sequence[_Lever]) -> list[_Point]:
    """The smallest approved changes of two levers, the smallest first; only where no single one is approved.

    Looked for where each of both alone lowers the PD, and then made as small as each can be beside the other.
    """
    lines = [line for lever in levers for line in applicant.lines(lever) if applicant.may_go_on()]
    helpful = [(line, applicant.walk(line).helpful(applicant.probability)) for line in lines]
    points, matrix = _combined(applicant, helpful)
    found: dict[tuple[_Lever, ...], _Point] = {}
    seen = 0
    for approved, _ in applicant.decided(matrix):
        for i in np.flatnonzero(approved).tolist():
            found.setdefault(points[seen + i].levers, points[seen + i])
        seen += len(approved)
        if len(found) >= MOST_ALTERNATIVES:
            break
    return sorted((_smaller(applicant, point) for point in found.values()), key=_size)


def _combined(applicant: _Applicant, helpful: Sequence[tuple[_Line, Places]]) -> tuple[list[_Point], Matrix]:
    """The legal combinations of the places of two levers, the smallest first, and their rows of the model matrix."""
    points, rows = list[_Point](), [applicant.nothing]
    for (first, firsts), (second, seconds) in combinations(helpful, 2):
        if first.lever is second.lever or not (len(firsts) and len(seconds)) or not applicant.may_go_on():
            continue
        places = np.repeat(firsts, len(seconds)), np.tile(seconds, len(firsts))
        matrix, legal = applicant.matrix((first, second), places)
        costs = (first.costs(places[0]) + second.costs(places[1])).tolist()
        both = np.stack(places, axis=1).tolist()
        points += [_Point((first, second), tuple(both[i]), costs[i]) for i in np.flatnonzero(legal).tolist()]
        rows.append(matrix[legal])
    order = sorted(range(len(points)), key=lambda i: points[i].cost)
    return [points[i] for i in order], np.concatenate(rows)[order]


def _smaller(applicant: _Applicant, point: _Point) -> _Point:
    """An approved change of two levers after each was made as small as it can be beside the other."""
    before = None
    while point != before and applicant.may_go_on():
        before = point
        for i, kept in ((0, 1), (1, 0)):
            walk = applicant.beside(point.lines[i], point.places[i] + 1, (point.lines[kept], point.places[kept]))
            if walk.first is not None:
                places = (walk.first, point.places[1]) if i == 0 else (point.places[0], walk.first)
                point = _point(point.lines, places)
    return point
