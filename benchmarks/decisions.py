"""Generated decisions in closed segments of a decision log, with their outcomes: what monitoring is measured with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from decision_log.closed_segments import closed_table, write_segment
from decision_log.format import CHAMPION, ClientHash, Header
from features.files import open_file
from features.transformer import concatenate
from scoring.scorer import Scorer, Scores
from scoring.store import Statement, StoredModel

if TYPE_CHECKING:
    import pyarrow as pa

OUTCOMES = "outcomes.parquet"
_SEGMENT = 1 << 17
_START = np.datetime64("2026-01-01", "us")
_YEAR = 365 * 24 * 3600 * 1_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """Scored applications that decisions are drawn from."""

    scorer: Scorer
    matrix: NDArray[np.float64]
    scores: Scores

    @classmethod
    def of(cls, scorer: Scorer, applications: Path) -> Pool:
        """The applications of a file, scored."""
        columns = concatenate(
            [batch.columns for batch in open_file(applications, scorer.artefact.portfolio).batches(50_000)]
        )
        matrix = scorer.transformer.transform(columns)
        return cls(scorer, matrix, scorer.score_matrix(matrix))


def generate(
    directory: Path,
    pool: Pool,
    *,
    rows: int,
    client_hash: ClientHash,
    seed: int,
) -> None:
    """Write a decision log of `rows` decisions over a year, and in it a file of outcomes, drawn by their PDs."""
    import pyarrow as pa
    from pyarrow import parquet

    random = np.random.default_rng(seed)
    for folder in ("open", "closed"):
        (directory / folder).mkdir(parents=True)
    fields = pa.schema([("client_id", pa.string()), ("outcome", pa.int8())])
    with parquet.ParquetWriter(directory / OUTCOMES, fields) as writer:
        for number, first in enumerate(range(0, rows, _SEGMENT)):
            count = min(_SEGMENT, rows - first)
            clients = [f"{first + i}" for i in range(count)]
            chosen = random.integers(len(pool.matrix), size=count)
            table = _table(pool, chosen, clients, client_hash, first / rows)
            write_segment(table, directory / "closed" / f"20260101T000000000000Z-generated-1-{number}.parquet")
            outcome = (random.random(count) < pool.scores.probability[chosen]).astype(np.int8)
            writer.write_table(pa.table([clients, outcome], schema=fields))


def stored_as(scorer: Scorer) -> StoredModel:
    """The model under the tag that decisions are generated with."""
    return StoredModel("generated", Statement("generated", "1", scorer.artefact.digest, None).label, scorer)


def _table(pool: Pool, chosen: NDArray[np.int64], clients: list[str], client_hash: ClientHash, at: float) -> pa.Table:
    scores, count = pool.scores, len(chosen)
    header = Header.of(stored_as(pool.scorer))
    salt = ClientHash(b"salts, which are the same in every run")
    time = _START + (int(at * _YEAR) + np.arange(count) * 1_000).astype("timedelta64[us]")
    return closed_table(
        header,
        {
            "salt": [salt.digest(client) for client in clients],
            "request_id": clients,
            "index": np.zeros(count, dtype=np.int32),
            "time": time,
            "route": ["/predict"] * count,
            "model": [header.model] * count,
            "model_version": [header.model_version] * count,
            "digest": [header.digest] * count,
            "variant": [CHAMPION] * count,
            "policy": [header.policy] * count,
            "explained_by": [header.explained_by] * count,
            "client": [client_hash.digest(client) for client in clients],
            "margin": scores.margin[chosen],
            "probability": scores.probability[chosen],
            "prediction": scores.prediction[chosen],
            "decision": scores.decision[chosen],
            "risk_level": scores.risk_level[chosen],
            "missing": scores.missing[chosen],
            "unknown": [len(names) for names in scores.unknown[chosen]],
            "withheld": scores.withheld[chosen].astype(np.bool_),
            "explored": [None] * count,
            "history": [None] * count,
            "reasons": [" ".join(reason.code for reason in one) for one in scores.reasons[chosen]],
            "line": [None] * count,
        },
        pool.matrix[chosen],
    )
