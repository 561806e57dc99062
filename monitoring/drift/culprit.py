"""Culprits: the columns behind the features that have drifted, and what the columns carry of the model's gain.

A derived feature drifts because one of the columns it is made of does. It is charged to the source that has moved most
among those that have moved significantly, if any has; otherwise, like a raw column, to itself.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features import CATALOGUE

from .shift import Level, Shift

_SOURCES = {feature.name: feature.sources for feature in CATALOGUE}


@dataclass(frozen=True, slots=True)
class Culprit:
    """A column, the drifting features that are charged to it, and their materiality x importance, added up."""

    name: str
    features: tuple[str, ...]
    weight: float


def carried_importance(importance: Mapping[str, float]) -> NDArray[np.float64]:
    """What each feature carries of the model's gain: its own share, and of each feature derived from it an equal part.

    The sources of a derived feature share its importance as far as they are features themselves.
    """
    carried = dict(importance)
    for name, share in importance.items():
        sources = {source for source in _SOURCES.get(name, ()) if source in importance} - {name}
        for source in sources:
            carried[source] += share / len(sources)
    return np.array([*carried.values()])


def rank_culprits(shifts: Sequence[Shift]) -> tuple[Culprit, ...]:
    """The columns to look at, the heaviest first; of equal weight the one with the larger PSI."""
    by_name = {shift.name: shift for shift in shifts}
    charged: defaultdict[str, list[Shift]] = defaultdict(list)
    for shift in shifts:
        if shift.level > Level.STABLE:
            charged[_root(shift, by_name)].append(shift)
    culprits = [
        Culprit(name, tuple(shift.name for shift in group), sum(shift.excess * shift.importance for shift in group))
        for name, group in charged.items()
    ]
    return tuple(sorted(culprits, key=lambda culprit: (-culprit.weight, -by_name[culprit.name].excess)))


def _root(shift: Shift, by_name: Mapping[str, Shift]) -> str:
    sources = [by_name[name] for name in _SOURCES.get(shift.name, ()) if name in by_name and name != shift.name]
    moved = [source for source in sources if source.significant]
    return max(moved, key=lambda source: source.excess).name if moved else shift.name
