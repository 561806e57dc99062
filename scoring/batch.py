"""The batch job reads files of raw applications in chunks and writes Parquet files of decisions."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from features.errors import ColumnsError
from features.files import File, RowBatch, open_file
from features.portfolio import Portfolio
from features.request import LONGEST_CLIENT_ID
from features.transformer import FeatureTransformer
from features.validation import RuleViolation
from features.values import as_client_ids, as_whole_numbers
from jobs.output import staged
from scoring.errors import BatchError
from scoring.reasons import MOST_REASONS
from scoring.scorer import Scores
from scoring.store import StoredModel

if TYPE_CHECKING:
    import pyarrow as pa


CLIENT_ID = "client_id"
ROW = "row"
"""The column of decisions that numbers the rows, from 1, of applications without a name."""
_SUFFIXES = (".csv", ".parquet")

# Hidden files, lock files of office programs, and marks such as Spark's _SUCCESS.
_MARKS = (".", "~$", "_")

# Such a file may hold applications in a form that is not read: the job refuses it, since nobody would miss the rows.
_TABLES = frozenset({
    *_SUFFIXES, ".tsv", ".tab", ".psv", ".dat", ".xls", ".xlsx", ".xlsm", ".xlsb", ".ods", ".json", ".jsonl", ".ndjson",
    ".feather", ".arrow", ".orc", ".avro", ".sqlite", ".db", ".sas7bdat", ".dta", ".sav", ".rds", ".pkl", ".pickle",
    ".gz", ".bz2", ".xz", ".zst", ".zip", ".lz4", ".7z", ".tar", ".tgz",
})  # fmt: skip


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
    risk_level, score, missing, unknown, unknown_columns, withheld, reason_1 to reason_4 (the codes of the reasons of a
    decline), model_version, errors. A row that breaks a declared
    rule is `rejected`, with the rules in `errors`, and the others are scored. The summary names the files that were
    passed over. A job that fails leaves nothing behind.
    """
    from pyarrow import parquet

    # All headers are read before the first chunk: a wrong file must not stop a long job near its end.
    portfolio = model.scorer.artefact.portfolio
    read = _Source.of(source, portfolio)
    identifier = _Identifier.of(read.files, portfolio)
    tally = _Tally()
    with staged(output) as folder:
        for part, (file, batch) in enumerate(_batches(read.files, identifier, chunk_rows)):
            table = _decision_table(
                batch, _identifiers(file, batch, identifier, tally.rows), model, tally, identifier.name
            )
            # Padded numbers, so that sorting by name keeps the order of the rows.
            parquet.write_table(table, folder / f"part-{part:05}.parquet")
            progress(len(batch))
        # An applicant may be in two files, so that only the end can tell; the scratch folder then vanishes.
        _check_unique(tally.identifiers, source)
        summary = tally.summary(
            model, passed_over=read.passed_over, ignored_columns=_ignored_columns(read.files, portfolio)
        )
        (folder / "_summary.json").write_text(json.dumps(asdict(summary), indent=1) + "\n")
    return summary


