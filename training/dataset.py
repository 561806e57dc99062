"""Training reads labelled applications in Kaggle's Home Credit layout, validates them and looks for leaks."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from features.files import File, RowBatch, open_file
from features.portfolio import OutcomeDeclaration, Portfolio
from features.schema import Column, ColumnKind
from features.transformer import Columns, concatenate
from features.validation import RuleViolation, merge_violations
from features.values import as_client_ids, as_numbers, as_texts, as_whole_numbers
from monitoring.measures import Estimate, auc_estimate
from training.errors import DataError
from training.settings import LeakageSettings, OutOfTimeSettings

Target = NDArray[np.int64]
Ids = NDArray[np.int64] | NDArray[np.object_]
"""Identifiers, shape (n,): whole numbers, or text; row numbers, from 1, of applications without an identifier."""
GENERATED = "generated: "
TRUE_PD = "true_pd"
"""The table of a generator's folder that holds the PDs from which outcomes were drawn; real data have none."""


def is_generated(source: str) -> bool:
    """Tell whether a data set's source says that the generator drew it."""
    return source.startswith(GENERATED)


_ROWS_PER_BATCH = 50_000
_SUFFIXES = (".csv", ".parquet")


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """A data set holds labelled applications.

    Attributes
    ----------
    ids : unique, shape (n,); see `Ids`
    columns : the raw columns of the n applications
    target : int64, shape (n,); 1 is default
    fingerprint : SHA-256, hexadecimal: of the bytes of the file, or of the matured rows where others were left out
    source : name of the file
    dates : days of the applications, datetime64[D], shape (n,); None where no date column was asked for
    warnings : what is legal but worth knowing, one line each
    """

    ids: Ids
    columns: Columns
    target: NDArray[np.int64]
    fingerprint: str
    source: str
    warnings: tuple[str, ...] = ()
    dates: NDArray[np.datetime64] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def portfolio(self) -> Portfolio:
        """What declares the columns."""
        return self.columns.portfolio

    def take(self, rows: NDArray[np.intp]) -> Dataset:
        """Return the chosen rows, in the order given; fingerprint and source stay those of the whole file."""
        return replace(
            self,
            ids=self.ids[rows],
            columns=self.columns.take(rows),
            target=self.target[rows],
            dates=None if self.dates is None else self.dates[rows],
        )


def load_dataset(data: Path, portfolio: Portfolio, *, dates: str | None = None) -> Dataset:
    """Read and validate a portfolio's labelled applications; none may be in the file of later ones too.

    `data` is the folder with both files, or the labelled file itself. `dates` names the column that holds the day of
    each application; None reads no days.

    DataError lists every violation; FileError and ColumnsError say why a file cannot be read at all.
    """
    dataset, violations = read_dataset(data, portfolio, dates=dates)
    raise_if_any(dataset.source, violations)
    return dataset


def read_dataset(data: Path, portfolio: Portfolio, *, dates: str | None = None) -> tuple[Dataset, list[RuleViolation]]:
    """Read a portfolio's labelled applications, and find every violation; see `load_dataset`.

    Where the data break a rule, an outcome that is none is -1, and a value that cannot be read is missing.
    """
    schema, outcome = portfolio.schema, portfolio.declared.outcome
    file = open_file(find_applications(data, portfolio), portfolio)
    batches = list(file.batches(_ROWS_PER_BATCH, others=schema.beside))
    if not batches:
        raise DataError(f"{file.path}: has no rows")
    columns = concatenate([batch.columns for batch in batches])
    ids, unnamed = read_identifiers(batches, portfolio)
    target = np.concatenate([outcomes(batch.others[schema.target_column], outcome) for batch in batches])
    violations = [
        *identifier_violations(ids, unnamed, portfolio),
        *target_violations(target, outcome),
        *overlap_violations(ids, later_ids(data, portfolio), portfolio),
        *merge_violations(list(_violations(batches))),
        *level_violations(columns),
    ]
    dataset = Dataset(
        ids=ids,
        columns=columns,
        target=np.where(np.isnan(target), -1, target).astype(np.int64),
        fingerprint=_sha256(file.path),
        source=file.path.name,
        warnings=tuple(
            column_warnings(
                constant_columns(columns),
                undeclared_levels(columns),
                [name for name in file.undeclared if name not in (dates, *schema.beside)],
            )
        ),
        dates=None if dates is None or violations else _dates(file, dates),
    )
    return dataset, violations


