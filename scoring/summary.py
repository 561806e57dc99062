"""What a batch job did, and the counting of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from features import Batch

from .scorer import Scores
from .stored import StoredModel

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Summary:
    """What a batch job did.

    `withheld` counts the scored rows that are referred because too little is known of them. `broken_rules` counts the
    rows that break each rule, the most broken first. `unknown_levels` counts, for each category of the model, the
    scored rows whose level the model does not know: legal, but many such rows are more often a misspelling than a new
    kind of applicant.
    """

    model: str
    version: str
    digest: str
    rows: int
    rejected: int
    withheld: int
    broken_rules: Mapping[str, int]
    unknown_levels: Mapping[str, int]


class Tally:
    """What is counted from chunk to chunk."""

    def __init__(self) -> None:
        self.identifiers: list[pa.ChunkedArray[Any]] = []
        self.rows = self.rejected = self.withheld = 0
        self._rules: Counter[str] = Counter()
        self._unknown: Counter[str] = Counter()

    def add(self, batch: Batch, identifiers: pa.ChunkedArray[Any], rejected: int, scores: Scores) -> None:
        """Count one chunk."""
        self.identifiers.append(identifiers)
        self.rows += len(batch)
        self.rejected += rejected
        for violation in batch.violations:
            self._rules[f"{violation.column}: {violation.rule}"] += violation.count
        self.withheld += sum(map(bool, scores.withheld))
        self._unknown.update(name for names in scores.unknown for name in names)

    def summary(self, model: StoredModel) -> Summary:
        """The sums."""
        return Summary(
            model=model.name,
            version=model.version,
            digest=model.scorer.artefact.digest,
            rows=self.rows,
            rejected=self.rejected,
            withheld=self.withheld,
            broken_rules=dict(self._rules.most_common()),
            unknown_levels=dict(sorted(self._unknown.items())),
        )