@dataclass(frozen=True, slots=True)
class Summary:
    """The counts of a batch job.

    Attributes
    ----------
    withheld : scored rows that are referred because too little is known of them
    broken_rules : rows that break each rule, the most broken first
    unknown_levels : for each category of the model, the scored rows whose level the model does not know; legal,
        but many such rows are more often a misspelling than a new kind of applicant
    never_known : categories of which no row has a known level; they may be encoded as numbers
    never_stated : declared columns that are missing in every row
    ignored_columns : columns that are not declared
    passed_over : names in the folder that were not read
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


class _Tally:
    """The counts of the chunks so far."""

    def __init__(self) -> None:
        self.identifiers: list[pa.ChunkedArray[Any]] = []
        self.rows = self.rejected = self.withheld = 0
        self._rules: Counter[str] = Counter()
        self._unknown: Counter[str] = Counter()
        self._levels: Counter[str] = Counter()
        self._stated: set[str] = set()

    def add(self, batch: RowBatch, identifiers: pa.ChunkedArray[Any], rejected: int, scores: Scores) -> None:
        """Count one chunk."""
        self.identifiers.append(identifiers)
        self.rows += len(batch)
        self.rejected += rejected
        for violation in batch.violations:
            self._rules[f"{violation.column}: {violation.rule}"] += violation.count
        self.withheld += sum(map(bool, scores.withheld))
        self._unknown.update(name for names in scores.unknown for name in names)
        self._stated.update(batch.stated)

    def add_levels(self, transformer: FeatureTransformer, matrix: NDArray[np.float64]) -> None:
        """Count the levels, known or not, in the rows of one chunk that are scored."""
        held = np.count_nonzero(~np.isnan(matrix[:, list(transformer.categorical)]), axis=0).tolist()
        self._levels.update(
            {transformer.names[i]: count for i, count in zip(transformer.categorical, held, strict=True)}
        )

    def summary(
        self, model: StoredModel, *, passed_over: tuple[str, ...] = (), ignored_columns: tuple[str, ...] = ()
    ) -> Summary:
        """The summary of all chunks."""
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
            never_stated=tuple(
                column.name for column in model.scorer.transformer.schema if column.name not in self._stated
            ),
            ignored_columns=ignored_columns,
            passed_over=passed_over,
        )


@dataclass(frozen=True, slots=True)
class _Source:
    """The files that a job reads, and the names that it passes over in their folder."""

    files: tuple[File, ...]
    passed_over: tuple[str, ...] = ()

    @classmethod
    def of(cls, source: Path, portfolio: Portfolio) -> Self:
        """The file `source`, or every .csv and .parquet file in it.

        Marks of systems and office programs (.name, ~$name, _name) and files that are no tables are passed over.
        BatchError or FileError for a folder inside, or a table of another format: it may hold applications.
        """
        if not source.is_dir():
            return cls((open_file(source, portfolio),))
        names = sorted(path.name for path in source.iterdir())
        marks = [name for name in names if name.startswith(_MARKS)]
        held = [source / name for name in names if name not in marks]
        tables = [path for path in held if path.suffix.lower() in _SUFFIXES or _may_hold_applications(path)]
        if not tables:
            raise BatchError(f"{source}: no .csv or .parquet file in it")
        others = [path.name for path in held if path not in tables]
        return cls(tuple(open_file(path, portfolio) for path in tables), tuple(sorted([*marks, *others])))


def _may_hold_applications(path: Path) -> bool:
    return path.is_dir() or not _TABLES.isdisjoint(suffix.lower() for suffix in path.suffixes)


@dataclass(frozen=True, slots=True)
class _Identifier:
    """What names the applicants: a column of all files, as whole numbers or as text, or the number of the row."""

    name: str
    whole: bool
    in_files: bool = True

    @classmethod
    def of(cls, files: Sequence[File], portfolio: Portfolio) -> Self:
        """The column that identifies the applicants in every file; BatchError if the files share none."""
        identity = portfolio.declared.identity
        names = [CLIENT_ID] if identity is None else [identity.column, CLIENT_ID]
        for name in names:
            if all(name in file.header for file in files):
                return cls(name, identity is not None and name == identity.column and identity.kind == "whole")
        nameless = next((file for file in files if not {*names} & {*file.header}), None)
        if nameless is None:
            raise BatchError(f"some files name the applicants by {' and others by '.join(names)}")
        if identity is None:
            if any(CLIENT_ID in file.header for file in files):
                raise BatchError(f"{nameless.path}: has no {CLIENT_ID}, as other files have")
            return cls(ROW, whole=True, in_files=False)
        raise BatchError(f"{nameless.path}: neither {' nor '.join(names)} names the applicants")


def _batches(files: Sequence[File], identifier: _Identifier, chunk_rows: int) -> Iterator[tuple[File, RowBatch]]:
    for file in files:
        for batch in file.batches(chunk_rows, others=[identifier.name] if identifier.in_files else []):
            yield file, batch


def _identifiers(file: File, batch: RowBatch, identifier: _Identifier, before: int) -> pa.ChunkedArray[Any]:
    """The identifiers of the rows, null where one is missing; row numbers count on from the rows `before`."""
    import pyarrow as pa

    name = identifier.name
    if not identifier.in_files:
        return pa.chunked_array([pa.array(np.arange(before + 1, before + 1 + len(batch)))])
    values = batch.others[name]
    if identifier.whole:
        numbers, missing, wrong = as_whole_numbers(values)
        read, rule = pa.chunked_array([pa.array(numbers, mask=missing)]), "must be a whole number"
    else:
        read, wrong = as_client_ids(values)
        rule = f"must be a text of 1 to {LONGEST_CLIENT_ID} characters, or a whole number"
    if wrong.any():
        violation = RuleViolation(name, rule, np.flatnonzero(wrong)).shifted(batch.first_row)
        raise ColumnsError(f"{file.path}: {violation}")
    return read


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


def _ignored_columns(files: Sequence[File], portfolio: Portfolio) -> tuple[str, ...]:
    """Columns of the files that are neither declared, nor an identifier, nor the outcome."""
    known = {*portfolio.schema.beside, CLIENT_ID}
    return tuple(sorted({name for file in files for name in file.undeclared} - known))


def _decision_table(
    batch: RowBatch, identifiers: pa.ChunkedArray[Any], model: StoredModel, tally: _Tally, identifier: str
) -> pa.Table:
    import pyarrow as pa

    broken = _violations_by_row(batch)
    sound = np.ones(len(batch), dtype=np.bool_)
    sound[list(broken)] = False
    matrix = model.scorer.transformer.transform(batch.columns.take(sound))
    scores = model.scorer.score_matrix(matrix)
    tally.add(batch, identifiers, len(broken), scores)
    tally.add_levels(model.scorer.transformer, matrix)
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


def _violations_by_row(batch: RowBatch) -> dict[int, list[RuleViolation]]:
    """The violations of each row that breaks a rule, by its position."""
    broken: dict[int, list[RuleViolation]] = {}
    for violation in batch.violations:
        for row in violation.rows.tolist():
            broken.setdefault(row, []).append(violation)
    return broken


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
        "unknown_columns": spread(_concatenated(scores.unknown), pa.string()),
        "withheld": spread(_concatenated(scores.withheld), pa.string()),
        **{f"reason_{i + 1}": spread(_code(scores.reasons, i), pa.string()) for i in range(MOST_REASONS)},
    }


def _code(reasons: NDArray[np.object_], place: int) -> NDArray[np.object_]:
    """The code of the reason at a place, None where there are fewer."""
    return np.array([row[place].code if len(row) > place else None for row in reasons], dtype=object)


def _concatenated(texts: NDArray[np.object_]) -> NDArray[np.object_]:
    """Tuples of text as one text each, None where there is none."""
    return np.array(["; ".join(row) or None for row in texts], dtype=object)
