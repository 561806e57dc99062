"""Fits the feature state on a training fold: vocabularies, clip bounds, and the features that stay."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from features.errors import SchemaError
from features.portfolio import Feature, Portfolio
from features.schema import Column, ColumnKind
from features.transformer import Columns, FeatureState, FeatureTransformer
from jobs.settings import Settings


class Clipping(Settings):
    """Quantiles of the training fold at which amounts, measures and counts are clipped."""

    lower: float = Field(ge=0, lt=0.5)
    upper: float = Field(gt=0.5, le=1)


class Filters(Settings):
    """Optional filters, fitted in the fold; null switches one off."""

    constant: float | None = Field(gt=0, le=1)
    """Drop a feature whose most frequent value (missing included) has at least this share of the rows."""
    correlation: float | None = Field(gt=0, le=1)
    """Drop the later of two features whose absolute correlation exceeds this."""
    importance: float | None = Field(ge=0, le=1)
    """Drop a feature whose share of the total gain of a first model is at most this."""


class FeatureSettings(Settings):
    """Settings of the features that a training chooses and fits."""

    sets: tuple[str, ...] | Literal["all"]
    """Sets of features of the portfolio."""
    without: tuple[str, ...] | Literal["all"]
    """Protected attributes that no feature may read."""
    left_out: tuple[str, ...] = ()
    """Further columns that no feature may read."""
    category_min_count: int = Field(ge=1)
    """Levels rarer than this in the fold become the unknown category."""
    clip: Clipping | None
    filters: Filters

    def sets_of(self, portfolio: Portfolio) -> tuple[str, ...]:
        """The chosen sets of features; SchemaError if the portfolio has no set of a name, or none is chosen."""
        return _chosen(self.sets, portfolio.sets, "features.sets", at_least=1)

    def without_of(self, portfolio: Portfolio) -> tuple[str, ...]:
        """The protected attributes that are left out; SchemaError if no column states one of them."""
        return _chosen(self.without, portfolio.schema.attributes, "features.without")

    def select(self, portfolio: Portfolio) -> tuple[Feature, ...]:
        """The features that a model may get; SchemaError if the portfolio lacks a name, or if none is left."""
        _chosen(self.left_out, tuple(column.name for column in portfolio.schema), "features.left_out")
        chosen = portfolio.select(self.sets_of(portfolio), self.without_of(portfolio), self.left_out)
        if self.left_out and not chosen:
            raise SchemaError("features.left_out: must leave a feature")
        return chosen


def _chosen(stated: Sequence[str] | str, known: tuple[str, ...], name: str, *, at_least: int = 0) -> tuple[str, ...]:
    if isinstance(stated, str):
        return known
    unknown = sorted(set(stated) - set(known))
    if unknown or len(stated) < at_least:
        raise SchemaError(f"{name}: must be of {', '.join(known) or 'nothing'}, not {', '.join(unknown) or 'empty'}")
    return tuple(stated)


def constant(matrix: NDArray[np.float64], share: float) -> NDArray[np.bool_]:
    """True for the columns whose most frequent value, missing included, has at least `share` of the rows.

    >>> constant(np.array([[1.0, np.nan], [1.0, np.nan], [2.0, np.nan]]), 0.99)
    array([False,  True])
    """
    return np.array([_mode_share(column) >= share for column in matrix.T])


def _mode_share(values: NDArray[np.float64]) -> float:
    _, counts = np.unique(values, return_counts=True, equal_nan=True)
    return float(counts.max() / len(values))


def correlated(
    matrix: NDArray[np.float64],
    threshold: float,
    *,
    among: NDArray[np.bool_],
    categorical: tuple[int, ...] = (),
) -> NDArray[np.bool_]:
    """True for the columns whose absolute Pearson correlation with an earlier, kept column exceeds `threshold`.

    Only the columns in `among` that hold numbers are compared; missing values stand at the mean of their column.
    """
    compared = among.copy()
    compared[list(categorical)] = False  # codes have no order
    compared &= ~np.isnan(matrix).all(axis=0)
    numbers = matrix[:, compared]
    # A missing value at the mean adds nothing to a covariance.
    centred = np.nan_to_num(numbers - np.nanmean(numbers, axis=0), nan=0.0)
    norm = np.sqrt((centred**2).sum(axis=0))
    scaled = np.divide(centred, norm, out=np.zeros_like(centred), where=norm > 0)
    close = np.abs(scaled.T @ scaled) > threshold
    dropped = np.zeros(len(close), dtype=np.bool_)
    for i in range(len(close)):
        dropped[i] = bool(np.any(close[i, :i] & ~dropped[:i]))
    result = np.zeros(matrix.shape[1], dtype=np.bool_)
    result[np.flatnonzero(compared)] = dropped
    return result


Importance = Callable[[NDArray[np.float64], tuple[int, ...]], NDArray[np.float64]]
"""From a model matrix and its categorical columns to one non-negative importance per feature."""


def fit_features(columns: Columns, settings: FeatureSettings, *, importance: Importance) -> FeatureState:
    """The state fitted on `columns`, which must hold nothing but the training fold.

    `importance` fits a first model on the fold; it is asked for only when the importance filter is on.
    """
    counts = (Counter(levels.tolist()) for levels in columns.levels.T)
    candidates = _candidates(columns.portfolio, settings, counts, columns.numbers.T)
    return _of_names(candidates, _filtered(FeatureTransformer(candidates), columns, settings, importance))


class ColumnStore(Protocol):
    """The raw columns of more applications than memory holds, which are read one by one."""

    portfolio: Portfolio

    def number(self, position: int) -> NDArray[np.float64]:
        """One numeric column, shape (n,)."""

    def level_counts(self, position: int) -> Counter[str | None]:
        """How many rows have each level of one category."""

    def transformed(self, transformer: FeatureTransformer) -> AbstractContextManager[MatrixColumns]:
        """The model matrix, as long as the context lasts."""


class MatrixColumns(Protocol):
    """A model matrix of more rows than memory holds."""

    def features(self) -> Iterator[NDArray[np.float64]]:
        """The columns in their order, each of shape (n,)."""


def fit_stored_features(columns: ColumnStore, settings: FeatureSettings) -> FeatureState:
    """The state that `fit_features` fits on the same rows, fitted column by column.

    SchemaError for the filters that need the whole matrix at once.
    """
    filters, schema = settings.filters, columns.portfolio.schema
    if filters.correlation is not None or filters.importance is not None:
        raise SchemaError("features.filters: correlation and importance need the whole matrix in memory: set them null")
    counts = (columns.level_counts(i) for i in range(len(schema.categorical)))
    numbers = (columns.number(i) for i in range(len(schema.numeric)))
    candidates = _candidates(columns.portfolio, settings, counts, numbers)
    if filters.constant is None:
        return _of_names(candidates, candidates.names)
    with columns.transformed(FeatureTransformer(candidates)) as matrix:
        kept = [_mode_share(values) < filters.constant for values in matrix.features()]
    return _of_names(candidates, tuple(itertools.compress(candidates.names, kept)))


def _candidates(
    portfolio: Portfolio,
    settings: FeatureSettings,
    counts: Iterable[Counter[str | None]],
    numbers: Iterable[NDArray[np.float64]],
) -> FeatureState:
    """The state before any filter, from the counts of each category's levels and from each numeric column."""
    schema = portfolio.schema
    chosen = settings.select(portfolio)
    return FeatureState(
        names=tuple(feature.name for feature in chosen),
        vocabularies={
            column.name: _vocabulary(counted, column, settings.category_min_count)
            for column, counted in zip(schema.categorical, counts, strict=True)
        },
        clip=_clip_bounds(schema.numeric, numbers, settings.clip),
        portfolio=portfolio,
    )


