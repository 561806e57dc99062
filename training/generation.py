"""Generated data: a portfolio may name a Python module that writes files of applications where `run` gets none.

Other applications are drawn like a labelled file: the distribution of each column, joined by a Gaussian copula. They
come from quantiles of numbers, shares of values and rank correlations, and never from a row. Whoever has many of them
can estimate these figures. That is less than the file, and no guarantee of anonymity.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import blake2b
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Protocol, Self, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import csv, parquet
from scipy.special import ndtr, ndtri
from scipy.stats import rankdata

from features.drawing import UNKNOWN_LEVEL, keep_orders
from features.portfolio import Portfolio
from features.schema import Column, ColumnKind
from features.transformer import Columns, missing_as_nan
from features.validation import find_violations
from training.dataset import TRUE_PD, Dataset, level_violations, raise_if_any
from training.errors import DataError

FileFormat = Literal["csv", "parquet"]
Tables = Literal["all", "applications"]


class Generator(Protocol):
    """What the module offers that a portfolio's `generator` names."""

    def synthesize(
        self,
        output: Path,
        *,
        clients: int,
        seed: int,
        file_format: FileFormat = "csv",
        tables: Tables = "all",
        progress: Callable[[int], object] | None = None,
    ) -> None:
        """Write the portfolio's files of `clients` applications into the folder `output`, or nothing at all.

        `progress` is called with the number of clients finished since the last call. The table `true_pd`, which marks
        the data as generated, is always written.
        """
        ...

    def total_clients(self, clients: int) -> int:
        """Clients of all files together, those of later applications included."""
        ...


def generator_of(portfolio: Portfolio) -> Generator:
    """The generator of a portfolio; DataError if it names none, or one that cannot be imported."""
    name = portfolio.declared.generator
    if name is None:
        raise DataError(f"the portfolio {portfolio.name} has no generator: give --data")
    try:
        return cast("Generator", import_module(name))
    except ImportError as error:
        raise DataError(f"the generator {name} of the portfolio {portfolio.name} cannot be imported: {error}") from None


class LabelledWriter:
    """Writes drawn applications as a portfolio declares its labelled file, and the table that marks them."""

    def __init__(self, folder: Path, portfolio: Portfolio, file_format: FileFormat, files: ExitStack) -> None:
        self._folder, self._portfolio, self._format, self._files = folder, portfolio, file_format, files
        self._open: dict[str, Any] = {}
        self._rows = 0

    def write(self, columns: Columns, target: NDArray[np.int64], pd: NDArray[np.float64]) -> None:
        """Append applications with their outcomes and PDs; identifiers are counted from 1 on."""
        declared, first = self._portfolio.declared, self._rows + 1
        ids: dict[str, pa.Array] = {}
        if declared.identity is not None:
            kind = pa.string() if declared.identity.kind == "text" else pa.int64()
            ids = {declared.identity.column: pa.array(range(first, first + len(columns))).cast(kind)}
        outcomes = np.where(target == 1, declared.outcome.bad[0], declared.outcome.good[0])
        stated = {column.name: _stored(columns, column) for column in columns.schema.stated}
        self._append(declared.files.train, ids | {declared.outcome.column: pa.array(outcomes, pa.string())} | stated)
        self._append(TRUE_PD, ids | {"TRUE_PD": pa.array(pd)})
        self._rows += len(columns)

    def _append(self, name: str, columns: dict[str, pa.Array]) -> None:
        table = pa.table({name: self._shown(values) for name, values in columns.items()})
        if name not in self._open:
            self._open[name] = self._files.enter_context(self._file(f"{name}.{self._format}", table.schema))
        self._open[name].write_table(table)

    def _file(self, name: str, schema: pa.Schema) -> csv.CSVWriter | parquet.ParquetWriter:
        if self._format == "parquet":
            return parquet.ParquetWriter(self._folder / name, schema)
        options = csv.WriteOptions(delimiter=self._portfolio.declared.files.separator)
        return csv.CSVWriter(self._folder / name, schema, write_options=options)

    def _shown(self, values: pa.Array) -> pa.Array:
        mark = self._portfolio.declared.files.decimal
        if self._format == "parquet" or mark == "." or not pa.types.is_floating(values.type):
            return values
        return pc.replace_substring(values.cast(pa.string()), ".", mark)


def _stored(columns: Columns, column: Column) -> pa.Array:
    """One column for a file: whole numbers and dates as such, missing values as null."""
    place = columns.schema.position[column.name]
    if not column.numeric:
        return pa.array(columns.levels[:, place].tolist(), pa.string())
    values = pa.array(columns.numbers[:, place] + 0.0, from_pandas=True)  # -0.0 would be written as -0
    if column.kind is ColumnKind.DATE:
        return values.cast(pa.int32()).cast(pa.date32())
    whole = column.whole and all(float(code).is_integer() for code in column.missing)
    return values.cast(pa.int64()) if whole else values


