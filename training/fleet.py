"""A fit on several machines: each reads its share of the data, and all of them get the same trees.

LightGBM's own sockets join the machines, and a shared folder holds all else that they tell each other: who is alive,
rows that the feature state and the judgement need, and the trees so far. LightGBM cannot lose a machine: it hangs or
ends its process. So each rank fits in a process of its own, and ends it when another rank fails or falls silent.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import secrets
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any, Self

import lightgbm as lgb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet

from features.portfolio import Portfolio
from features.transformer import Columns, FeatureState, FeatureTransformer, concatenate
from jobs.commandline import Progress, stop_if_asked
from jobs.output import write_json, write_text
from training.blocks import StoredColumns, StoredDataset, read_source, store_parts, with_histories
from training.dataset import Dataset, refuse_leaks, refuse_too_few
from training.errors import DataError, FleetError
from training.fitting import dataset_of, fit_state, parameters, text, usual_settings
from training.settings import ModelSettings, TrainingSettings

_HELD_SHARE = 0.2
"""The share of the rows that no rank fits: a third of them stops the fit, the others calibrate and judge the model."""
_HELD_ROWS, _STATE_ROWS = 200_000, 200_000
"""The most rows, over all ranks, that are held out, and that the feature state is fitted on."""
_BEAT = 0.5
_JOIN_SECONDS = 600
_LONGEST_REASON = 160
_SAVED = "trees.json"
"""The file that keeps the trees so far."""
_RESTART = "; start all ranks again: the fit goes on from the trees that are saved"
_OF_ONE_RANK = re.compile(r"^\[(machines|num_machines|local_listen_port|time_out): .*\]\n", re.MULTILINE)
"""Parameters in a model's text that name machines; the text of all ranks is the same without them."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """The machines of a fit, this one's rank among them, and the folder that all of them can write.

    Attributes
    ----------
    machines : host:port of each rank; the ports are LightGBM's
    lost_after : seconds of silence after which a rank is lost
    save_every : trees between two saved states of the fit
    """

    machines: tuple[str, ...]
    rank: int
    shared: Path
    lost_after: float = 60.0
    save_every: int = 50

    @classmethod
    def of(cls, machines: str, rank: int | None, shared: Path | None, **options: Any) -> Self:
        """Read the options of the command; FleetError if they do not describe a fleet."""
        listed = tuple(one.strip() for one in machines.split(","))
        for one in listed:
            host, _, port = one.rpartition(":")
            if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
                raise FleetError(f"--machines: must be host:port,host:port, not {one}")
        if len(set(listed)) < len(listed):
            raise FleetError("--machines: names a machine twice")
        if rank is None or not 0 <= rank < len(listed):
            raise FleetError(f"--rank: must be 0 to {len(listed) - 1}, or JOB_COMPLETION_INDEX must hold it")
        if shared is None or not shared.is_dir():
            raise FleetError("--shared: must be a folder that all machines can write")
        return cls(listed, rank, shared, **options)

    @property
    def ranks(self) -> range:
        """All ranks."""
        return range(len(self.machines))

    def network(self) -> dict[str, Any]:
        """LightGBM's parameters of the network; FleetError if a name cannot be resolved."""
        if len(self.machines) == 1:
            return {}
        addresses = ",".join(_resolved(one) for one in self.machines)
        return {
            "machines": addresses,
            "num_machines": len(self.machines),
            "local_listen_port": int(self.machines[self.rank].rpartition(":")[2]),
            "time_out": 2,  # minutes until LightGBM gives up to connect
            "tree_learner": "data",
            "pre_partition": True,
            # LightGBM has no better method for several machines, and would change it in silence.
            "monotone_constraints_method": "basic",
        }


def _resolved(machine: str) -> str:
    # LightGBM finds its own rank by the addresses of the machine, and knows no names.
    host, _, port = machine.rpartition(":")
    try:
        return f"{socket.gethostbyname(host)}:{port}"
    except OSError:
        raise FleetError(f"{host}: no such machine") from None


