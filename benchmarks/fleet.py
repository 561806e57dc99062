"""What a training in blocks and a fit of two ranks cost and give, on clients of the generator."""

from __future__ import annotations

import hashlib
import resource
import shutil
import socket
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import lightgbm as lgb
import numpy as np
import psutil
from numpy.typing import NDArray

from benchmarks.results import record
from features.transformer import FeatureTransformer
from jobs.commandline import Progress
from monitoring.measures import auc_difference, auc_estimate
from training.blocks import StoredDataset, read_source, store_parts
from training.dataset import Dataset, load_dataset
from training.fitting import cross_validate, fit_state, fit_trees, fitted_to, margins_of, text, transformed
from training.fleet import Fleet, fit_fleet
from training.generation import generator_of
from training.settings import TrainingSettings

_TABLE = "application_train.parquet"
_NEW_CLIENTS = 100_000
QUIET = Progress(quiet=True)


@dataclass(frozen=True, slots=True)
class Way:
    """One way to train: peak memory in MB over its processes, beside it that of their libraries, and its cost.

    `digest` is of the trees of the final fit; of a fleet, each rank is a way of its own.
    """

    way: str
    clients: int
    peak_mb: int
    libraries_mb: int
    cpu_seconds: float
    trees: int
    digest: str


@dataclass(frozen=True, slots=True)
class Quality:
    """AUCs on new clients, and the paired difference of two ranks to one fit with its 95 % interval."""

    clients: int
    new_clients: int
    one_fit: float
    two_ranks: float
    difference: float
    low: float
    high: float


def measure_fleet(
    clients: Sequence[int], settings: TrainingSettings, scratch: Path, *, trees: int, judge: bool, progress: Progress
) -> tuple[list[Way], list[Quality]]:
    """Train on so many clients in memory, by blocks and with two ranks; each rank and way is a process of its own."""
    used = settings.model_copy(update={"model": settings.model.model_copy(update={"max_trees": trees, "threads": 1})})
    ways, qualities = list[Way](), list[Quality]()
    for count in clients:
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            data = Path(folder) / "clients"
            _generate(data, used, count, seed=1)
            for work in (_in_memory, _by_blocks):
                with progress.step(f"{count:,} clients, {work.__name__.strip('_').replace('_', ' ')}"):
                    ways.append(_alone(work, data, used, count))
            if judge:
                with progress.step(f"{count:,} clients, two ranks and one fit"):
                    ranks, quality = _two_ranks(data, used, count, Path(folder))
                ways += ranks
                qualities.append(quality)
    return ways, qualities


def record_fleet(ways: Sequence[Way], qualities: Sequence[Quality], command: str, output: Path) -> None:
    """Write the figures with their command and date."""
    record(
        output,
        command,
        lightgbm=lgb.__version__,
        ways=[asdict(way) for way in ways],
        qualities=[asdict(quality) for quality in qualities],
    )


def _generate(folder: Path, settings: TrainingSettings, clients: int, *, seed: int) -> None:
    generator_of(settings.declared).synthesize(
        folder, clients=clients, seed=seed, file_format="parquet", tables="applications"
    )


def _alone(
    work: Callable[[Path, TrainingSettings, int], Way], data: Path, settings: TrainingSettings, count: int
) -> Way:
    # A process of its own: the peak of a process never falls.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, data, settings, count).result()


def _in_memory(data: Path, settings: TrainingSettings, count: int) -> Way:
    libraries = _peak()
    dataset = load_dataset(data, settings.declared)
    return _way("in memory", count, libraries, _fitted(dataset, settings))


def _by_blocks(data: Path, settings: TrainingSettings, count: int) -> Way:
    libraries = _peak()
    with tempfile.TemporaryDirectory(dir=data.parent) as folder:
        dataset = store_parts(read_source(data, settings.declared), data, settings.declared, Path(folder))
        booster = _fitted(dataset, settings)
    return _way("by blocks", count, libraries, booster)


def _fitted(dataset: Dataset | StoredDataset, settings: TrainingSettings) -> lgb.Booster:
    used = fitted_to(dataset, settings)
    cross_validate(dataset, used.features, used.model, seed=used.seed)
    state = fit_state(dataset.columns, dataset.target, used.features, used.model, seed=used.seed)
    transformer = FeatureTransformer(state)
    with transformed(transformer, dataset.columns) as matrix:
        return fit_trees(
            matrix, dataset.target, transformer.categorical, used.model, names=state.names,
            trees=used.model.max_trees, seed=used.seed,
        )  # fmt: skip


def _rank(data: Path, settings: TrainingSettings, fleet: Fleet, count: int) -> tuple[Way, str, NDArray[np.float64]]:
    """One rank; its peak is that of the process that reads and of the one that fits, added up."""
    libraries = _peak()
    fit = fit_fleet(data, settings, fleet, QUIET)
    booster = lgb.Booster(model_str=fit.model_text)
    peak = _peak() + resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
    way = Way(f"rank {fleet.rank} of {len(fleet.machines)}", count, peak, libraries, _spent(), fit.trees, fit.digest)
    new = load_dataset(data.parent / "new", settings.declared)
    matrix = FeatureTransformer(fit.features).transform(new.columns)
    return way, fit.digest, margins_of(booster, matrix, threads=1)


def _two_ranks(data: Path, settings: TrainingSettings, count: int, folder: Path) -> tuple[list[Way], Quality]:
    """Two ranks against one that fits the same rows in the same way; both are judged on new clients."""
    _generate(folder / "new", settings, _NEW_CLIENTS, seed=2)
    found, margins = list[Way](), list[NDArray[np.float64]]()
    for machines in (1, 2):
        shared = folder / "shared"
        shared.mkdir()
        listed = ",".join(f"127.0.0.1:{port}" for port in _free_ports(machines))
        with ProcessPoolExecutor(machines, mp_context=get_context("spawn")) as pool:
            tasks = [
                pool.submit(_rank, data, settings, Fleet.of(listed, rank, shared), count) for rank in range(machines)
            ]
            results = [task.result() for task in tasks]
        shutil.rmtree(shared)
        found += [way for way, _, _ in results]
        margins.append(results[0][2])
    target = load_dataset(folder / "new", settings.declared).target
    one, two = (auc_estimate(target, each, 0.95).value for each in margins)
    difference = auc_difference(target, margins[1], margins[0], 0.95)
    quality = Quality(count, len(target), one, two, difference.value, difference.low, difference.high)
    return found, quality


def _free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


def _way(name: str, count: int, libraries: int, booster: lgb.Booster) -> Way:
    return Way(name, count, _peak(), libraries, _spent(), booster.num_trees(), _digest(text(booster)))


def _digest(model: str) -> str:

    return hashlib.sha256(model.encode()).hexdigest()


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def _spent() -> float:
    """Processor time of this process and of those that it has ended, in seconds."""
    times = psutil.Process().cpu_times()
    return round(float(times.user + times.system + times.children_user + times.children_system), 1)