def find_applications(data: Path, portfolio: Portfolio) -> Path:
    """Find the file of labelled applications: `data` itself, or the portfolio's file in the folder `data`."""
    if not data.exists():
        raise DataError(f"{data}: no such file or folder")
    return data if data.is_file() else find_table(data, portfolio.declared.files.train)


def find_table(directory: Path, name: str) -> Path:
    """Find the CSV or Parquet file of a table; DataError if the folder is absent, or holds neither or both."""
    if not directory.is_dir():
        raise DataError(f"{directory}: {'is a file, not a folder' if directory.exists() else 'no such folder'}")
    found = _tables(directory, name)
    if len(found) == 1:
        return found[0]
    if found:
        raise DataError(f"{directory}: both {name}.csv and .parquet")
    near = sorted(path.name for path in directory.iterdir() if path.name.lower().startswith(f"{name}."))
    other = f"; it holds {', '.join(near)}" if near else ""
    raise DataError(f"{directory}: neither {name}.csv nor .parquet{other}")


def _tables(directory: Path, name: str) -> list[Path]:
    """The files of the table `name`, whatever the case of their suffix."""
    return sorted(path for path in directory.iterdir() if path.stem == name and path.suffix.lower() in _SUFFIXES)


def read_identifiers(
    batches: Sequence[RowBatch], portfolio: Portfolio, *, first: int = 1
) -> tuple[Ids, NDArray[np.bool_]]:
    """Return the identifiers, and a mask of those that are missing or of the wrong kind.

    Where the portfolio has none they are row numbers from `first` on.
    """
    identity = portfolio.declared.identity
    if identity is None:
        rows = sum(map(len, batches))
        return np.arange(first, first + rows), np.zeros(rows, dtype=np.bool_)
    return _read_identifiers([batch.others[identity.column] for batch in batches], whole=identity.kind == "whole")


def _read_identifiers(chunks: Sequence[pa.ChunkedArray[Any]], *, whole: bool) -> tuple[Ids, NDArray[np.bool_]]:
    if whole:
        read = [as_whole_numbers(chunk) for chunk in chunks]
        ids = np.concatenate([numbers for numbers, _, _ in read])
        return ids, np.concatenate([missing | wrong for _, missing, wrong in read])
    texts = [np.array(as_client_ids(chunk)[0].to_pylist(), dtype=object) for chunk in chunks]
    named = np.concatenate(texts)
    unnamed = np.array([name is None for name in named], dtype=np.bool_)
    return np.where(unnamed, "", named), unnamed


def outcomes(values: pa.ChunkedArray[Any], outcome: OutcomeDeclaration) -> NDArray[np.float64]:
    """Outcomes as the portfolio declares them: 1 where a value is bad, 0 where it is good, NaN for any other value."""
    meaning: dict[str | None, float] = {**dict.fromkeys(outcome.good, 0.0), **dict.fromkeys(outcome.bad, 1.0)}
    # 1, 1.0 and true are one value, however the file has it stored.
    for text, value in (("true", "1"), ("false", "0")):
        if text not in meaning and value in meaning:
            meaning[text] = meaning[value]
    texts, _ = as_texts(values)
    found = {text: meaning.get(_usual(text), np.nan) for text in set(texts.to_pylist())}
    return np.array([found[text] for text in texts.to_pylist()], dtype=np.float64)


def _usual(text: str | None) -> str | None:
    stated = (text or "").strip()
    if stated.casefold() in ("true", "false"):
        return stated.casefold()
    whole, _, fraction = stated.partition(".")
    return whole if fraction.strip("0") == "" and whole.lstrip("+-").isdecimal() else stated


def _dates(file: File, name: str) -> NDArray[np.datetime64]:
    try:
        days = file.column(name).cast(pa.timestamp("us")).to_numpy().astype("datetime64[D]")
    except pa.ArrowException:
        # Arrow's message quotes the text that it could not read, and a message may hold no applicant's value.
        raise DataError(f"{file.path.name}: {name}: must be dates, as in 2026-01-31") from None
    if np.isnat(days).any():
        raise DataError(f"{file.path.name}: {name}: must be present in every row")
    return np.asarray(days)


