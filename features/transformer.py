"""From raw columns to the model matrix, by a fitted state."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .application import APPLICATION
from .catalogue import CATALOGUE
from .columns import Columns
from .feature import Feature
from .operations import Operation
from .state import FeatureState

_BLOCK = 16_384
_FEATURES = {feature.name: feature for feature in CATALOGUE}


@dataclass(frozen=True, slots=True)
class _Derived:
    """All chosen features of one operation and arity: they are computed together."""

    operation: Operation
    sources: NDArray[np.intp]
    weights: NDArray[np.float64]
    targets: NDArray[np.intp]

    def into(self, matrix: NDArray[np.float64], numbers: NDArray[np.float64]) -> None:
        matrix[:, self.targets] = self.operation(numbers[:, self.sources], self.weights)


@dataclass(frozen=True, slots=True)
class _Encoded:
    """One categorical column that is a feature: its codes by level, and the code of any other level."""

    column: int
    target: int
    codes: dict[str | None, float]
    unknown: float

    def into(self, matrix: NDArray[np.float64], levels: NDArray[np.object_]) -> None:
        codes, unknown = self.codes, self.unknown
        matrix[:, self.target] = [codes.get(level, unknown) for level in levels[:, self.column]]


class FeatureTransformer:
    """The compiled form of a FeatureState: a pure, row-wise function from Columns to the model matrix.

    The matrix holds the same bits for a row whatever the other rows are. Missing values are NaN. A category is the
    position of its level in the vocabulary; a level outside it is coded as the size of the vocabulary.
    """

    def __init__(self, state: FeatureState) -> None:
        self.state = state
        chosen = [_FEATURES[name] for name in state.names]
        raw = [(i, feature.name) for i, feature in enumerate(chosen) if feature.operation is None]
        self._cleaner = _Cleaner(state)
        self._copied = np.array([(i, APPLICATION.position[name]) for i, name in raw if APPLICATION[name].numeric])
        self._encoded = tuple(_encoded(i, name, state) for i, name in raw if not APPLICATION[name].numeric)
        self._derived = _grouped(chosen)

    @property
    def names(self) -> tuple[str, ...]:
        """The features, in the order of the matrix columns."""
        return self.state.names

    @property
    def categorical(self) -> tuple[int, ...]:
        """The matrix columns that hold category codes."""
        return tuple(encoded.target for encoded in self._encoded)

    def transform(self, columns: Columns) -> NDArray[np.float64]:
        """The model matrix, float64 of shape (n, len(names)), C order; ColumnsError if the columns do not fit."""
        columns.check(APPLICATION)
        matrix = np.empty((len(columns), len(self.names)))
        for start in range(0, len(columns), _BLOCK):
            rows = slice(start, start + _BLOCK)
            self._fill(matrix[rows], columns.numbers[rows], columns.levels[rows])
        return matrix

    def _fill(self, matrix: NDArray[np.float64], numbers: NDArray[np.float64], levels: NDArray[np.object_]) -> None:
        cleaned = self._cleaner(numbers)
        if len(self._copied):
            matrix[:, self._copied[:, 0]] = cleaned[:, self._copied[:, 1]]
        for encoded in self._encoded:
            encoded.into(matrix, levels)
        with np.errstate(over="ignore"):  # a ratio of legal amounts may be infinite
            for derived in self._derived:
                derived.into(matrix, cleaned)

    def unknown_levels(self, matrix: NDArray[np.float64]) -> dict[str, int]:
        """How many rows of a model matrix hold an unknown category, by feature."""
        return {
            self.names[encoded.target]: int(np.count_nonzero(matrix[:, encoded.target] == encoded.unknown))
            for encoded in self._encoded
        }


class _Cleaner:
    """Turns the data's own codes for missing into NaN and clips to the learned bounds."""

    def __init__(self, state: FeatureState) -> None:
        coded = [(i, code) for i, column in enumerate(APPLICATION.numeric) for code in column.missing]
        self._coded = np.array([i for i, _ in coded], dtype=np.intp)
        self._codes = np.array([code for _, code in coded], dtype=np.float64)
        bounds = [state.clip.get(column.name, (-np.inf, np.inf)) for column in APPLICATION.numeric]
        self._low, self._high = np.array(bounds).T.copy()

    def __call__(self, numbers: NDArray[np.float64]) -> NDArray[np.float64]:
        cleaned: NDArray[np.float64] = np.minimum(np.maximum(numbers, self._low), self._high)
        coded = numbers[:, self._coded]
        cleaned[:, self._coded] = np.where(coded == self._codes, np.nan, cleaned[:, self._coded])
        return cleaned


def missing_as_nan(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Raw numbers of shape (n, n_numeric) with the codes for missing turned into NaN."""
    return _Cleaner(FeatureState(names=(), vocabularies={}, clip={}))(numbers)


def _encoded(target: int, name: str, state: FeatureState) -> _Encoded:
    vocabulary = state.vocabularies[name]
    codes: dict[str | None, float] = {level: float(code) for code, level in enumerate(vocabulary)}
    codes |= dict.fromkeys((None, *map(str, APPLICATION[name].missing)), np.nan)
    return _Encoded(APPLICATION.position[name], target, codes, float(len(vocabulary)))


def _grouped(chosen: list[Feature]) -> tuple[_Derived, ...]:
    groups: dict[tuple[Operation, int], list[int]] = defaultdict(list)
    for i, feature in enumerate(chosen):
        if feature.operation is not None:
            groups[feature.operation, len(feature.sources)].append(i)
    return tuple(
        _Derived(
            operation=operation,
            sources=np.array([[APPLICATION.position[source] for source in chosen[i].sources] for i in members]),
            weights=np.array([chosen[i].weights for i in members], dtype=np.float64),
            targets=np.array(members, dtype=np.intp),
        )
        for (operation, _), members in groups.items()
    )
