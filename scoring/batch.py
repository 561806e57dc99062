"""The batch job: files of raw applications in, Parquet files of decisions out, in chunks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from features import APPLICATION, Batch, ColumnsError, File, Violation, open_file

from .errors import OutputError
from .scorer import Scores
from .staging import staged
from .stored import StoredModel
from .summary import Summary, Tally

if TYPE_CHECKING:
    import pyarrow as pa

CLIENT_ID = "client_id"
_SUFFIXES = (".csv", ".parquet")


def score_files(
    source: Path,
    output: Path,
    model: StoredModel,
    *,
    chunk_rows: int = 50_000,
    progress: Callable[[int], object] = lambda _: None,
) -> Summary:
    """Score the file `source`, or every file in it, into the new folder `output`.

    One `part-NNNNN.parquet` per chunk, the rows in their order: identifier, status, probability, prediction, decision,
    risk_level, score, missing, unknown, unknown_columns, withheld, model_version, errors. A row that breaks a declared
    rule is `rejected`, with the rules in `errors`, and the others are scored. Nothing is left behind if the job fails.
    """
    from pyarrow import parquet

    files = _files(source)
    identifier = _identifier(files)
    tally = Tally()
    with staged(output) as folder:
        for part, batch in enumerate(_batches(files, identifier, chunk_rows)):
            table = _decided(batch, identifier, model, tally)
            parquet.write_table(table, folder / f"part-{part:05}.parquet")
            progress(len(batch))
        _check_unique(tally.identifiers, source)
        summary = tally.summary(model)
        (folder / "_summary.json").write_text(json.dumps(asdict(summary), indent=1) + "\n")
    return summary


def _files(source: Path) -> list[File]:
    if not source.is_dir():
        return [open_file(source)]
    paths = sorted(path for path in source.iterdir() if path.suffix in _SUFFIXES)
    if not paths:
        raise OutputError(f"{source}: no .csv or .parquet file in it")
    return [open_file(path) for path in paths]


def _identifier(files: Sequence[File]) -> str:
    """The column that names the applicants in every file."""
    for name in (APPLICATION.id_column, CLIENT_ID):
        if all(name in file.header for file in files):
            return name
    nameless = next((file for file in files if not {APPLICATION.id_column, CLIENT_ID} & {*file.header}), None)
    if nameless is None:
        raise OutputError(f"some files name the applicants by {APPLICATION.id_column} and others by {CLIENT_ID}")
    raise OutputError(f"{nameless.path}: neither {APPLICATION.id_column} nor {CLIENT_ID} names the applicants")


def _batches(files: Sequence[File], identifier: str, chunk_rows: int) -> Iterator[Batch]:
    for file in files:
        yield from file.batches(chunk_rows, others=[identifier])


def _identifiers(batch: Batch, name: str) -> pa.ChunkedArray[Any]:
    """The names of the applicants: whole numbers as SK_ID_CURR, text as client_id."""
    import pyarrow as pa
    from pyarrow import types

    values = batch.others[name]
    number = name == APPLICATION.id_column
    plain = types.is_integer, types.is_floating, types.is_string, types.is_large_string, types.is_null
    try:
        if any(is_kind(values.type) for is_kind in plain):
            return values.cast(pa.int64() if number else pa.string())
    except pa.ArrowInvalid:
        pass
    raise ColumnsError(f"{name}: must be a {'whole number' if number else 'text'}")


def _check_unique(seen: Sequence[pa.ChunkedArray[Any]], source: Path) -> None:
    import pyarrow as pa
    import pyarrow.compute as pc

    if not seen:
        raise ColumnsError(f"{source}: has no rows")
    identifiers = pa.chunked_array([chunk for column in seen for chunk in column.chunks], seen[0].type)
    missing, distinct = identifiers.null_count, pc.count_distinct(identifiers).as_py()
    if missing or distinct < len(identifiers):
        raise ColumnsError(
            f"{source}: identifiers must be present and unique: {missing} missing, "
            f"{len(identifiers) - missing - distinct} repeated"
        )


def _broken(batch: Batch) -> dict[int, list[Violation]]:
    """The violations of each row that breaks a rule."""
    broken: dict[int, list[Violation]] = {}
    for violation in batch.violations:
        for row in violation.rows.tolist():
            broken.setdefault(row, []).append(violation)
    return broken


def _decided(batch: Batch, identifier: str, model: StoredModel, tally: Tally) -> pa.Table:
    import pyarrow as pa

    identifiers = _identifiers(batch, identifier)

    broken = _broken(batch)
    sound = np.ones(len(batch), dtype=np.bool_)
    sound[list(broken)] = False
    matrix = model.scorer.transformer.transform(batch.columns.take(sound))
    scores = model.scorer.score_matrix(matrix)
    tally.add(batch, identifiers, len(broken), scores)
    rules = [
        "; ".join(f"{v.column}: {v.rule}" for v in broken[row]) if row in broken else None for row in range(len(batch))
    ]
    return pa.table(
        {
            identifier: identifiers,
            "status": pa.array(["scored" if row else "rejected" for row in sound]),
            **_columns(scores, sound),
            "model_version": pa.array([model.version] * len(batch)),
            "errors": pa.array(rules, pa.string()),
        }
    )


def _listed(texts: NDArray[np.object_]) -> NDArray[np.object_]:
    """Tuples of text as one text each, None where there is none."""
    return np.array(["; ".join(row) or None for row in texts], dtype=object)


def _columns(scores: Scores, sound: NDArray[np.bool_]) -> dict[str, pa.Array[Any]]:
    """The scores in the rows that were scored, null in the others."""
    import pyarrow as pa

    def spread(values: NDArray[Any], kind: pa.DataType) -> pa.Array[Any]:
        full = np.zeros(len(sound), dtype=values.dtype)
        full[sound] = values
        return pa.array(full, kind, mask=~sound)

    return {
        "probability": spread(scores.probability, pa.float64()),
        "prediction": spread(scores.prediction, pa.int64()),
        "decision": spread(scores.decision, pa.string()),
        "risk_level": spread(scores.risk_level, pa.string()),
        "score": spread(scores.points, pa.int64()),
        "missing": spread(scores.missing, pa.int64()),
        "unknown": spread(np.fromiter(map(len, scores.unknown), np.int64, len(scores)), pa.int64()),
        "unknown_columns": spread(_listed(scores.unknown), pa.string()),
        "withheld": spread(_listed(scores.withheld), pa.string()),
    }
