"""Applications that the champion has decided, kept for a challenger in shadow."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import dataclass, fields
from multiprocessing.connection import Connection
from typing import Self

import numpy as np
from numpy.typing import NDArray

from decision_log.format import Caller
from features.transformer import Columns
from scoring.scorer import Scores
from scoring.store import StoredModel

_OUTSIDE = 3
"""Arrays of numbers, which pickle leaves to be sent as they are."""


@dataclass(frozen=True, slots=True, eq=False)
class OfferedRows:
    """Applications that the champion has decided; row i of every array is application i.

    Attributes
    ----------
    matrix : the champion's model matrix, for a challenger with the same features; otherwise of no columns
    numbers, levels : the raw columns, for a challenger with other features; otherwise of no columns
    caller : object, the Caller as a plain tuple, which is sent in a tenth of the time
    route : object, the path of the request
    probability, decision : the champion's
    reason : object, the code of the first reason of the champion's decline; None without one
    """

    matrix: NDArray[np.float64]
    numbers: NDArray[np.float64]
    levels: NDArray[np.object_]
    caller: NDArray[np.object_]
    route: NDArray[np.object_]
    probability: NDArray[np.float64]
    decision: NDArray[np.object_]
    reason: NDArray[np.object_]

    def __len__(self) -> int:
        return len(self.route)

    @classmethod
    def empty(cls, champion: StoredModel, room: int, *, same_features: bool) -> Self:
        """Room for so many."""
        # Allocated once: keeping the arrays of requests instead would scatter memory among them, which makes the next
        # requests slower.
        schema, features = champion.scorer.artefact.portfolio.schema, len(champion.scorer.features)
        numbers, levels = (0, 0) if same_features else (len(schema.numeric), len(schema.categorical))
        caller, route, decision, reason = (np.empty(room, dtype=object) for _ in range(4))
        return cls(
            np.empty((room, features if same_features else 0)), np.empty((room, numbers)),
            np.empty((room, levels), dtype=object), caller, route, np.empty(room), decision, reason,
        )  # fmt: skip

    def take(self, rows: slice) -> Self:
        """The chosen rows, not copied."""
        return type(self)(*(getattr(self, field.name)[rows] for field in fields(self)))

    def put(
        self, start: int, route: str, callers: Sequence[Caller], columns: Columns | None, matrix: NDArray[np.float64],
        scores: Scores,
    ) -> None:  # fmt: skip
        """Copy applications into the rows from `start` on; there must be room for them."""
        rows = slice(start, start + len(callers))
        if self.matrix.shape[1]:
            self.matrix[rows] = matrix
        elif columns is not None:
            self.numbers[rows], self.levels[rows] = columns.numbers, columns.levels
        self.route[rows] = route
        self.probability[rows], self.decision[rows] = scores.probability, scores.decision
        for row, (caller, reasons) in enumerate(zip(callers, scores.reasons.tolist(), strict=True), start):
            self.caller[row], self.reason[row] = tuple(caller), reasons[0].code if reasons else None

    def forget(self) -> None:
        """Let go of what belongs to applicants."""
        for field in fields(self):
            kept = getattr(self, field.name)
            kept[:] = None if kept.dtype == object else np.nan

    def send(self, connection: Connection) -> None:
        """Send the rows to another process."""
        outside: list[pickle.PickleBuffer] = []
        content = pickle.dumps(self, protocol=5, buffer_callback=outside.append)
        connection.send_bytes(content)
        for numbers in outside:
            connection.send_bytes(numbers.raw())

    @classmethod
    def receive(cls, connection: Connection) -> Self:
        """The rows that `send` sent; EOFError if there are none to come."""
        content = connection.recv_bytes()
        rows: Self = pickle.loads(content, buffers=[connection.recv_bytes() for _ in range(_OUTSIDE)])  # noqa: S301 - our own process
        return rows
