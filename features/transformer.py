"""The transformer turns raw columns into the model matrix, by a fitted state."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from features.application import APPLICATION
from features.catalogue import CATALOGUE, DEFINITION_DIGEST, Feature
from features.errors import ColumnsError, SchemaError
from features.operations import Operation
from features.schema import Schema


@dataclass(frozen=True, slots=True)
class Columns:
    """The raw columns of n applications: row i of both arrays is application i.

    Attributes
    ----------
    numbers : float64, shape (n, len(schema.numeric)); NaN is a missing value
    levels : object, shape (n, len(schema.categorical)); str, or None where the value is missing
    """

    numbers: NDArray[np.float64]
    levels: NDArray[np.object_]

    def __len__(self) -> int:
        return len(self.numbers)

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_] | slice) -> Columns:
        """The chosen rows, in the order given."""
        return Columns(self.numbers[rows], self.levels[rows])

    def check(self, schema: Schema) -> None:
        """Raise ColumnsError unless both arrays have the shape that `schema` asks for."""
        expected = (len(self.numbers), len(schema.numeric)), (len(self.numbers), len(schema.categorical))
        if (self.numbers.shape, self.levels.shape) != expected:
            raise ColumnsError(
                f"columns have shapes {self.numbers.shape} and {self.levels.shape}, "
                f"the declaration asks for {expected[0]} and {expected[1]}"
            )


def concatenate(parts: Sequence[Columns]) -> Columns:
    """All rows of `parts`, one after the other."""
    if len(parts) == 1:
        return parts[0]
    return Columns(
        np.concatenate([part.numbers for part in parts]),
        np.concatenate([part.levels for part in parts]),
    )


@dataclass(frozen=True, slots=True)
class FeatureState:
    """The fitted part of the features.

    Attributes
    ----------
    names : features of the model matrix, in its order
    vocabularies : for each categorical column the known levels; the position of a level is its code
    clip : for each clipped numeric column its inclusive bounds
    definition : digest of the declaration that this state was fitted with
    """

    names: tuple[str, ...]
    vocabularies: Mapping[str, tuple[str, ...]]
    clip: Mapping[str, tuple[float, float]]
    definition: str = DEFINITION_DIGEST

    def __post_init__(self) -> None:
        # Another formula under the same name would score every applicant differently, without an error.
        if self.definition != DEFINITION_DIGEST:
            raise SchemaError("the features were fitted with another feature definition than this code's")
        unknown = set(self.names) - {feature.name for feature in CATALOGUE}
        if unknown or len(set(self.names)) != len(self.names):
            raise SchemaError(f"features that are not declared, or declared twice: {sorted(unknown)}")
        categories = {column.name for column in APPLICATION.categorical}
        without = [name for name in self.names if name in categories and name not in self.vocabularies]
        if without:
            raise SchemaError(f"categories without a vocabulary: {', '.join(without)}")

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form; `from_dict` is its inverse."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The state that `to_dict` wrote; SchemaError if it belongs to another definition."""
        return cls(
            names=tuple(values["names"]),
            vocabularies={name: tuple(levels) for name, levels in values["vocabularies"].items()},
            clip={name: (low, high) for name, (low, high) in values["clip"].items()},
            definition=values["definition"],
        )


# Rows at once: the arrays on the way to the matrix stay small, however long the file is.
_BLOCK = 4_096
_FEATURES = {feature.name: feature for feature in CATALOGUE}

_Rows = NDArray[np.float64]
"""Shape (columns, n): each column is contiguous, and the transpose of a single row needs no copy."""


class FeatureTransformer:
    """The compiled form of a FeatureState: a pure, row-wise function from Columns to the model matrix.

    The matrix holds the same bits for a row whatever the other rows are. Missing values are NaN. A category is the
    position of its level in the vocabulary; a level outside it is coded as the size of the vocabulary.
    """

    def __init__(self, state: FeatureState) -> None:
        self.state = state
        chosen = [_FEATURES[name] for name in state.names]
        self._clean = _Cleaner(state)
        self._numbers = _Numbers(chosen)
        self._categories = _Categories(chosen, state)
        self._order = np.argsort([*self._numbers.targets, *self._categories.targets])

    @property
    def names(self) -> tuple[str, ...]:
        """The features, in the order of the matrix columns."""
        return self.state.names

    @property
    def categorical(self) -> tuple[int, ...]:
        """The matrix columns that hold category codes."""
        return self._categories.targets

    @property
    def largest_codes(self) -> tuple[float, ...]:
        """The code of the unknown level, for each of the `categorical` columns."""
        return tuple(codes.unknown for codes in self._categories.codes)

    def transform(self, columns: Columns) -> NDArray[np.float64]:
        """The model matrix, float64 of shape (n, len(names)), C order; ColumnsError if the columns do not fit."""
        columns.check(APPLICATION)
        if len(columns) <= _BLOCK:
            return np.ascontiguousarray(self._block(columns).T)
        matrix = np.empty((len(columns), len(self.names)))
        for start in range(0, len(columns), _BLOCK):
            rows = slice(start, start + _BLOCK)
            matrix[rows] = self._block(columns.take(rows)).T
        return matrix

    def _block(self, columns: Columns) -> _Rows:
        cleaned = self._clean(np.ascontiguousarray(columns.numbers.T))
        features = [*self._numbers.of(cleaned), self._categories.of(columns.levels)]
        return np.concatenate(features).take(self._order, axis=0)

    def unknown_codes(self, matrix: NDArray[np.float64]) -> dict[int, int]:
        """The columns of a foreign matrix that hold an illegal category code, and the largest legal code of each.

        A code is NaN or a whole number from 0 to the code of the unknown level, which is the largest.
        """
        held, largest = matrix[:, self._categories.targets], self._categories.largest
        legal = np.isnan(held) | ((held >= 0) & (held <= largest) & (held == np.floor(held)))
        return {self.categorical[i]: int(largest[i]) for i in np.flatnonzero(~legal.all(axis=0)).tolist()}


