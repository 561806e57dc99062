"""Results of batches."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .answer import Answer
from .decision import Decision, decision_in
from .problem import Violation, violations_in


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """An application of a batch that was not scored; `index` is its position among those sent."""

    index: int
    errors: tuple[Violation, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchResult:
    """What became of each application of a batch, in the order in which they were sent."""

    request_id: str
    model_version: str
    results: tuple[Decision | Rejection, ...]


def batch_in(answer: Answer, size: int) -> BatchResult:
    """Read the result of a batch of `size` applications; UnexpectedAnswer if its rows do not line up with those."""
    version = answer.text("model_version")
    rows = answer.rows("results")
    if len(rows) != size:
        raise answer.unexpected("results", f"has {len(rows)} rows for {size} applications")
    results = tuple(_result(row, position, version) for position, row in enumerate(rows))
    return BatchResult(request_id=answer.request_id, model_version=version, results=results)


def _result(row: Answer, position: int, version: str) -> Decision | Rejection:
    if row.fields.get("status") != "rejected":
        return decision_in(replace(row, fields={"model_version": version, **row.fields}))
    if row.integer("index") != position:
        raise row.unexpected("index", "is not the position of its row")
    return Rejection(index=position, errors=violations_in(row.fields.get("errors")))
