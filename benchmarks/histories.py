"""What histories add to applications: the gain in AUC, out of fold, on clients whose histories are known."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.results import record
from features.files import open_table
from features.fitting import FeatureSettings
from features.histories import History
from features.history_files import roll_up_folder
from features.portfolio import HISTORY, Portfolio
from features.schema import Schema
from features.values import as_numbers, as_whole_numbers
from jobs.commandline import Progress
from monitoring.measures import Estimate, auc, auc_difference, auc_estimate
from training.dataset import TRUE_PD, Dataset, find_table, load_dataset
from training.errors import DataError
from training.fitting import cross_calibrated, cross_validate
from training.settings import ModelSettings, TrainingSettings

_CONFIDENCE = 0.95
Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Gain:
    """What histories add where both models are fitted in one way.

    Attributes
    ----------
    application, together : AUC of the mean out-of-fold PD over all seeds, without and with histories
    difference : the second minus the first, with DeLong's paired interval
    of_seeds : the difference of each seed alone
    against_truth : the difference of the AUC that is expected under the true PD; None where nobody knows it
    """

    way: str
    application: Estimate
    together: Estimate
    difference: Estimate
    of_seeds: tuple[float, ...]
    against_truth: float | None


@dataclass(frozen=True, slots=True)
class HistoryGains:
    """The gains of every way, on so many applications."""

    applications: int
    defaults: int
    rollups: int
    seeds: int
    gains: tuple[Gain, ...]


def measure_gains(
    data: Path, settings: TrainingSettings, *, up_to: int | None, seeds: int, progress: Progress
) -> HistoryGains:
    """Fit every way on applications alone and with histories, on the same folds.

    `up_to` is the last client who is measured, None for all: in a part of Kaggle's files only the first have histories.
    """
    dataset = _with_histories(data, settings.declared, up_to, progress)
    truth = _true_pds(data, dataset)
    ways = dict(_ways(settings))
    alone = settings.features.model_copy(update={"sets": _sets_of_application(settings.declared)})
    gains, without = [], dict[str, Scores]()
    # Directions are of histories: the application alone is fitted once for each set of parameters.
    plain = {way: model.model_copy(update={"monotone": {}}) for way, model in ways.items()}
    fits = (len(ways) + len({model.model_dump_json() for model in plain.values()})) * seeds
    with progress.step("gain of histories", fits) as advance:

        def scored(features: FeatureSettings, model: ModelSettings) -> Scores:
            return np.stack([_out_of_fold(dataset, features, model, seed, advance) for seed in range(1, seeds + 1)])

        for way, model in ways.items():
            key = plain[way].model_dump_json()
            if key not in without:
                without[key] = scored(alone, plain[way])
            together = scored(settings.features, model)
            gains.append(_gain(way, dataset.target, without[key], together, truth))
    rollups = len(dataset.portfolio.schema.rolled_up)
    return HistoryGains(len(dataset), int(dataset.target.sum()), rollups, seeds, tuple(gains))


def record_gains(found: HistoryGains, command: str, output: Path) -> None:
    """Write what was found with its command and date."""
    record(output, command, **asdict(found))


def _with_histories(data: Path, portfolio: Portfolio, up_to: int | None, progress: Progress) -> Dataset:
    dataset = load_dataset(data, portfolio)
    if up_to is not None:
        if dataset.ids.dtype == object:
            raise DataError("--up-to: the clients are named by texts")
        dataset = dataset.take(np.flatnonzero(dataset.ids.astype(np.int64) <= up_to))
    columns, schema = dataset.columns, portfolio.schema
    numbers = columns.numbers.copy()
    with tempfile.TemporaryDirectory() as folder:
        _complete(data, Path(folder), portfolio)
        rolled_up = roll_up_folder(Path(folder), portfolio, dataset.ids, progress=progress)
    numbers[:, _places(schema)] = rolled_up
    return replace(dataset, columns=replace(columns, numbers=numbers))


def _places(schema: Schema) -> list[int]:
    return [schema.position[column.name] for column in schema.rolled_up]


def _complete(data: Path, folder: Path, portfolio: Portfolio) -> None:
    """Link all tables into a folder; one that the data lack has its header alone, and so no rows."""
    if portfolio.histories is None:
        raise DataError(f"the portfolio {portfolio.name} declares no histories")
    for file in _tables(data, portfolio.histories.tables, folder):
        (folder / file.name).symlink_to(file.absolute())


def _tables(data: Path, tables: tuple[History, ...], folder: Path) -> Iterator[Path]:
    for table in tables:
        if any((data / f"{table.file}{suffix}").exists() for suffix in (".csv", ".parquet")):
            yield find_table(data, table.file)
            continue
        names = [table.key, *([table.id] if table.id else []), *(column.name for column in table.stated)]
        (folder / f"{table.file}.csv").write_text(",".join(names) + "\n", encoding="utf-8")


def _ways(settings: TrainingSettings) -> Iterator[tuple[str, ModelSettings]]:
    """The ways to fit: the portfolio's, with trees of random cuts, and with histories held to their directions."""
    declared, stated = settings.declared, settings.experiments.options.monotone
    schema, model = declared.schema, settings.model
    of_history = {column.name for column in schema.rolled_up}
    held = {name: way for name, way in stated.items() if of_history.intersection(declared.features[name].sources)}
    # Random cuts are so weak alone that a tree is offered twice the features.
    share = min(1.0, 2 * (model.parameters.colsample_bytree or 0.1))
    cuts = model.parameters.model_copy(update={"extra_trees": True, "colsample_bytree": share})
    random = model.model_copy(update={"parameters": cuts})
    yield "as declared", model
    yield "directions", model.model_copy(update={"monotone": held})
    yield "random cuts", random
    yield "random cuts, directions", random.model_copy(update={"monotone": held})


