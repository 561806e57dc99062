"""Runs of rows that belong together, such as the months of a credit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .columns import Integers


@dataclass(frozen=True, slots=True)
class Runs:
    """Rows of several owners one after the other.

    `lengths` has one entry per owner; `owner` (whose row it is) and `step` (0, 1, ... within the owner) one per row.
    """

    lengths: Integers
    owner: Integers
    step: Integers


def runs(lengths: Integers) -> Runs:
    """Rows for owners with the given numbers of rows.

    >>> runs(np.array([2, 0, 1])).owner.tolist(), runs(np.array([2, 0, 1])).step.tolist()
    ([0, 0, 2], [0, 1, 0])
    """
    owner = np.repeat(np.arange(len(lengths)), lengths)
    first = np.cumsum(lengths) - lengths
    return Runs(lengths, owner, np.arange(len(owner)) - first[owner])