@dataclass(frozen=True, slots=True)
class _Derived:
    """The chosen features of one operation and arity, computed in one call of NumPy."""

    operation: Operation
    sources: slice
    shape: tuple[int, int, int]
    weights: NDArray[np.float64]

    def of(self, gathered: _Rows) -> _Rows:
        return self.operation(gathered[self.sources].reshape(self.shape), self.weights)


class _Numbers:
    """The numeric features: raw columns first, then the derived ones. `targets` are their matrix columns."""

    def __init__(self, chosen: Sequence[Feature]) -> None:
        raw = [i for i, feature in enumerate(chosen) if _is_number(feature)]
        groups = _grouped(chosen)
        self.targets = (*raw, *(i for members in groups.values() for i in members))
        self._raw = len(raw)
        sources = [APPLICATION.position[chosen[i].name] for i in raw]
        derived = []
        for (operation, arity), members in groups.items():
            start = len(sources)
            sources += [APPLICATION.position[chosen[i].sources[j]] for j in range(arity) for i in members]
            weights = np.array([chosen[i].weights for i in members], dtype=np.float64).T[:, :, np.newaxis].copy()
            derived.append(_Derived(operation, slice(start, len(sources)), (arity, len(members), -1), weights))
        self._sources = np.array(sources, dtype=np.intp)
        self._derived = tuple(derived)

    def of(self, cleaned: _Rows) -> list[_Rows]:
        gathered = cleaned.take(self._sources, axis=0)
        with np.errstate(over="ignore"):  # a ratio of legal amounts may be infinite, which LightGBM takes
            return [gathered[: self._raw], *[derived.of(gathered) for derived in self._derived]]


class _Codes(dict[str | None, float]):
    """The codes of one category by level; any other level has the code of the unknown."""

    def __init__(self, name: str, vocabulary: Sequence[str]) -> None:
        self.unknown = float(len(vocabulary))
        self._column = APPLICATION[name]
        self.update({level: float(code) for code, level in enumerate(vocabulary)})
        self.update(dict.fromkeys((None, *map(str, self._column.missing)), np.nan))

    def __missing__(self, level: str | None) -> float:
        return np.nan if level is None or self._column.is_missing(level) else self.unknown


class _Categories:
    """The raw categorical columns that are features, with their matrix columns (`targets`) and `largest` codes."""

    def __init__(self, chosen: Sequence[Feature], state: FeatureState) -> None:
        named = {i: feature.name for i, feature in enumerate(chosen) if _is_category(feature)}
        self.targets = tuple(named)
        self.codes = tuple(_Codes(name, state.vocabularies[name]) for name in named.values())
        self.largest = np.array([codes.unknown for codes in self.codes])
        self._columns = np.array([APPLICATION.position[name] for name in named.values()], dtype=np.intp)

    def of(self, levels: NDArray[np.object_]) -> _Rows:
        columns = levels.T.take(self._columns, axis=0).tolist()
        coded = [codes[level] for codes, column in zip(self.codes, columns, strict=True) for level in column]
        return np.array(coded, dtype=np.float64).reshape(len(columns), len(levels))


def _is_number(feature: Feature) -> bool:
    return feature.operation is None and APPLICATION[feature.name].numeric


def _is_category(feature: Feature) -> bool:
    return feature.operation is None and not APPLICATION[feature.name].numeric


def _grouped(chosen: Sequence[Feature]) -> dict[tuple[Operation, int], list[int]]:
    groups: dict[tuple[Operation, int], list[int]] = defaultdict(list)
    for i, feature in enumerate(chosen):
        if feature.operation is not None:
            groups[feature.operation, len(feature.sources)].append(i)
    return groups


class _Cleaner:
    """Turns the data's own codes for missing into NaN and clips to the learned bounds."""

    def __init__(self, state: FeatureState) -> None:
        coded = [(i, code) for i, column in enumerate(APPLICATION.numeric) for code in column.missing]
        self._coded = np.array([i for i, _ in coded], dtype=np.intp)
        self._codes = np.array([[code] for _, code in coded], dtype=np.float64)
        bounds = [state.clip.get(column.name, (-np.inf, np.inf)) for column in APPLICATION.numeric]
        self._low, self._high = np.array(bounds).T[:, :, np.newaxis].copy()

    def __call__(self, numbers: _Rows) -> _Rows:
        # np.maximum passes NaN on; np.fmax would put the bound in its place.
        cleaned: _Rows = np.maximum(numbers, self._low)
        np.minimum(cleaned, self._high, out=cleaned)
        # The raw numbers are compared, since clipping has changed a code such as 365243.
        coded = numbers.take(self._coded, axis=0) == self._codes
        cleaned[self._coded] = np.where(coded, np.nan, cleaned.take(self._coded, axis=0))
        return cleaned


def missing_as_nan(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Raw numbers of shape (n, n_numeric) with the codes for missing turned into NaN."""
    return _Cleaner(FeatureState(names=(), vocabularies={}, clip={}))(numbers.T).T