def _sets_of_application(portfolio: Portfolio) -> tuple[str, ...]:
    """The sets of features that read no roll-up."""
    of_history = {column.name for column in portfolio.schema.rolled_up}
    reading = {one.group for one in portfolio.catalogue if of_history.intersection(one.sources)}
    return tuple(name for name in portfolio.sets if name not in reading | {HISTORY})


def _out_of_fold(
    dataset: Dataset, features: FeatureSettings, model: ModelSettings, seed: int, advance: Callable[[int], object]
) -> Scores:
    validation = cross_validate(dataset, features, model, seed=seed)
    advance(1)
    return cross_calibrated(validation, dataset.target)


def _gain(way: str, target: NDArray[np.int64], without: Scores, together: Scores, truth: Scores | None) -> Gain:
    """The gain of PDs of shape (seeds, n)."""
    first, second = without.mean(axis=0), together.mean(axis=0)
    return Gain(
        way=way,
        application=auc_estimate(target, first, _CONFIDENCE),
        together=auc_estimate(target, second, _CONFIDENCE),
        difference=auc_difference(target, second, first, _CONFIDENCE),
        of_seeds=tuple(auc(target, b) - auc(target, a) for a, b in zip(without, together, strict=True)),
        against_truth=None if truth is None else expected_auc(truth, second) - expected_auc(truth, first),
    )


def expected_auc(truth: NDArray[np.float64], scores: NDArray[np.float64]) -> float:
    """The AUC of scores that outcomes drawn from the true PDs have in the mean, but for ties.

    >>> expected_auc(np.array([0.0, 1.0, 1.0]), np.array([0.2, 0.1, 0.3]))
    0.5
    """
    bad = truth[np.argsort(scores, kind="stable")]
    good = 1 - bad
    beaten = np.cumsum(good) - good
    # A client is no pair with itself.
    pairs = bad.sum() * good.sum() - (bad * good).sum()
    return float((bad * beaten).sum() / pairs)


def _true_pds(data: Path, dataset: Dataset) -> Scores | None:
    identity = dataset.portfolio.schema.id_column
    if identity is None or not any(data.glob(f"{TRUE_PD}.*")):
        return None
    table = open_table(find_table(data, TRUE_PD), known={identity})
    clients, _, _ = as_whole_numbers(table.column(identity))
    truth, _ = as_numbers(table.column("TRUE_PD"))
    known = dict(zip(clients.tolist(), truth.tolist(), strict=True))
    return np.array([known[client] for client in dataset.ids.tolist()])