class _Session:
    """What the ranks of one attempt tell each other: files of the shared folder, each written by one rank.

    A thread writes this rank's beat and watches the others'. Beats are counted, so that no two clocks are compared.
    """

    def __init__(self, fleet: Fleet, folder: Path) -> None:
        self.fleet, self.folder = fleet, folder
        self._ended = threading.Event()
        self._lost: str | None = None
        self._seen: dict[int, tuple[str, float]] = {}
        self._thread = threading.Thread(target=self._watch, daemon=True)

    @classmethod
    @contextmanager
    def begun(cls, fleet: Fleet) -> Iterator[_Session]:
        """Join the attempt that rank 0 begins; whoever fails tells the others why."""
        if fleet.rank == 0:
            for earlier in fleet.shared.glob("*/beat-0"):  # a rank that was killed left applications there
                shutil.rmtree(earlier.parent, ignore_errors=True)
        session = cls(fleet, fleet.shared / (secrets.token_hex(8) if fleet.rank == 0 else _attempt(fleet)))
        session.folder.mkdir(mode=0o700, exist_ok=True)
        session._thread.start()
        try:
            yield session
        except BaseException as error:
            told = str(error) if isinstance(error, FleetError | DataError) else type(error).__name__
            session.tell("failed", told.splitlines()[0])
            raise
        finally:
            session._ended.set()
            session._thread.join()

    def tell(self, name: str, content: str = "") -> None:
        """Write this rank's file of a name."""
        write_text(self.folder / f"{name}-{self.fleet.rank}", content)

    def told(self, name: str, *, seconds: float | None = None) -> list[str]:
        """Wait until all ranks have written their file, and return the contents; FleetError if one is lost."""
        begun = time.monotonic()
        while absent := [rank for rank in self.fleet.ranks if not (self.folder / f"{name}-{rank}").exists()]:
            self.check()
            if seconds is not None and time.monotonic() - begun > seconds:
                raise FleetError(f"rank {absent[0]} did not come within {seconds:g} s")
            time.sleep(_BEAT / 5)
        return [(self.folder / f"{name}-{rank}").read_text(encoding="utf-8") for rank in self.fleet.ranks]

    def check(self) -> None:
        """FleetError if another rank has failed or is silent."""
        stop_if_asked()
        if self._lost is not None:
            raise FleetError(self._lost)

    def _watch(self) -> None:
        for count in itertools.count():
            self.tell("beat", str(count))
            if count == 1 and self.fleet.rank == 0:
                write_text(self.fleet.shared / "attempt", self.folder.name)
            self._lost = self._lost or next(filter(None, map(self._fault, self.fleet.ranks)), None)
            if self._ended.wait(_BEAT):
                return

    def _fault(self, rank: int) -> str | None:
        failed, beat = self.folder / f"failed-{rank}", self.folder / f"beat-{rank}"
        if rank == self.fleet.rank or (self.folder / f"done-{rank}").exists():
            return None
        if failed.exists():
            return f"rank {rank} failed: {failed.read_text(encoding='utf-8')}"
        if not beat.exists():
            return None
        last, now = beat.read_text(encoding="utf-8"), time.monotonic()
        before, since = self._seen.get(rank, ("", now))
        if last != before:
            self._seen[rank] = last, now
        elif now - since > self.fleet.lost_after:
            return f"rank {rank} was lost: no sign of it for {self.fleet.lost_after:g} s{_RESTART}"
        return None


def _attempt(fleet: Fleet) -> str:
    """The attempt whose rank 0 is alive; the folder may hold earlier ones."""
    named, begun, first = fleet.shared / "attempt", time.monotonic(), dict[str, str]()
    while time.monotonic() - begun < _JOIN_SECONDS:
        stop_if_asked()
        name = named.read_text(encoding="utf-8") if named.exists() else ""
        beat = fleet.shared / name / "beat-0"
        if name and beat.exists():
            count = beat.read_text(encoding="utf-8")
            if first.setdefault(name, count) != count:
                return name
        time.sleep(_BEAT / 5)
    raise FleetError(f"{fleet.shared}: rank 0 did not come within {_JOIN_SECONDS} s")


@dataclass(frozen=True, slots=True, eq=False)
class FleetFit:
    """The trees of a fleet, and the rows that judge them.

    Attributes
    ----------
    model_text : the trees, the same text on every rank
    trees : how many of them there are
    features : the state that all ranks transformed their rows by
    judged : rows that no rank fitted and that did not stop the fit
    sample : some of the fitted rows, which the feature state is fitted on
    rows, defaults : of all ranks, held-out rows included
    own_rows : rows that this rank fitted
    settings : with the parameters that the data chose
    """

    model_text: str
    trees: int
    features: FeatureState
    judged: Dataset
    sample: Dataset
    rows: int
    defaults: int
    own_rows: int
    settings: TrainingSettings

    @property
    def digest(self) -> str:
        """SHA-256 of the text."""
        return hashlib.sha256(self.model_text.encode()).hexdigest()


