"""What a batch job did, and the counting of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from features import APPLICATION, Batch, FeatureTransformer

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
    kind of applicant. `never_known` are those of which no level is known at all: they may be encoded as numbers.
    `never_stated` are declared columns that are missing in every row, `ignored_columns` those that are not declared,
    and `passed_over` what was not read in the folder.
    """

    model: str
    version: str
    digest: str
    rows: int
    rejected: int
    withheld: int
    broken_rules: Mapping[str, int]
    unknown_levels: Mapping[str, int]
    never_known: tuple[str, ...] = ()
    never_stated: tuple[str, ...] = ()
    ignored_columns: tuple[str, ...] = ()
    passed_over: tuple[str, ...] = ()


class Tally:
    """What is counted from chunk to chunk."""

    def __init__(self) -> None:
        self.identifiers: list[pa.ChunkedArray[Any]] = []
        self.rows = self.rejected = self.withheld = 0
        self._rules: Counter[str] = Counter()
        self._unknown: Counter[str] = Counter()
        self._levels: Counter[str] = Counter()
        self._stated: set[str] = set()

    def add(self, batch: Batch, identifiers: pa.ChunkedArray[Any], rejected: int, scores: Scores) -> None:
        """Count one chunk."""
        self.identifiers.append(identifiers)
        self.rows += len(batch)
        self.rejected += rejected
        for violation in batch.violations:
            self._rules[f"{violation.column}: {violation.rule}"] += violation.count
        self.withheld += sum(map(bool, scores.withheld))
        self._unknown.update(name for names in scores.unknown for name in names)
        self._stated.update(_stated(batch))

    def add_levels(self, transformer: FeatureTransformer, matrix: NDArray[np.float64]) -> None:
        """Count the levels, known or not, in the rows of one chunk that are scored."""
        held = np.count_nonzero(~np.isnan(matrix[:, list(transformer.categorical)]), axis=0).tolist()
        self._levels.update(
            {transformer.names[i]: count for i, count in zip(transformer.categorical, held, strict=True)}
        )

    def summary(
        self, model: StoredModel, *, passed_over: tuple[str, ...] = (), ignored_columns: tuple[str, ...] = ()
    ) -> Summary:
        """The sums."""
        unknown = dict(sorted(self._unknown.items()))
        return Summary(
            model=model.name,
            version=model.version,
            digest=model.scorer.artefact.digest,
            rows=self.rows,
            rejected=self.rejected,
            withheld=self.withheld,
            broken_rules=dict(self._rules.most_common()),
            unknown_levels=unknown,
            never_known=tuple(name for name, count in unknown.items() if count == self._levels[name]),
            never_stated=tuple(column.name for column in APPLICATION if column.name not in self._stated),
            ignored_columns=ignored_columns,
            passed_over=passed_over,
        )


def _stated(batch: Batch) -> Iterator[str]:
    """The columns that a row of the batch states, be it wrongly."""
    yield from (violation.column for violation in batch.violations)
    stated = np.flatnonzero((~np.isnan(batch.columns.numbers)).any(axis=0))
    yield from (APPLICATION.numeric[i].name for i in stated.tolist())
    for i, column in enumerate(APPLICATION.categorical):
        if any(level is not None for level in batch.columns.levels[:, i]):
            yield column.name