def _violations(batches: list[RowBatch]) -> Iterator[RuleViolation]:
    for batch in batches:
        for violation in batch.violations:
            yield violation.shifted(batch.first_row)


def later_ids(data: Path, portfolio: Portfolio) -> Ids:
    """Read the identifiers of the later applications in the folder of `data`; none where there is no file of them."""
    identity, later = portfolio.declared.identity, portfolio.declared.files.later
    folder = data.parent if data.is_file() else data
    if identity is None or later is None or not _tables(folder, later):
        return np.empty(0, dtype=np.int64)
    file = open_file(find_table(folder, later), portfolio)
    ids, unnamed = _read_identifiers([file.column(identity.column)], whole=identity.kind == "whole")
    return ids[~unnamed]


def column_warnings(
    constants: Sequence[str], undeclared_rows: Mapping[str, int], undeclared: Sequence[str]
) -> Iterator[str]:
    """Say which columns are constant, hold undeclared levels in some rows, or are not declared."""
    if constants:
        yield f"constant columns: {', '.join(constants)}"
    if undeclared_rows:
        said = ", ".join(f"{name} ({count:,})" for name, count in undeclared_rows.items())
        yield f"rows with a level that is not declared: {said}"
    if undeclared:
        yield f"columns that are not declared and were ignored: {', '.join(undeclared)}"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def split_by_time(dataset: Dataset, settings: OutOfTimeSettings | None) -> tuple[Dataset, Dataset | None]:
    """Split the applications into earlier and later ones; without a date column, into all of them and None.

    DataError if either part would be empty, or the later one would hold one outcome only.
    """
    if settings is None or dataset.dates is None:
        return dataset, None
    # A day is never divided: the file has no times, so it does not say which application of a day came first.
    first_late = np.sort(dataset.dates)[int(len(dataset) * (1 - settings.share))]
    late = dataset.dates >= first_late
    later = dataset.take(np.flatnonzero(late))
    if late.all() or len(np.unique(later.target)) < 2:
        raise DataError(f"{settings.column}: no later part of {settings.share:g} of the rows holds both outcomes")
    return dataset.take(np.flatnonzero(~late)), later


def refuse_leaks(dataset: Dataset, settings: LeakageSettings) -> None:
    """Refuse data in which one declared column ranks the outcome too well; DataError names every such column."""
    dataset = dataset.take(_spaced_rows(len(dataset), settings.rows))
    # The lower end of the interval decides, so that a small file is not refused for an AUC that is high by chance.
    found = [
        f"{name} alone ranks the outcome with AUC {area}"
        for name, area in _column_rankings(dataset, settings)
        if area.low > settings.max_column_auc
    ]
    if found:
        limit = f"above leakage.max_column_auc {settings.max_column_auc:g}"
        raise DataError(f"{dataset.source} leaks the outcome: {'; '.join(found)}, {limit}")


def outside_leaks(dataset: Dataset, file: File, settings: LeakageSettings) -> Iterator[str]:
    """Warn where identifiers, row order or undeclared columns rank the outcome; no feature reads these."""
    rows = _spaced_rows(len(dataset), settings.rows)
    target = dataset.target[rows]
    outside = {"the order of the rows": rows.astype(np.float64)}
    schema = dataset.columns.schema
    if schema.id_column is not None and dataset.ids.dtype != object:
        outside = {schema.id_column: dataset.ids[rows].astype(np.float64), **outside}
    for name, values in outside.items():
        area = ranking(values, target, settings.confidence)
        if area.low > settings.max_order_auc:
            yield f"{name} ranks the outcome with AUC {area}: no feature reads it, but the rows are not in random order"
    for name in set(file.undeclared) - {*schema.beside}:
        area = ranking(as_numbers(file.column(name))[0][rows], target, settings.confidence)
        if area.low > settings.max_column_auc:
            yield f"{name} ranks the outcome with AUC {area}: it is not declared and was ignored; do not declare it"


