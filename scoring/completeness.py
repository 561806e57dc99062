"""What is known of an application, and whether that is enough to approve it.

Told by the model matrix alone, so that a feature vector, a file and a replayed record are judged as a request is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features import APPLICATION, CATALOGUE, FeatureTransformer

from .errors import ArtefactError

Matrix = NDArray[np.float64]

_SOURCES = {feature.name: frozenset(feature.sources) for feature in CATALOGUE}
_COUNTS = frozenset(
    feature.name
    for feature in CATALOGUE
    if feature.operation is not None and feature.operation.__name__ in ("missing", "missing_count")
)
"""Features that are never missing themselves."""
_ROUNDING = 1e-9


@dataclass(frozen=True)
class CompletenessRule:
    """What must be known of an application that is approved; one that falls short is referred to a person.

    Attributes
    ----------
    known : raw columns that must be known; those that the model does not read are passed over
    max_missing_share : most of the model's gain that may rest on what is missing or unknown, 0 to 1
    """

    known: tuple[str, ...]
    max_missing_share: float

    def __post_init__(self) -> None:
        undeclared = [name for name in self.known if name not in APPLICATION]
        if undeclared or len(set(self.known)) != len(self.known):
            raise ArtefactError(f"columns that are not declared, or named twice: {', '.join(undeclared or self.known)}")
        if not 0 <= self.max_missing_share <= 1:
            raise ArtefactError("a completeness rule needs a share of the gain between 0 and 1")


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """What is known of n applications; every array has shape (n,).

    Attributes
    ----------
    missing : int64, how many of the model's input columns are missing
    unknown : object, a tuple of the columns whose level the model does not know
    short : object, a tuple of the reasons why an approval must be withheld; empty where none must be
    """

    missing: NDArray[np.int64]
    unknown: NDArray[np.object_]
    short: NDArray[np.object_]


class Completeness:
    """Judges rows of the model matrix. Without a rule every row is complete enough.

    A column is missing where its own feature is NaN or, if the model has only features derived from it, where all of
    these are.
    """

    def __init__(
        self, transformer: FeatureTransformer, importance: Mapping[str, float], rule: CompletenessRule | None
    ) -> None:
        names = transformer.names
        read = _inputs(names)
        own, derived = [name for name in read if name in names], [name for name in read if name not in names]
        self.inputs = (*own, *derived)
        """The raw columns that the model reads; those that are features themselves come first."""
        self._names = names
        self._unknown = np.full(len(names), np.nan)  # equal to nothing where the feature is no category
        self._unknown[list(transformer.categorical)] = transformer.largest_codes
        self._own = np.array([names.index(name) for name in own], dtype=np.intp)
        of_features = [[name in _SOURCES[feature] for name in derived] for feature in names]
        members = np.array(of_features, dtype=np.bool_).reshape(len(names), len(derived))
        members[[i for i, name in enumerate(names) if name in _COUNTS]] = False
        self._sources = np.flatnonzero(members.any(axis=1))
        self._members = members[self._sources].astype(np.float64)
        self._all_members = self._members.sum(axis=0)
        shares = column_shares(importance, self.inputs)
        self._shares = np.array([shares[name] for name in self.inputs])
        self._importance = np.array([importance[name] for name in names])
        self._rule = rule
        self._must = [name for name in ([] if rule is None else rule.known) if name in self.inputs]
        self._must_at = np.array([self.inputs.index(name) for name in self._must], dtype=np.intp)

    def of(self, matrix: Matrix) -> Known:
        """What is known of the rows of a model matrix, shape (n, features)."""
        lacking, strange = np.isnan(matrix), matrix == self._unknown
        columns = self._of_columns(lacking)
        missing, unknown = columns.sum(axis=1), _nothing(len(matrix))
        rows = strange.any(axis=1).nonzero()[0].tolist()
        if rows:
            for row in rows:
                unknown[row] = tuple(self._names[i] for i in strange[row].nonzero()[0].tolist())
            lacking |= strange
            columns = self._of_columns(lacking)
        short = _nothing(len(matrix)) if self._rule is None else self._short(lacking, columns, self._rule)
        return Known(missing, unknown, short)

    def _of_columns(self, features: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """From features to columns, shape (n, inputs)."""
        own = features.take(self._own, axis=1)
        if not len(self._sources):
            return own
        lacking = features.take(self._sources, axis=1).astype(np.float64) @ self._members
        return np.concatenate([own, lacking == self._all_members], axis=1)

    def _short(
        self, features: NDArray[np.bool_], columns: NDArray[np.bool_], rule: CompletenessRule
    ) -> NDArray[np.object_]:
        """Why rows fall short, from where they lack features and columns."""
        short = _nothing(len(features))
        share = np.maximum(columns @ self._shares, features @ self._importance)
        beyond = share > rule.max_missing_share + _ROUNDING
        needed = columns.take(self._must_at, axis=1)
        for row in (beyond | needed.any(axis=1)).nonzero()[0].tolist():
            reasons = [f"{name} must be known" for name, lacks in zip(self._must, needed[row], strict=True) if lacks]
            short[row] = (*reasons, *([_too_much(rule.max_missing_share)] if beyond[row] else ()))
        return short


def _too_much(limit: float) -> str:
    return f"more than {100 * limit:.12g} % of the model's gain rests on what is missing or unknown"


def column_shares(importance: Mapping[str, float], columns: Sequence[str]) -> dict[str, float]:
    """Share of the model's gain that rests on each column, features derived from it included.

    The sources of a feature have equal parts of its importance, as far as they are among the columns. The shares add
    up to what the importance does.

    >>> column_shares({"AMT_CREDIT": 0.5, "credit_to_income": 0.5}, ["AMT_CREDIT", "AMT_INCOME_TOTAL"])
    {'AMT_CREDIT': 0.75, 'AMT_INCOME_TOTAL': 0.25}
    """
    shares = dict.fromkeys(columns, 0.0)
    for feature, share in importance.items():
        sources = [name for name in columns if name in _SOURCES[feature]]
        for name in sources:
            shares[name] += share / len(sources)
    return shares


def _inputs(features: Sequence[str]) -> tuple[str, ...]:
    read = {source for name in features if name not in _COUNTS for source in _SOURCES[name]}
    return tuple(column.name for column in APPLICATION if column.name in read)


def _nothing(rows: int) -> NDArray[np.object_]:
    empty = np.empty(rows, dtype=object)
    empty.fill(())
    return empty