SMALLEST_GROUP = 20
"""Rows that state a value, at least, before its share is given away; between two quantiles lie as many."""
FEWEST_ROWS = 100
STATED = 3
"""Numbers that a row states, at least, for its equality with another one to say anything."""
SEGMENTS = 50
"""Most parts between quantiles of a number."""

_TRIMMED = 0.005
"""The share of a number's rows beyond its first and its last quantile."""
_FEWEST_KNOWN = 4 * SMALLEST_GROUP
"""A number with fewer values is missing in every drawn row, unless they are common."""
_MOST_VALUES = 100
_COMMON_SHARE = 0.95
"""A number whose values are nearly all common has shares of values, as flags and small counts have."""
_STRONGEST = 0.99
"""Columns that are more strongly correlated are drawn with this correlation."""
_NOISE = 2.0
"""How many sampling variances a squared correlation loses."""
_RIDGE = 0.1
_BATCH = 20_000
_SMALLEST_EIGENVALUE = 1e-3

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """Some values and the share of each, in the order in which the copula ranks them; `rows` of the file state each."""

    values: NDArray[Any]
    rows: NDArray[np.int64]

    @property
    def edges(self) -> Floats:
        """Shares up to each value, shape (values,); the last is 1."""
        return np.asarray(np.cumsum(self.rows) / self.rows.sum())

    def draw(self, uniform: Floats) -> NDArray[Any]:
        """The value at each rank in (0, 1)."""
        return np.asarray(self.values[np.searchsorted(self.edges[:-1], uniform, side="right")])

    def scores(self) -> Floats:
        """The mean of a standard normal latent within each value."""
        density = np.exp(-(ndtri(self.edges[:-1]) ** 2) / 2) / np.sqrt(2 * np.pi)
        return np.asarray(-np.diff(density, prepend=0.0, append=0.0) * self.rows.sum() / self.rows)


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """Quantiles of a number at evenly spaced ranks, rounded to `decimals`; values between two are drawn evenly."""

    values: Floats
    decimals: int
    codes: tuple[float, ...]

    @classmethod
    def of(cls, known: Floats, column: Column) -> Self:
        """The curve of the values that are known, shape (m,)."""
        ranks = np.linspace(0, 1, min(len(known) // SMALLEST_GROUP, SEGMENTS) + 1)
        # The ends are quantiles too: a lowest or highest value would be that of one applicant.
        trimmed = max(_TRIMMED, SMALLEST_GROUP / len(known))
        exact = np.quantile(known, np.clip(ranks, trimmed, 1 - trimmed), method="inverted_cdf")
        span = float(exact[-1] - exact[0]) or abs(float(exact[0])) or 1.0
        decimals = 2 - int(np.floor(np.log10(span)))
        decimals = min(decimals, 0) if column.whole else decimals
        codes = tuple(float(code) for code in column.missing)
        low, high = (np.ceil(column.low), np.floor(column.high)) if column.whole else (column.low, column.high)
        rounded = np.clip(np.round(exact, decimals), low, high)
        return cls(np.where(np.isin(rounded, codes), exact, rounded), decimals, codes)

    def draw(self, uniform: Floats) -> Floats:
        """The value at each rank in (0, 1)."""
        ranks = np.linspace(0, 1, len(self.values))
        values = np.round(np.interp(uniform, ranks, self.values), self.decimals)
        values = np.clip(values, self.values[0], self.values[-1])
        return np.where(np.isin(values, self.codes), self.values[len(self.values) // 2], values)


Part = Steps | Curve
"""What takes one latent of the copula."""


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """Drawn applications.

    Attributes
    ----------
    columns : the raw columns of the n applications
    target : int64, shape (n,); 1 is default
    pd : float64, shape (n,); the probability of default given all latents of the row, from which its outcome was drawn
    """

    columns: Columns
    target: NDArray[np.int64]
    pd: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Likeness:
    """What is drawn from.

    Attributes
    ----------
    dataset : the labelled file, with which drawn rows can be compared
    numbers : for each numeric column its values, and the shares of known, missing and each code
    levels : for each category the shares of its levels
    factor : Cholesky factor of the latents' correlations: values of numbers, their states, levels, and the outcome
    rate : the share of defaults
    """

    dataset: Dataset
    numbers: tuple[tuple[Part, Steps], ...]
    levels: tuple[Steps, ...]
    factor: Floats
    rate: float

    @classmethod
    def of(cls, dataset: Dataset) -> Self:
        """The likeness of labelled applications; DataError if they are too few."""
        if len(dataset) < FEWEST_ROWS or np.bincount(dataset.target, minlength=2).min() < SMALLEST_GROUP:
            needed = f"at least {FEWEST_ROWS} rows, and {SMALLEST_GROUP} of either outcome"
            raise DataError(f"{dataset.source}: too few rows for a likeness, which needs {needed}")
        columns, schema = dataset.columns, dataset.columns.schema
        values = [_values(columns.numbers[:, i], column) for i, column in enumerate(schema.numeric)]
        states = [_states(columns.numbers[:, i], column, dataset) for i, column in enumerate(schema.numeric)]
        levels = [_levels(columns.levels[:, i], column, dataset) for i, column in enumerate(schema.categorical)]
        outcome = _steps(dataset.target, np.array([0, 1]), dataset)
        scores = np.column_stack([scores for _, scores in (*values, *states, *levels, outcome)])
        return cls(
            dataset=dataset,
            numbers=tuple((value, state) for (value, _), (state, _) in zip(values, states, strict=True)),
            levels=tuple(steps for steps, _ in levels),
            factor=np.asarray(np.linalg.cholesky(_calmed(positive_definite(correlations(scores)))), dtype=np.float64),
            rate=float(dataset.target.mean()),
        )

    @property
    def smallest_group(self) -> int:
        """The fewest rows behind any share that is given away."""
        steps = [*self.levels, *(part for parts in self.numbers for part in parts if isinstance(part, Steps))]
        return min((int(one.rows.min()) for one in steps), default=len(self.dataset))

    def batches(self, rows: int, seed: int) -> Iterator[Drawn]:
        """So many drawn applications in parts; the same seed gives the same ones."""
        generator = np.random.default_rng(seed)
        for first in range(0, rows, _BATCH):
            yield self.draw(min(_BATCH, rows - first), generator)

    def draw(self, rows: int, generator: np.random.Generator) -> Drawn:
        """Drawn applications that break no rule; DataError if the declaration leaves no way to that."""
        noise = generator.standard_normal((rows, len(self.factor)))
        latent = ndtr(noise[:, :-1] @ self.factor[:-1, :-1].T)
        # The outcome is the last latent, so that given all others its mean is known and its own noise is left.
        mean, left = noise[:, :-1] @ self.factor[-1, :-1], self.factor[-1, -1]
        probability = np.round(ndtr((mean - ndtri(1 - self.rate)) / left), 6)
        columns = self._columns(latent)
        keep_orders(columns)
        raise_if_any("the likeness", [*find_violations(columns), *level_violations(columns)])
        return Drawn(columns, (ndtr(-noise[:, -1]) < probability).astype(np.int64), probability)

    def _columns(self, latent: Floats) -> Columns:
        width = len(self.numbers)
        numbers, levels = np.empty((len(latent), width)), np.empty((len(latent), len(self.levels)), dtype=object)
        for i, (value, state) in enumerate(self.numbers):
            stated = state.draw(latent[:, width + i])
            numbers[:, i] = np.where(np.isinf(stated), value.draw(latent[:, i]), stated)
        for i, steps in enumerate(self.levels):
            levels[:, i] = steps.draw(latent[:, 2 * width + i])
        return Columns(numbers, levels, self.dataset.portfolio)


def _values(values: Floats, column: Column) -> tuple[Part, Floats]:
    """The distribution of the values that are known, and the normal score of each row, NaN where none is known."""
    known = ~np.isnan(values) & ~np.isin(values, column.missing)
    scores = np.full(len(values), np.nan)
    distinct, places, rows = np.unique(values[known], return_inverse=True, return_counts=True)
    common = rows >= SMALLEST_GROUP
    if 0 < common.sum() <= _MOST_VALUES and rows[common].sum() >= _COMMON_SHARE * known.sum():
        steps, by_value = Steps(distinct[common], rows[common]), np.full(len(distinct), np.nan)
        by_value[common] = steps.scores()
        scores[known] = by_value[places]
        return steps, scores
    if known.sum() < _FEWEST_KNOWN:
        return Steps(np.array([np.nan]), np.array([len(values)])), scores
    scores[known] = ndtri((rankdata(values[known]) - 0.5) / known.sum())
    return Curve.of(values[known], column), scores


def _states(values: Floats, column: Column, dataset: Dataset) -> tuple[Steps, Floats]:
    """The shares of known (infinite), missing and each code that enough rows hold, and the score of each row."""
    states = np.array([np.inf, np.nan, *map(float, column.missing)])
    places = np.where(np.isnan(values), 1, 0)
    for place, code in enumerate(states[2:], start=2):
        places[values == code] = place
    return _steps(places, states, dataset, otherwise=np.nan)


def _levels(levels: NDArray[np.object_], column: Column, dataset: Dataset) -> tuple[Steps, Floats]:
    """The shares of levels; those of too few rows are pooled as one that nobody declared."""
    rows = Counter(levels.tolist())
    rare = {
        level for level, count in rows.items()
        if count < SMALLEST_GROUP and level is not None and not column.is_missing(level)
    }  # fmt: skip
    pooled = [UNKNOWN_LEVEL if level in rare else level for level in levels.tolist()]
    names = sorted(set(pooled), key=lambda level: (level is not None, level or ""))
    place = {level: i for i, level in enumerate(names)}
    places = np.array([place[level] for level in pooled], dtype=np.intp)
    return _steps(places, np.array(names, dtype=object), dataset, otherwise=UNKNOWN_LEVEL)


def _steps(
    places: NDArray[np.intp], values: NDArray[Any], dataset: Dataset, *, otherwise: object = None
) -> tuple[Steps, Floats]:
    """The shares of values that enough rows hold, by rising default rate, and the score of each row."""
    rows = np.bincount(places, minlength=len(values))
    rate = np.bincount(places, weights=dataset.target, minlength=len(values)) / np.maximum(rows, 1)
    order = np.argsort(rate, kind="stable")
    order = order[rows[order] >= SMALLEST_GROUP]
    if not len(order):
        nothing = np.array([otherwise], dtype=values.dtype)
        return Steps(nothing, np.array([len(places)])), np.full(len(places), np.nan)
    steps, scores = Steps(values[order], rows[order]), np.full(len(values), np.nan)
    scores[order] = steps.scores()
    return steps, scores[places]


def correlations(scores: Floats) -> Floats:
    """Correlations of the latents behind scores of shape (n, d), NaN where a row has none; shape (d, d)."""
    there, filled = (~np.isnan(scores)).astype(np.float64), np.nan_to_num(scores)
    rows = there.T @ there
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = filled.T @ there / rows
        spread = np.sqrt(np.maximum((filled**2).T @ there / rows - mean**2, 0.0))
        # Scores of few values vary less than their latents, and hide as much of the latents' correlation.
        deviation = np.diag(spread)
        shown = deviation * deviation[:, None]
        found = (filled.T @ filled / rows - mean * mean.T) / (spread * spread.T * shown)
        # James and Stein's shrinkage: among 200 latents most correlations are noise, and together they add up.
        found *= np.maximum(0.0, 1 - _NOISE / (rows * (shown * found) ** 2))
    found = np.clip(np.where(np.isfinite(found), found, 0.0), -_STRONGEST, _STRONGEST)
    np.fill_diagonal(found, 1.0)
    return np.asarray((found + found.T) / 2, dtype=np.float64)


def positive_definite(matrix: Floats, *, rounds: int = 50) -> Floats:
    """A correlation matrix near `matrix`: projected by turns onto both conditions, then shrunk towards none."""
    for _ in range(rounds):
        values, vectors = np.linalg.eigh(matrix)
        if values[0] >= _SMALLEST_EIGENVALUE:
            return matrix
        matrix = (vectors * np.maximum(values, 2 * _SMALLEST_EIGENVALUE)) @ vectors.T
        np.fill_diagonal(matrix, 1.0)
    smallest = np.linalg.eigvalsh(matrix)[0]
    shrunk = max(0.0, (_SMALLEST_EIGENVALUE - smallest) / (1 - smallest))
    return np.asarray((1 - shrunk) * matrix + shrunk * np.eye(len(matrix)))


def _calmed(matrix: Floats) -> Floats:
    """The matrix with the correlations that a ridge regression of the last latent on the others explains."""
    # Without it, differences of columns that are nearly one column would explain most of the outcome.
    calmed, others = matrix.copy(), matrix[:-1, :-1]
    weights = np.linalg.solve(others + _RIDGE * np.eye(len(others)), matrix[:-1, -1])
    calmed[:-1, -1] = calmed[-1, :-1] = others @ weights
    return calmed


def row_digests(columns: Columns) -> Iterator[bytes]:
    """A digest of all raw columns of each row in which three numbers or more are stated."""
    numbers = np.where(np.isnan(columns.numbers), np.nan, columns.numbers + 0.0)  # one form of NaN and of zero
    enough = (~np.isnan(missing_as_nan(columns))).sum(axis=1) >= STATED
    for row, levels in zip(numbers[enough], columns.levels[enough].tolist(), strict=True):
        yield blake2b(row.tobytes() + repr(levels).encode(), digest_size=16).digest()
