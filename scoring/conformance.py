"""Conformance rows: drawn applications, and everything that the code which trained a model made of them, to the bit.

They travel in the artefact. Whoever loads it computes them again, so that a model is never served by code that computes
something else than what was evaluated. The rows are drawn from the declaration and the drift reference: nobody's data.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from features import APPLICATION, Column, Columns, FeatureState

from .errors import ConformanceError
from .reference import DriftReference

if TYPE_CHECKING:
    from .scorer import Scorer

_ROWS = 128
_SEED = 20_180_517
_WIDEST = 1e6
"""How far a column without bounds is drawn."""
_PD_TOLERANCE = 1e-12
"""NumPy's exp differs in the last bits between processors; every other operation is exact everywhere (IEEE 754)."""
_UNKNOWN_LEVEL = "a level that nobody declared"


@dataclass(frozen=True, slots=True)
class Conformance:
    """Drawn applications and what was made of them; plain tuples, since they are compared and written as JSON.

    Attributes
    ----------
    numbers, levels : the raw columns of each row, as in `Columns`; None is missing
    features : SHA-256 of each feature's float64 values in all rows
    margin, probability, decision, risk_level, points, missing : one of each for every row, as in `Scores`
    """

    numbers: tuple[tuple[float | None, ...], ...] = ()
    levels: tuple[tuple[str | None, ...], ...] = ()
    features: tuple[tuple[str, str], ...] = ()
    margin: tuple[float, ...] = ()
    probability: tuple[float, ...] = ()
    decision: tuple[str, ...] = ()
    risk_level: tuple[str, ...] = ()
    points: tuple[int, ...] = ()
    missing: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.numbers)

    @classmethod
    def of(cls, columns: Columns, scorer: Scorer) -> Self:
        """What a scorer makes of raw applications."""
        matrix = scorer.transformer.transform(columns)
        scores = scorer.score_matrix(matrix)
        return cls(
            numbers=tuple(tuple(None if math.isnan(x) else x for x in row) for row in columns.numbers.tolist()),
            levels=tuple(map(tuple, columns.levels.tolist())),
            features=tuple((name, _sha256(matrix[:, i])) for i, name in enumerate(scorer.features)),
            margin=tuple(scores.margin.tolist()),
            probability=tuple(scores.probability.tolist()),
            decision=tuple(map(str, scores.decision)),
            risk_level=tuple(map(str, scores.risk_level)),
            points=tuple(scores.points.tolist()),
            missing=tuple(scores.missing.tolist()),
        )

    def check(self, scorer: Scorer) -> None:
        """ConformanceError, naming what differs first, unless the scorer makes the same of the rows."""
        found = Conformance.of(self._columns(), scorer)
        differing = [
            name for (name, kept), (_, made) in zip(self.features, found.features, strict=True) if kept != made
        ]
        if differing:
            raise ConformanceError(f"this code computes another {differing[0]} than the code that trained the model")
        for part in ("margin", "decision", "risk_level", "points", "missing"):
            if getattr(self, part) != getattr(found, part):
                raise ConformanceError(f"this code gives another {part} than the code that trained the model")
        if not np.allclose(found.probability, self.probability, rtol=_PD_TOLERANCE, atol=0.0):
            raise ConformanceError("this code gives another probability than the code that trained the model")

    def _columns(self) -> Columns:
        numbers = np.array(self.numbers, dtype=np.float64)  # None becomes NaN
        levels = np.empty((len(self), len(APPLICATION.categorical)), dtype=object)
        for row, values in enumerate(self.levels):
            levels[row] = values
        return Columns(numbers.reshape(len(self), len(APPLICATION.numeric)), levels)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form; `from_dict` is its inverse."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The rows that `to_dict` wrote."""
        nested = {name: tuple(map(tuple, values[name])) for name in ("numbers", "levels", "features")}
        return cls(**{name: tuple(column) for name, column in values.items()} | nested)


def draw_applications(state: FeatureState, reference: DriftReference) -> Columns:
    """Applications that meet the edges of what is declared: every code for missing, bounds, zeros, unknown levels.

    A number that is a feature itself is drawn from the bins of the drift reference, so that the trees part the rows.
    The first row is empty, and the second lacks nothing.
    """
    generator = np.random.default_rng(_SEED)
    numbers = np.column_stack([_numbers(column, reference, generator) for column in APPLICATION.numeric])
    levels = np.empty((_ROWS, len(APPLICATION.categorical)), dtype=object)
    for i, column in enumerate(APPLICATION.categorical):
        levels[:, i] = _levels(column, state.vocabularies.get(column.name, column.levels), generator)
    return Columns(numbers, levels)


def _numbers(column: Column, reference: DriftReference, generator: np.random.Generator) -> NDArray[np.float64]:
    low, high = max(column.low, -_WIDEST), min(column.high, _WIDEST)
    bins = reference.features.get(column.name)
    edges = np.clip(bins.edges if bins and len(bins.edges) > 1 else (low, high), column.low, column.high)
    place = generator.integers(0, len(edges) - 1, _ROWS)
    values = generator.uniform(edges[place], edges[place + 1])
    special = [
        np.nan,
        np.nan,
        *(float(code) for code in column.missing),
        low,
        high,
        *([0.0] if low <= 0 <= high else []),
    ]
    chosen = generator.choice(np.array(special), _ROWS)
    values = np.where(generator.random(_ROWS) < 0.3, chosen, np.rint(values) if column.whole else values)
    values[:2] = np.nan, np.rint(edges[0]) if column.whole else edges[0]
    return np.asarray(values, dtype=np.float64)


def _levels(column: Column, known: Sequence[str], generator: np.random.Generator) -> list[str | None]:
    special = [None, _UNKNOWN_LEVEL, *map(str, column.missing)]
    legal = list(dict.fromkeys([*known, *column.levels])) or [_UNKNOWN_LEVEL]
    rare = generator.random(_ROWS) < 0.2
    places = generator.integers(0, 1 << 30, _ROWS).tolist()
    drawn = [special[i % len(special)] if odd else legal[i % len(legal)] for i, odd in zip(places, rare, strict=True)]
    return [None, legal[0], *drawn[2:]]


def _sha256(values: NDArray[np.float64]) -> str:
    canonical = np.where(np.isnan(values), np.nan, values) + 0.0  # one bit pattern for NaN, and one for zero
    return hashlib.sha256(canonical.astype("<f8").tobytes()).hexdigest()
