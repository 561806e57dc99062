"""The transformer turns raw columns into the model matrix, by a fitted state."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from operator import itemgetter
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from features.errors import ColumnsError, SchemaError
from features.formulas import Call, Constant, Expression, Source, calls_by_level, nodes
from features.operations import OPERATIONS, WEIGHTED, RowOperation, Values, row_operation
from features.portfolio import Feature, Portfolio
from features.schema import Column, Schema


class DistinctLevels(NamedTuple):
    """The few levels of one categorical column, and which of them each row has.

    Attributes
    ----------
    levels : all that occur, perhaps others too, or one twice; None where a value is missing
    places : of the level of each row among them, shape (n,)
    """

    levels: Sequence[str | None]
    places: NDArray[np.intp]

    @classmethod
    def of(cls, column: Sequence[str | None]) -> Self:
        """Those of the levels of n rows."""
        levels = list(dict.fromkeys(column))  # a column has few
        at = {level: place for place, level in enumerate(levels)}
        return cls(levels, np.fromiter(map(at.__getitem__, column), np.intp, len(column)))

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_] | slice) -> Self:
        """Those of the chosen rows."""
        return self._replace(places=self.places[rows])


@dataclass(frozen=True, slots=True)
class Columns:
    """The raw columns of n applications: row i of both arrays is application i.

    Attributes
    ----------
    numbers : float64, shape (n, len(schema.numeric)); NaN is a missing value
    levels : object, shape (n, len(schema.categorical)); str, or None where the value is missing
    portfolio : what declares the columns
    read : the distinct levels of each categorical column, as a reader of files found them: then nobody may write into
        `levels`; None where nobody did
    """

    numbers: NDArray[np.float64]
    levels: NDArray[np.object_]
    portfolio: Portfolio
    read: tuple[DistinctLevels, ...] | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def schema(self) -> Schema:
        """The declaration of the columns."""
        return self.portfolio.schema

    def __len__(self) -> int:
        return len(self.numbers)

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_] | slice) -> Columns:
        """The chosen rows, in the order given."""
        if self.read is None:
            return Columns(self.numbers[rows], self.levels[rows], self.portfolio)
        read = [one.take(rows) for one in self.read]
        return self.as_read(self.numbers[rows], self.levels[rows], self.portfolio, read)

    @classmethod
    def as_read(
        cls,
        numbers: NDArray[np.float64],
        levels: NDArray[np.object_],
        portfolio: Portfolio,
        read: Sequence[DistinctLevels],
    ) -> Self:
        """The columns with the distinct levels that a reader found; nobody can write into `levels` from now on."""
        levels.flags.writeable = False
        columns = cls(numbers, levels, portfolio)
        object.__setattr__(columns, "read", tuple(read))  # no argument, so that `replace` does not take it along
        return columns

    def distinct(self, place: int) -> DistinctLevels:
        """The distinct levels of a column of `levels`."""
        return DistinctLevels.of(self.levels[:, place].tolist()) if self.read is None else self.read[place]

    def check(self) -> None:
        """Raise ColumnsError unless both arrays have the shape that the declaration asks for."""
        schema = self.schema
        expected = (len(self.numbers), len(schema.numeric)), (len(self.numbers), len(schema.categorical))
        if (self.numbers.shape, self.levels.shape) != expected:
            raise ColumnsError(
                f"columns have shapes {self.numbers.shape} and {self.levels.shape}, "
                f"the declaration asks for {expected[0]} and {expected[1]}"
            )

    def declared_by(self, portfolio: Portfolio) -> Columns:
        """The same applications in the columns of another portfolio; ColumnsError if one is not among these."""
        if portfolio is self.portfolio or portfolio == self.portfolio:
            return self
        schema = portfolio.schema
        for column in schema:
            if column.name not in self.schema or self.schema[column.name].kind is not column.kind:
                raise ColumnsError(f"the applications have no column {column.name} of the kind {column.kind}")
        at = self.schema.position
        return Columns(
            np.ascontiguousarray(self.numbers[:, [at[column.name] for column in schema.numeric]]),
            np.ascontiguousarray(self.levels[:, [at[column.name] for column in schema.categorical]]),
            portfolio,
        )


def concatenate(parts: Sequence[Columns]) -> Columns:
    """All rows of `parts`, one after the other."""
    if len(parts) == 1:
        return parts[0]
    return Columns(
        np.concatenate([part.numbers for part in parts]),
        np.concatenate([part.levels for part in parts]),
        parts[0].portfolio,
    )


# No slots: cached_property keeps its values in __dict__.
@dataclass(frozen=True)
class FeatureState:
    """The fitted part of the features.

    Attributes
    ----------
    names : features of the model matrix, in its order
    vocabularies : for each categorical column the known levels; the position of a level is its code
    clip : for each clipped numeric column its inclusive bounds
    portfolio : the declaration that the state was fitted with
    """

    names: tuple[str, ...]
    vocabularies: Mapping[str, tuple[str, ...]]
    clip: Mapping[str, tuple[float, float]]
    portfolio: Portfolio = field(repr=False)

    def __post_init__(self) -> None:
        unknown = set(self.names) - self.portfolio.features.keys()
        if unknown or len(set(self.names)) != len(self.names):
            raise SchemaError(f"features that are not declared, or declared twice: {sorted(unknown)}")
        categories = {column.name for column in self.portfolio.schema.categorical}
        without = [name for name in self.names if name in categories and name not in self.vocabularies]
        if without:
            raise SchemaError(f"categories without a vocabulary: {', '.join(without)}")

    @cached_property
    def rolled_up(self) -> frozenset[str]:
        """The roll-ups of histories that the features read; none for a model of the application alone."""
        read = {source for name in self.names for source in self.portfolio.features[name].sources}
        return frozenset(column.name for column in self.portfolio.schema.rolled_up if column.name in read)

    @property
    def histories(self) -> list[str]:
        """The tables of histories whose roll-ups the features read."""
        read = [column.history for column in self.portfolio.schema.rolled_up if column.name in self.rolled_up]
        return list(dict.fromkeys(read))

    def expects(self, column: Column) -> bool:
        """Whether an application should state a column: all but the roll-ups that no feature reads."""
        return not column.history or column.name in self.rolled_up

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form, without the portfolio; `from_dict` is its inverse."""
        return {"names": self.names, "vocabularies": self.vocabularies, "clip": self.clip}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], portfolio: Portfolio) -> Self:
        """The state that `to_dict` wrote; SchemaError if it does not belong to the portfolio."""
        return cls(
            names=tuple(values["names"]),
            vocabularies={name: tuple(levels) for name, levels in values["vocabularies"].items()},
            clip={name: (low, high) for name, (low, high) in values["clip"].items()},
            portfolio=portfolio,
        )