def ranking(values: NDArray[np.float64], target: Target, confidence: float) -> Estimate:
    """Measure the AUC of one column in its better direction; missing values count as its lowest or its highest.

    >>> ranking(np.array([1.0, np.nan, 2.0, np.nan]), np.array([0, 1, 0, 1]), 0.95).value
    1.0
    """
    # Both ends are tried, since a leak may lie in what is missing: a field that is filled in only after a default.
    ends = (-np.inf, np.inf) if np.isnan(values).any() else (0.0,)
    areas = [auc_estimate(target, np.where(np.isnan(values), end, values), confidence) for end in ends]
    return max((_better_direction(area) for area in areas), key=lambda area: area.value)


def _better_direction(area: Estimate) -> Estimate:
    """The AUC of the same values with the other sign, if that is higher."""
    return area if area.value >= 0.5 else Estimate(1 - area.value, 1 - area.high, 1 - area.low)


def _spaced_rows(rows: int, most: int) -> NDArray[np.intp]:
    """At most `most` row numbers, evenly spaced."""
    # Spaced rather than drawn: it needs no seed. The head of the file would hide that rows are sorted by outcome.
    return np.arange(0, rows, -(-rows // most))


def _column_rankings(dataset: Dataset, settings: LeakageSettings) -> Iterator[tuple[str, Estimate]]:
    for i, column in enumerate(dataset.columns.schema.numeric):
        if column.kind is ColumnKind.DATE:  # no feature reads a date itself
            continue
        yield column.name, ranking(dataset.columns.numbers[:, i], dataset.target, settings.confidence)
    for i, column in enumerate(dataset.columns.schema.categorical):
        levels = dataset.columns.levels[:, i]
        yield column.name, level_ranking(levels, dataset.target, settings.confidence)


def level_ranking(levels: NDArray[np.object_], target: Target, confidence: float) -> Estimate:
    """Measure the AUC of the default rates of levels, which are taken from every other row and judged on the rest."""
    # On the rows that made it, the rate of a rare level repeats their outcomes: every rare category would look a leak.
    _, codes = np.unique([level or "" for level in levels], return_inverse=True)
    taken, judged = slice(0, None, 2), slice(1, None, 2)
    rows = np.bincount(codes[taken], minlength=codes.max() + 1)
    defaults = np.bincount(codes[taken], weights=target[taken], minlength=codes.max() + 1)
    # One row at the mean rate is added to each level; a level of a single row would otherwise have a rate of 0 or 1.
    rate = (defaults + target.mean()) / (rows + 1)
    if len(np.unique(target[judged])) < 2:
        return Estimate(0.5, 0.0, 1.0)  # these rows tell nothing
    return auc_estimate(target[judged], rate[codes[judged]], confidence)


def refuse_too_few(target: NDArray[np.int64], *, folds: int, per_fold: int) -> None:
    """Refuse too little data: each of `folds` folds must judge `per_fold` defaults and as many good rows."""
    defaults = int(target.sum())
    needed = folds * per_fold
    if min(defaults, len(target) - defaults) < needed:
        raise DataError(
            f"{defaults} defaults in {len(target)} rows are too few: {folds} folds that judge at least {per_fold} rows "
            f"of either outcome need {needed} of either"
        )


def raise_if_any(source: str, violations: Sequence[RuleViolation]) -> None:
    """Raise a DataError that names every violation, if there is one."""
    if violations:
        rules = f"{len(violations)} rule{'s' if len(violations) > 1 else ''}"
        raise DataError(f"{source} breaks {rules}: " + "; ".join(map(str, violations)))


# A few unknown levels are legal and get the unknown code; a majority means that the file encodes the column otherwise.
_MOST_UNDECLARED = 0.5
_NO_ROWS = np.empty(0, dtype=np.intp)


def identifier_violations(ids: Ids, unnamed: NDArray[np.bool_], portfolio: Portfolio) -> list[RuleViolation]:
    """Find identifiers that repeat, or that are missing or unreadable (`unnamed`); both arrays have the shape (n,)."""
    identity = portfolio.declared.identity
    if identity is None:
        return []
    # An identifier that cannot be read is 0; two of them are not a repetition.
    named = np.flatnonzero(~unnamed)
    _, first = np.unique(ids[named], return_index=True)
    repeated = ~unnamed
    repeated[named[first]] = False
    name, kind = identity.column, "a whole number" if identity.kind == "whole" else "a text"
    return _found((name, f"must be {kind} and present", unnamed), (name, "must be unique", repeated))


def level_violations(columns: Columns) -> list[RuleViolation]:
    """Find categories in which most stated levels are not declared: they may be encoded in another way."""
    return level_rules(_undeclared_levels(columns))


def level_rules(categories: Iterable[tuple[str, NDArray[np.intp], int]]) -> list[RuleViolation]:
    """Find violations among categories, each with its rows of an undeclared level and the number of stated levels."""
    found = []
    for name, undeclared, stated in categories:
        if len(undeclared) == stated:
            found.append(RuleViolation(name, "must hold declared levels; none of them occurs", undeclared))
        elif len(undeclared) > _MOST_UNDECLARED * stated:
            found.append(RuleViolation(name, "must hold declared levels in most rows", undeclared))
    return found


def undeclared_levels(columns: Columns) -> dict[str, int]:
    """Count the rows of each category that hold an undeclared level; it is legal, but a model may not know it."""
    return {name: len(undeclared) for name, undeclared, _ in _undeclared_levels(columns)}


def _undeclared_levels(columns: Columns) -> Iterator[tuple[str, NDArray[np.intp], int]]:
    """Each category with undeclared levels, the rows that hold one, and how many rows state any level."""
    for i, column in enumerate(columns.schema.categorical):
        levels = columns.levels[:, i]
        undeclared, stated = judge_levels(column, Counter(levels.tolist()))
        if undeclared:
            yield column.name, np.flatnonzero([level in undeclared for level in levels]), stated


def judge_levels(column: Column, counts: Counter[str | None]) -> tuple[set[str | None], int]:
    """Return the undeclared levels of a category, and how many rows state any level."""
    missing = {level for level in counts if level is None or column.is_missing(level)}
    undeclared = counts.keys() - missing - set(column.levels) if column.levels else set()
    return undeclared, counts.total() - sum(counts[level] for level in missing)


def target_violations(target: NDArray[np.float64], outcome: OutcomeDeclaration) -> list[RuleViolation]:
    """Find values that are no outcome, or a single outcome in every row; `target` is that of `outcomes`."""
    name, legal = outcome.column, [*outcome.good, *outcome.bad]
    rule = f"must be {', '.join(legal[:-1])} or {legal[-1]}"
    found = _found((name, rule, ~np.isin(target, (0.0, 1.0))))
    if len(np.unique(target[np.isin(target, (0.0, 1.0))])) < 2:
        found.append(RuleViolation(name, "must hold both classes", _NO_ROWS))
    return found


def overlap_violations(train: Ids, later: Ids, portfolio: Portfolio) -> list[RuleViolation]:
    """Find rows of the training data whose identifier is among the later applications as well."""
    # The two files hold different applicants, so a shared identifier means that files were mixed up.
    identity, files = portfolio.declared.identity, portfolio.declared.files
    if identity is None or not len(later):
        return []
    return _found((identity.column, f"must not be in {files.later} too", np.isin(train, later)))


def constant_columns(columns: Columns) -> tuple[str, ...]:
    """Name the columns that hold the same value, or none, in every row; they are legal but teach a model nothing.

    Roll-ups of histories that are missing in every row are not named: nobody gave the histories.
    """
    numbers, schema = columns.numbers, columns.schema
    same = np.all((numbers == numbers[:1]) | (np.isnan(numbers) & np.isnan(numbers[:1])), axis=0)
    names = {column.name for column, one in zip(schema.numeric, same, strict=True) if one}
    names |= {column.name for i, column in enumerate(schema.categorical) if len(set(columns.levels[:, i])) < 2}
    names -= {one.name for one in schema.rolled_up if np.isnan(numbers[:, schema.position[one.name]]).all()}
    return tuple(column.name for column in schema if column.name in names)


def _found(*rules: tuple[str, str, NDArray[np.bool_]]) -> list[RuleViolation]:
    return [RuleViolation(name, rule, np.flatnonzero(mask)) for name, rule, mask in rules if mask.any()]