def _of_names(candidates: FeatureState, names: tuple[str, ...]) -> FeatureState:
    used = {name: levels for name, levels in candidates.vocabularies.items() if name in names}
    return FeatureState(names=names, vocabularies=used, clip=candidates.clip, portfolio=candidates.portfolio)


def _vocabulary(found: Counter[str | None], column: Column, min_count: int) -> tuple[str, ...]:
    counts = {level: count for level, count in found.items() if level is not None and not column.is_missing(level)}
    frequent = [level for level, count in counts.items() if count >= min_count]
    commonest = sorted(frequent, key=lambda level: (-counts[level], level))[: column.most_levels]
    # Sorted, so that the codes do not depend on the order of the rows.
    return tuple(sorted(commonest))


def _clip_bounds(
    columns: Sequence[Column], numbers: Iterable[NDArray[np.float64]], clip: Clipping | None
) -> dict[str, tuple[float, float]]:
    bounds: dict[str, tuple[float, float]] = {}
    # Flags are not clipped: both quantiles of a rare flag are 0, which would make it a constant.
    for column, values in zip(columns, numbers, strict=True):
        if clip is None or column.kind in (ColumnKind.FLAG, ColumnKind.DATE):
            continue
        known = np.where(np.isin(values, np.array(column.missing, dtype=np.float64)), np.nan, values)
        if not np.isnan(known).all():
            bounds[column.name] = _quantiles(known, clip)
    return bounds


def _quantiles(values: NDArray[np.float64], clip: Clipping) -> tuple[float, float]:
    low, high = np.nanquantile(values, [clip.lower, clip.upper])
    return float(low), float(high)


def _filtered(
    transformer: FeatureTransformer, columns: Columns, settings: FeatureSettings, importance: Importance
) -> tuple[str, ...]:
    filters = settings.filters
    matrix = transformer.transform(columns)
    kept = np.ones(len(transformer.names), dtype=np.bool_)
    if filters.constant is not None:
        kept &= ~constant(matrix, filters.constant)
    if filters.correlation is not None:
        kept &= ~correlated(matrix, filters.correlation, among=kept, categorical=transformer.categorical)
    # The last filter, since it fits a model. LightGBM cannot split on a column of NaN alone.
    if filters.importance is not None:
        gain = np.where(kept, importance(np.where(kept, matrix, np.nan), transformer.categorical), 0.0)
        kept &= gain > filters.importance * gain.sum()
    return tuple(name for name, keep in zip(transformer.names, kept, strict=True) if keep)