# Rows at once: measured, the arrays on the way to the matrix stay in a processor's cache.
_BLOCK = 1_024
# So few rows take less time one by one in Python's floats than together in arrays.
_ROW_BY_ROW = 2

_Rows = NDArray[np.float64]
"""Shape (columns, n): each column is contiguous, and the transpose of a single row needs no copy."""


class FeatureTransformer:
    """The compiled form of a FeatureState: a pure, row-wise function from Columns to the model matrix.

    The matrix holds the same bits for a row whatever the other rows are. Missing values are NaN. A category is the
    position of its level in the vocabulary; a level outside it is coded as the size of the vocabulary.
    """

    def __init__(self, state: FeatureState) -> None:
        self.state = state
        self.schema = state.portfolio.schema
        chosen = [state.portfolio.features[name] for name in state.names]
        # The numeric columns that are read, and no others: a declaration may have many roll-ups of histories.
        read = {source for feature in chosen for source in feature.sources}
        numeric = [column for column in self.schema.numeric if column.name in read]
        self._read = np.array([self.schema.position[column.name] for column in numeric], dtype=np.intp)
        self._clean = _Cleaner(numeric, state.clip)
        self._numbers = _Numbers(chosen, self.schema, numeric)
        self._categories = _Categories(chosen, state)
        # Where each feature lies among the computed rows; the categories follow the numbers.
        places = np.empty(len(chosen), dtype=np.intp)
        places[list(self._numbers.targets)] = self._numbers.places
        places[list(self._categories.targets)] = self._numbers.rows + np.arange(len(self._categories.targets))
        self._places = places
        self._row_by_row = _RowByRow(chosen, self.schema, numeric, self._numbers.indicators, self._categories)

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
        columns = columns.declared_by(self.state.portfolio)
        columns.check()
        if len(columns) <= _ROW_BY_ROW:
            cleaned = self._clean(columns.numbers.T.take(self._read, axis=0))
            return self._row_by_row.of(cleaned, columns.levels).reshape(len(columns), len(self.names))
        if len(columns) <= _BLOCK:
            return np.ascontiguousarray(self._block(columns).T)
        matrix = np.empty((len(columns), len(self.names)))
        for start in range(0, len(columns), _BLOCK):
            rows = slice(start, start + _BLOCK)
            matrix[rows] = self._block(columns.take(rows)).T
        return matrix

    def _block(self, columns: Columns) -> _Rows:
        cleaned = self._clean(columns.numbers.T.take(self._read, axis=0))
        computed = [*self._numbers.of(cleaned, columns.levels), self._categories.of(columns)]
        return np.concatenate(computed).take(self._places, axis=0)

    def unknown_codes(self, matrix: NDArray[np.float64]) -> dict[int, int]:
        """The columns of a foreign matrix that hold an illegal category code, and the largest legal code of each.

        A code is NaN or a whole number from 0 to the code of the unknown level, which is the largest.
        """
        held, largest = matrix[:, self._categories.targets], self._categories.largest
        legal = np.isnan(held) | ((held >= 0) & (held <= largest) & (held == np.floor(held)))
        return {self.categorical[i]: int(largest[i]) for i in np.flatnonzero(~legal.all(axis=0)).tolist()}