def fit_fleet(data: Path, settings: TrainingSettings, fleet: Fleet, progress: Progress) -> FleetFit:
    """Fit the trees with all ranks, each of which runs this; a fit that was broken off goes on from its saved trees.

    FleetError if a rank is lost, sees other data or gets other trees; DataError if the data break a rule.
    """
    portfolio = settings.declared
    parts = read_source(data, portfolio)
    manifest = [(Path(part.name).name, part.rows) for part in parts]
    if any(rows is None for _, rows in manifest):
        raise FleetError(f"{data}: several machines read Parquet, whose files say how many rows they have")
    own = parts[fleet.rank :: len(fleet.machines)]
    if len(parts) < len(fleet.machines):
        raise FleetError(f"{data}: {len(parts)} parts are too few for {len(fleet.machines)} machines")
    plan = {
        "rows": f"{sum(rows or 0 for _, rows in manifest):,}",
        "parts": _digest(manifest),
        "settings": _digest(settings.model_dump(mode="json", include={"seed", "features", "model"})),
        "portfolio": _digest(portfolio.declared.model_dump(mode="json")),
        "machines": str(len(fleet.machines)),
    }
    saved = _saved(fleet, plan)
    with _Session.begun(fleet) as session, tempfile.TemporaryDirectory() as scratch:
        session.tell("plan", json.dumps(plan))
        _require_one_plan([json.loads(one) for one in session.told("plan", seconds=_JOIN_SECONDS)])
        try:
            with progress.step(f"rank {fleet.rank}: load and validate"):
                stored = store_parts(own, data, portfolio, Path(scratch))
            stored = with_histories(stored, data, settings, progress)
            held = _shared_rows(stored, session)
            totals = [json.loads(one) for one in session.told("rows")]
            _require_all_rows(totals, manifest, session)
            sample, stopping, judged = (
                _from_all(session, name, portfolio, data, totals) for name in ("sample", "stopping", "judged")
            )
            session.tell("read")
            session.told("read")
        finally:
            shutil.rmtree(session.folder / f"applications-{fleet.rank}", ignore_errors=True)
        rows, defaults = (sum(total[name] for total in totals) for name in ("rows", "defaults"))
        refuse_leaks(sample.take(np.arange(0, len(sample), -(-len(sample) // settings.leakage.rows))), settings.leakage)
        refuse_too_few(judged.target, folds=settings.model.folds, per_fold=settings.model.min_outcomes_per_fold)
        used = usual_settings(portfolio, settings, rarer=min(defaults, rows - defaults))
        with progress.step(f"rank {fleet.rank}: feature state"):
            state = fit_state(sample.columns, sample.target, used.features, used.model, seed=used.seed)
        fitted = np.setdiff1d(np.arange(len(stored)), held)
        work = _Work(fleet, plan, saved, Path(scratch), stored.columns.take(fitted), stored.target[fitted],
                     stopping.columns, stopping.target, state, used.model, used.seed)  # fmt: skip
        with progress.step(f"rank {fleet.rank}: fit {len(fitted):,} of {rows:,} rows"):
            model_text = _watched(work, session)
        fit = FleetFit(model_text, lgb.Booster(model_str=model_text).num_trees(), state, judged, sample, rows, defaults,
                       len(fitted), used)  # fmt: skip
        session.tell("model", fit.digest)
        digests = session.told("model")
        if len(set(digests)) > 1:
            raise FleetError(f"the ranks have different trees: {', '.join(one[:12] for one in digests)}")
        session.tell("done")
        session.told("done")
        return fit


def _require_one_plan(plans: Sequence[Mapping[str, Any]]) -> None:
    for rank, plan in enumerate(plans):
        if plan["rows"] != plans[0]["rows"]:
            raise FleetError(f"rank {rank} sees {plan['rows']} rows, and rank 0 {plans[0]['rows']}")
        for name, value in plan.items():
            if value != plans[0][name]:
                raise FleetError(f"rank {rank} has other {name} than rank 0")


def _saved(fleet: Fleet, plan: Mapping[str, str]) -> dict[str, Any] | None:
    """The saved state of this fit; FleetError if the folder holds that of another one."""
    file = fleet.shared / _SAVED
    if not file.exists():
        return None
    saved: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    for name, value in plan.items():
        if saved["plan"].get(name) != value:
            raise FleetError(f"{fleet.shared}: holds the trees of other {name}: give an empty folder")
    return saved


def _shared_rows(stored: StoredDataset, session: _Session) -> NDArray[np.intp]:
    """The rows of this rank that are held out; the others get these and some of the fitted ones."""
    ranks = len(session.fleet.machines)
    held = stored.spaced(max(1, min(_HELD_ROWS // ranks, int(len(stored) * _HELD_SHARE))))
    fitted = np.setdiff1d(np.arange(len(stored)), held)
    spaced = fitted[:: max(1, -(-len(fitted) * ranks // _STATE_ROWS))]
    folder = session.folder / f"applications-{session.fleet.rank}"
    folder.mkdir(mode=0o700)
    for name, rows in (("sample", spaced), ("stopping", held[::3]), ("judged", np.setdiff1d(held, held[::3]))):
        _write_rows(stored.loaded(rows), folder / name)
    np.save(folder / "ids.npy", _hashed(stored.ids))
    session.tell(
        "rows",
        json.dumps({
            "rows": len(stored), "defaults": int(stored.target.sum()), "sha256": stored.fingerprint,
            "source": stored.source,
        }),
    )  # fmt: skip
    return held


def _require_all_rows(
    totals: Sequence[Mapping[str, Any]], manifest: Sequence[tuple[str, int | None]], session: _Session
) -> None:
    """FleetError unless each rank holds the rows of its parts; DataError if two ranks hold one applicant."""
    ranks = len(totals)
    for rank, total in enumerate(totals):
        expected = sum(rows or 0 for _, rows in manifest[rank::ranks])
        if total["rows"] != expected:
            raise FleetError(f"rank {rank} holds {total['rows']:,} rows, and its parts {expected:,}")
    ids = np.concatenate([np.load(session.folder / f"applications-{rank}" / "ids.npy") for rank in range(ranks)])
    # A rank that fails takes its files away: all have read them first, so that all say the same.
    session.tell("compared")
    session.told("compared")
    if len(np.unique(ids)) < len(ids):
        raise DataError("an identifier is in the parts of two ranks: identifiers must be unique")


def _hashed(ids: NDArray[Any]) -> NDArray[np.uint64]:
    if ids.dtype != object:
        return ids.astype(np.uint64)
    return np.array(
        [int.from_bytes(hashlib.blake2b(one.encode(), digest_size=8).digest()) for one in ids], dtype=np.uint64
    )


def _write_rows(dataset: Dataset, path: Path) -> None:
    columns = {f"n{i}": values for i, values in enumerate(dataset.columns.numbers.T)}
    columns |= {f"c{i}": pa.array(levels.tolist(), pa.string()) for i, levels in enumerate(dataset.columns.levels.T)}
    parquet.write_table(pa.table({"id": dataset.ids, "target": dataset.target, **columns}), path)


def _from_all(
    session: _Session, name: str, portfolio: Portfolio, data: Path, totals: Sequence[Mapping[str, Any]]
) -> Dataset:
    """The rows of a name that all ranks shared, in the order of the ranks."""
    tables = [parquet.read_table(session.folder / f"applications-{rank}" / name) for rank in session.fleet.ranks]
    schema = portfolio.schema
    columns = []
    for table in tables:
        numbers = np.column_stack([table[f"n{i}"].to_numpy() for i in range(len(schema.numeric))])
        levels = np.empty((table.num_rows, len(schema.categorical)), dtype=object)
        for i in range(len(schema.categorical)):
            levels[:, i] = table[f"c{i}"].to_pylist()
        columns.append(Columns(numbers, levels, portfolio))
    together = pa.concat_tables(tables)
    return Dataset(
        ids=together["id"].to_numpy(),
        columns=concatenate(columns),
        target=together["target"].to_numpy(),
        fingerprint=_digest([total["sha256"] for total in totals]),
        source=data.name,
    )


def _digest(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True, eq=False)
class _Work:
    """What the process that fits is given."""

    fleet: Fleet
    plan: Mapping[str, str]
    saved: Mapping[str, Any] | None
    scratch: Path
    columns: StoredColumns
    target: NDArray[np.int64]
    stopping: Columns
    stopping_target: NDArray[np.int64]
    state: FeatureState
    model: ModelSettings
    seed: int


def _watched(work: _Work, session: _Session) -> str:
    """Fit in a process of its own; its trees, or a FleetError that says who failed."""
    process = get_context("spawn").Process(target=_fit, args=(work,), daemon=True)
    process.start()
    try:
        while process.is_alive():
            session.check()
            process.join(_BEAT / 5)
        if process.exitcode == 0:
            return (work.scratch / "model").read_text(encoding="utf-8")
        # LightGBM ends with an error of its sockets when another rank dies. Which one it was, its silence tells.
        ended = time.monotonic() + (work.fleet.lost_after + 2 * _BEAT if process.exitcode == 1 else 0)
        while time.monotonic() < ended and len(work.fleet.machines) > 1:
            session.check()
            time.sleep(_BEAT / 5)
    finally:
        process.kill()
        process.join()
    said = [line for line in (work.scratch / "log").read_text(encoding="utf-8", errors="replace").splitlines() if line]
    code = process.exitcode or 0
    how = f"was killed by signal {-code}" if code < 0 else "failed"
    reason = f" ({said[-1][:_LONGEST_REASON]})" if said and code > 0 else ""
    raise FleetError(f"the process that fits {how}{reason}{_RESTART}")


def _fit(work: _Work) -> None:
    """Fit this rank's trees, and leave their text in its scratch folder; runs in a process of its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command ends this process
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # LightGBM writes to the terminal on its own; the last line says why it failed.
    log = os.open(work.scratch / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    write_text(work.scratch / "model", _OF_ONE_RANK.sub("", _trees(work, work.saved)))


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _trees(work: _Work, saved: Mapping[str, Any] | None) -> str:
    begun = None if saved is None else lgb.Booster(model_str=saved["trees"])
    if saved is not None and begun is not None and saved["finished"]:
        return str(begun.model_to_string(num_iteration=saved["best"]))
    done = 0 if begun is None else begun.num_trees()
    transformer = FeatureTransformer(work.state)
    # A fit that goes on draws other features for its trees than it began with.
    used = parameters(work.model, work.seed + done, work.state.names) | work.fleet.network()
    with work.columns.transformed(transformer) as matrix:
        train = dataset_of(matrix, work.target, transformer.categorical)
        stopping = dataset_of(
            transformer.transform(work.stopping), work.stopping_target, transformer.categorical, reference=train
        )
        booster = lgb.train(
            used,
            train,
            num_boost_round=work.model.max_trees - done,
            valid_sets=[stopping],
            init_model=begun,
            callbacks=[_Saving(work, saved)],
        )
        if train.num_data() != len(work.target):
            raise FleetError(f"{train.num_data():,} rows were fitted instead of {len(work.target):,}")
        return text(booster)


class _Saving:
    """Stops the fit as early stopping does, and saves the trees; LightGBM calls it after each tree.

    All ranks hold the same trees and the same rows that stop the fit, so that all of them stop at the same tree.
    """

    def __init__(self, work: _Work, saved: Mapping[str, Any] | None) -> None:
        self._work = work
        self._best: int = 0 if saved is None else saved["best"]
        self._loss: float = float("inf") if saved is None else saved["loss"]

    def __call__(self, fit: lgb.callback.CallbackEnv) -> None:
        work, tree, judged = self._work, fit.iteration + 1, fit.evaluation_result_list or []
        loss = judged[0][2]
        if loss < self._loss:
            self._best, self._loss = tree, loss
        finished = tree - self._best >= work.model.early_stopping.rounds or tree == fit.end_iteration
        if work.fleet.rank == 0 and (finished or tree % work.fleet.save_every == 0):
            trees = _OF_ONE_RANK.sub("", fit.model.model_to_string(num_iteration=-1))
            state = {"plan": dict(work.plan), "best": self._best, "loss": self._loss, "finished": finished}
            write_json(work.fleet.shared / _SAVED, {**state, "trees": trees})
        if finished:
            raise lgb.callback.EarlyStopException(self._best - 1, judged)