@dataclass(frozen=True, slots=True)
class _Group:
    """The expressions of one operation, arity and form, computed in one call of NumPy.

    `sources` is their part of the gathered rows. `constants` are the arguments that are numbers, with their places
    among all arguments; an operation that takes weights gets them as these.
    """

    operation: str
    sources: slice
    shape: tuple[int, int, int]
    weights: Values
    constants: tuple[tuple[int, Values], ...] = ()

    def of(self, gathered: _Rows) -> _Rows:
        values = gathered[self.sources].reshape(self.shape)
        if self.constants:
            values = self._with_constants(values)
        return OPERATIONS[self.operation](values, self.weights)

    def _with_constants(self, values: Values) -> Values:
        every = np.empty((len(values) + len(self.constants), *values.shape[1:]))
        filled = {place for place, _ in self.constants}
        every[[i for i in range(len(every)) if i not in filled]] = values
        for place, numbers in self.constants:
            every[place] = numbers
        return every


class _Numbers:
    """The numeric features, computed level by level: an expression after those that it reads.

    `targets` are their matrix columns, and `places` the rows of each among the `rows` that `of` returns.
    """

    def __init__(self, chosen: Sequence[Feature], schema: Schema, numeric: Sequence[Column]) -> None:
        named = {i: _expression(feature, schema) for i, feature in enumerate(chosen)}
        wanted = {i: expression for i, expression in named.items() if expression is not None}
        self.targets = tuple(wanted)
        self.indicators = _Indicators([node for expression in wanted.values() for node in nodes(expression)], schema)
        # The rows that a level may read: the numeric columns, the indicators, and the levels before it.
        at: dict[Expression, int] = {Source(column.name): i for i, column in enumerate(numeric)}
        at |= {source: len(numeric) + i for i, source in enumerate(self.indicators.sources)}
        raw = list(dict.fromkeys(one for one in wanted.values() if isinstance(one, Source)))
        computed: dict[Expression, int] = {one: i for i, one in enumerate(raw)}
        levels: list[tuple[NDArray[np.intp], tuple[_Group, ...]]] = []
        first = [at[one] for one in raw]
        for calls in calls_by_level(wanted.values()):
            sources, groups, made = _grouped(calls, at, first)
            levels.append((np.array(sources, dtype=np.intp), groups))
            start, first = len(at), []
            at |= {one: start + i for i, one in enumerate(made)}
            computed |= {one: len(computed) + i for i, one in enumerate(made)}
        self._raw = len(raw)
        self._levels = levels or [(np.array(first, dtype=np.intp), ())]
        self.rows = len(computed)
        self.places = [computed[one] for one in wanted.values()]

    def of(self, cleaned: _Rows, texts: NDArray[np.object_]) -> list[_Rows]:
        known = cleaned if not self.indicators.sources else np.concatenate([cleaned, self.indicators.of(texts)])
        computed: list[_Rows] = []
        with np.errstate(over="ignore", invalid="ignore"):  # a ratio of legal amounts may be infinite
            for level, (sources, groups) in enumerate(self._levels):
                gathered = known.take(sources, axis=0)
                made = [group.of(gathered) for group in groups]
                computed += [gathered[: self._raw], *made] if level == 0 else made
                if level + 1 < len(self._levels):
                    known = np.concatenate([known, *made])
        return computed


class _Indicators:
    """Whether categories have one level: 1 or 0, NaN where the category is missing."""

    def __init__(self, nodes: Sequence[Expression], schema: Schema) -> None:
        self.sources = list(
            dict.fromkeys(node for node in nodes if isinstance(node, Source) and node.level is not None)
        )
        self._columns = [(schema.position[one.column], schema[one.column], one.level) for one in self.sources]

    def of(self, texts: NDArray[np.object_]) -> _Rows:
        rows = np.empty((len(self._columns), len(texts)))
        for row, (position, column, level) in zip(rows, self._columns, strict=True):
            for i, text in enumerate(texts[:, position].tolist()):
                row[i] = np.nan if text is None or column.is_missing(text) else float(text == level)
        return rows


class _RowByRow:
    """The same features for a row or two, in Python's floats: arrays of one row cost as much as those of fifty."""

    def __init__(
        self, chosen: Sequence[Feature], schema: Schema, numeric: Sequence[Column], indicators: _Indicators,
        categories: _Categories,
    ) -> None:  # fmt: skip
        self._indicators, self._categories = indicators, categories
        expressions = [_expression(feature, schema) for feature in chosen]
        every = dict.fromkeys(node for one in expressions if one is not None for node in nodes(one))
        constants = [node for node in every if isinstance(node, Constant)]
        known: list[Expression] = [Source(column.name) for column in numeric]
        at = {one: place for place, one in enumerate([*known, *indicators.sources, *constants])}
        self._constants = [constant.value for constant in constants]
        self._steps: list[_Step] = []
        for level in calls_by_level(one for one in expressions if one is not None):
            for call in level:
                self._steps.append(_step(call, at))
                at[call] = len(at)
        codes = iter(range(len(at), len(at) + len(categories.targets)))
        self._wanted: _Chooser = itemgetter(*(next(codes) if one is None else at[one] for one in expressions), 0)

    def of(self, cleaned: _Rows, levels: NDArray[np.object_]) -> NDArray[np.float64]:
        """The features of all rows, one after the other."""
        indicated = self._indicators.of(levels).T.tolist() if self._indicators.sources else [[]] * len(levels)
        rows = zip(cleaned.T.tolist(), indicated, levels.tolist(), strict=True)
        # The last one only makes sure that itemgetter gives a tuple.
        return np.array([self._row(values + more, texts)[:-1] for values, more, texts in rows], dtype=np.float64)

    def _row(self, values: list[float], levels: list[str | None]) -> tuple[float, ...]:
        values += self._constants
        for operation, arguments, weights in self._steps:
            values.append(operation(arguments(values), weights))
        return self._wanted(values + self._categories.of_row(levels))


_Chooser = Callable[[Sequence[float]], tuple[float, ...]]
_Step = tuple[RowOperation, _Chooser, tuple[float, ...]]
"""An operation, what takes its arguments out of the values before it, and its weights."""


def _step(call: Call, at: Mapping[Expression, int]) -> _Step:
    weights = [one.value for one in call.arguments if isinstance(one, Constant)] if call.operation in WEIGHTED else []
    places = [at[one] for one in call.arguments if not (weights and isinstance(one, Constant))]
    arguments = itemgetter(*places) if len(places) > 1 else lambda values: (values[places[0]],)
    return row_operation(call.operation), arguments, tuple(weights)


def _expression(feature: Feature, schema: Schema) -> Expression | None:
    """What computes a feature; None for a category, which is coded."""
    if feature.expression is not None:
        return feature.expression
    return Source(feature.name) if schema[feature.name].numeric else None


def _grouped(
    calls: Sequence[Call], at: Mapping[Expression, int], first: Sequence[int]
) -> tuple[list[int], tuple[_Group, ...], list[Call]]:
    """The rows to gather after `first`, the groups that compute the calls from them, and the calls in their order."""
    members: dict[tuple[str, tuple[bool, ...]], list[Call]] = defaultdict(list)
    for call in calls:
        members[call.operation, tuple(isinstance(one, Constant) for one in call.arguments)].append(call)
    sources, groups, made = list(first), list[_Group](), list[Call]()
    for (operation, constant), alike in members.items():
        start, arity = len(sources), constant.count(False)
        for place, is_constant in enumerate(constant):
            if not is_constant:
                sources += [at[call.arguments[place]] for call in alike]
        numbers = [(place, _column(alike, place)) for place, is_constant in enumerate(constant) if is_constant]
        weighted = operation in WEIGHTED
        groups.append(
            _Group(
                operation,
                slice(start, len(sources)),
                (arity, len(alike), -1),
                np.array([one for _, one in numbers]) if weighted else _NO_WEIGHTS,
                () if weighted else tuple(numbers),
            )
        )
        made += alike
    return sources, tuple(groups), made


def _column(calls: Sequence[Call], place: int) -> Values:
    """The constants that some calls have in one place, shape (calls, 1)."""
    return np.array([[one.value] for call in calls if isinstance(one := call.arguments[place], Constant)])


_NO_WEIGHTS = np.empty((0, 1, 1))


class LevelCodes(dict[str | None, float]):
    """The codes of one category by level; any other level has the code of the unknown."""

    def __init__(self, column: Column, vocabulary: Sequence[str]) -> None:
        self.unknown = float(len(vocabulary))
        self._column = column
        self.update({level: float(code) for code, level in enumerate(vocabulary)})
        self.update(dict.fromkeys((None, *map(str, self._column.missing)), np.nan))

    def __missing__(self, level: str | None) -> float:
        return np.nan if level is None or self._column.is_missing(level) else self.unknown


class _Categories:
    """The raw categorical columns that are features, with their matrix columns (`targets`) and `largest` codes."""

    def __init__(self, chosen: Sequence[Feature], state: FeatureState) -> None:
        schema = state.portfolio.schema
        named = {i: feature.name for i, feature in enumerate(chosen) if _expression(feature, schema) is None}
        self.targets = tuple(named)
        self.codes = tuple(LevelCodes(schema[name], state.vocabularies[name]) for name in named.values())
        self.largest = np.array([codes.unknown for codes in self.codes])
        self._places = [schema.position[name] for name in named.values()]

    def of(self, columns: Columns) -> _Rows:
        coded = np.empty((len(self._places), len(columns)))
        for row, codes, place in zip(coded, self.codes, self._places, strict=True):
            levels, places = columns.distinct(place)
            row[:] = np.array([codes[level] for level in levels], dtype=np.float64).take(places)
        return coded

    def of_row(self, levels: Sequence[str | None]) -> list[float]:
        """The codes of one row."""
        return [codes[levels[column]] for codes, column in zip(self.codes, self._places, strict=True)]


class _Cleaner:
    """Turns the data's own codes for missing into NaN and clips to the learned bounds."""

    def __init__(self, numeric: Sequence[Column], clip: Mapping[str, tuple[float, float]]) -> None:
        bounds = [clip.get(column.name, (-np.inf, np.inf)) for column in numeric]
        self._low, self._high = np.array(bounds).reshape(-1, 2).T[:, :, np.newaxis].copy()
        self._coded = _coded(numeric)

    def __call__(self, numbers: _Rows) -> _Rows:
        # np.maximum passes NaN on; np.fmax would put the bound in its place.
        cleaned: _Rows = np.maximum(numbers, self._low)
        np.minimum(cleaned, self._high, out=cleaned)
        # The raw numbers are compared, since clipping has changed a code such as 365243.
        _erase(self._coded, numbers, cleaned)
        return cleaned


_Coded = list[tuple[NDArray[np.intp], Values]]
"""Numeric columns that have codes for missing, and one code of each, shape (columns, 1)."""


def _coded(numeric: Sequence[Column]) -> _Coded:
    """The codes by their place among a column's codes: a column with two is in both parts."""
    found, most = [], max((len(column.missing) for column in numeric), default=0)
    for place in range(most):
        coded = [(i, one.missing[place]) for i, one in enumerate(numeric) if len(one.missing) > place]
        rows, codes = zip(*coded, strict=True)
        found.append((np.array(rows, dtype=np.intp), np.array(codes, dtype=np.float64)[:, np.newaxis]))
    return found


def _erase(coded: _Coded, numbers: _Rows, found: _Rows) -> None:
    """Write NaN where the numbers are codes for missing."""
    for rows, codes in coded:
        where = numbers.take(rows, axis=0) == codes
        if np.count_nonzero(where):
            found[rows] = np.where(where, np.nan, found.take(rows, axis=0))


def missing_as_nan(columns: Columns) -> NDArray[np.float64]:
    """The raw numbers, shape (n, n_numeric), with the codes for missing turned into NaN."""
    known: _Rows = columns.numbers.T.copy()
    _erase(_coded(columns.schema.numeric), known, known)
    return known.T
