"""`python -m training alternatives` searches models that approve protected groups more alike, and states their price.

Trials vary the levers and are judged out of fold on one part of the rows. The points of their Pareto front are fitted
again as their settings say, and measured on rows that chose nothing. Every cut-off is common to all applicants.
"""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import yaml
from numpy.typing import NDArray
from optuna.storages import RDBStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from sklearn.model_selection import train_test_split

from features.transformer import FeatureTransformer
from jobs.commandline import Progress
from jobs.output import locked, write_text
from monitoring.measures import auc
from training.dataset import Dataset
from training.errors import CalibrationError, StudyError
from training.evaluation import decision_policy, resample
from training.fair_fit import fair_fit
from training.fitting import (
    CrossValidation,
    calibrate,
    calibrated_by_fold,
    cross_validate,
    fit_early_stopped,
    fit_state,
    fit_trees,
    fitted_to,
    margins_of,
    splits,
)
from training.search.frontier import (
    POLICY,
    SAME,
    AlternativePoint,
    ApprovalCurve,
    FoundAlternatives,
    Groups,
    HeldOut,
    ScreenedProxy,
    SearchedFigures,
    WantedPoint,
    confirmed,
    prices,
    wanted_points,
)
from training.search.levers import (
    Levers,
    changes,
    declared_groups,
    directions,
    large_groups,
    screen_proxies,
    taken,
)
from training.search.study import TrialSeededSampler, TuningFold, search_identity, tuning_fold
from training.search_settings import without_credentials
from training.settings import TrainingSettings

_LEAST_TELLING = 0.55
"""A column that ranks no group of an attribute better than this AUC is no proxy of it."""
_AHEAD = 4
"""Trials that are under way at once, however many processes there are: so their number changes no trial."""
_ROUNDS = 20
"""The fewest trees without an improvement that end a trial's fit."""
_SEARCHING = 0.3
"""The least part of the time that is left to the trials."""
_THREADS = "OMP_NUM_THREADS"
_DRAWN, _FIGURES, _WORK = "drawn", "figures", "work"


@dataclass(frozen=True, slots=True, eq=False)
class _Trials:
    """What every trial needs: the rows that choose, their groups and folds, and the approvals to keep."""

    dataset: Dataset
    groups: Groups
    levers: Levers
    rows: tuple[tuple[NDArray[np.intp], NDArray[np.intp]], ...]
    folds: tuple[TuningFold, ...]
    approvals: int

    def measured(self, drawn: Mapping[str, Any]) -> dict[str, Any] | None:
        """The figures of a trial by rule of the cut-off, JSON-ready; None for a model that ranks nobody."""
        if not self.levers.leaves_features(drawn):
            return None
        settings = self.levers.applied(drawn)
        model = _fast(settings).model
        chosen = {feature.name for feature in settings.features.select(self.dataset.portfolio)}
        margins, target = np.empty(len(self.dataset)), self.dataset.target
        for (fitted, judged), fold in zip(self.rows, self.folds, strict=True):
            kept = [i for i, name in enumerate(fold.names) if name in chosen]
            booster = fit_early_stopped(
                fold.fitted[:, kept],
                fold.fitted_target,
                tuple(i for i, place in enumerate(kept) if place in fold.categorical),
                model,
                names=[fold.names[i] for i in kept],
                seed=settings.seed,
                fair=fair_fit(self.dataset.columns.take(fitted), fold.fitted_target, model),
            )
            margins[judged] = margins_of(booster, fold.judged[:, kept], threads=1)
        try:
            probability = calibrated_by_fold(margins, target, [judged for _, judged in self.rows])
        except CalibrationError:
            return None
        curve = ApprovalCurve.of(target, probability, self.groups, decision_policy(settings.policy))
        area = auc(target, margins)
        found = {SAME: curve.figures(curve.nearest(self.approvals), area).model_dump()}
        for attribute in curve.ratios:
            for ratio in settings.alternatives.ratios:
                place = curve.reaching(attribute, ratio, self.approvals)
                if place is not None:
                    found[f"{attribute} {ratio:g}"] = curve.figures(place, area).model_dump()
        return found


def _fast(settings: TrainingSettings) -> TrainingSettings:
    """The settings with the learning rate of the trials, and one thread, since more would wait for other processes."""
    own = settings.model.parameters.learning_rate or settings.alternatives.learning_rate
    rate = max(settings.alternatives.learning_rate, own)
    parameters = settings.model.parameters.model_copy(update={"learning_rate": rate})
    # Trees that learn faster are fewer, and fewer of them show that no more help.
    stopping = settings.model.early_stopping
    rounds = max(min(stopping.rounds, _ROUNDS), round(stopping.rounds * own / rate))
    most = max(1, round(settings.model.max_trees * own / rate))
    early = stopping.model_copy(update={"rounds": rounds})
    return _alone(settings, parameters=parameters, early_stopping=early, max_trees=most)


def _alone(settings: TrainingSettings, **model: Any) -> TrainingSettings:
    return settings.model_copy(update={"model": settings.model.model_copy(update={"threads": 1, **model})})


@dataclass(frozen=True, slots=True, eq=False)
class _Work:
    """What a process does: trials, and points to confirm."""

    trials: _Trials
    confirmation: _Confirmation


_held: list[_Work] = []
"""What every trial and point of this process needs: it is sent once."""


def _begin(work: _Work) -> None:
    """Begin a process, which leaves interrupts to the command."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _held[:] = [work]


class _Here(Executor):
    """The executor of one process: this one."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Do the work now."""
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


@contextmanager
def _pool(work: _Work, processes: int) -> Iterator[Executor]:
    """The processes that do the work; StudyError if one of them is killed."""
    if processes == 1:
        _held[:] = [work]
        yield _Here()
        _held.clear()
        return
    pool = ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=_begin, initargs=(work,))
    try:
        with _one_thread_each():
            yield pool
    except BrokenProcessPool:
        raise StudyError("a process of this command was killed; it may have lacked memory") from None
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Processes that begin in the block compute sums in one thread, unless the environment says how many."""
    # Threads of two processes on two cores wait for each other: a calibration takes 25 times the processor time.
    if _THREADS in os.environ:
        yield
        return
    os.environ[_THREADS] = "1"
    try:
        yield
    finally:
        del os.environ[_THREADS]


def _measure(drawn: Mapping[str, Any]) -> dict[str, Any] | None:
    return _held[0].trials.measured(drawn)


def _confirm(wanted: WantedPoint) -> AlternativePoint:
    return _held[0].confirmation.point(wanted)


def _search(study: Study, work: _Work, pool: Executor, most: int, until: float, advance: Callable[[], object]) -> None:
    """Run trials until there are `most` of them or the time is over; each is drawn when an earlier one is known."""
    attributes = list(work.trials.groups)
    _take_up(study, work.trials.levers, attributes)
    begun = len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.FAIL)))
    waiting: deque[tuple[optuna.Trial, Future[dict[str, Any] | None]]] = deque()
    while True:
        while len(waiting) < _AHEAD and begun < most and time.monotonic() < until:
            trial = study.ask()
            drawn = work.trials.levers.drawn(trial)
            trial.set_user_attr(_DRAWN, drawn)
            waiting.append((trial, pool.submit(_measure, drawn)))
            begun += 1
        if not waiting:
            return
        trial, future = waiting.popleft()
        found = future.result()
        if found is None:
            study.tell(trial, state=TrialState.FAIL)
        else:
            trial.set_user_attr(_FIGURES, found)
            study.tell(trial, _values(found, attributes))
        advance()


def _values(found: Mapping[str, Any], attributes: Sequence[str]) -> list[float]:
    """What the sampler is told of a trial: its AUC and its impact ratios."""
    return [found[SAME]["auc"], *(found[SAME]["ratios"][one] for one in attributes)]


def _take_up(study: Study, levers: Levers, attributes: Sequence[str]) -> None:
    """Queue each first trial, and each that an ended command left, unless that was done: it may be ended anywhere."""
    for left in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if _FIGURES in left.user_attrs:
            study.tell(left.number, _values(left.user_attrs[_FIGURES], attributes))
        else:
            study.tell(left.number, state=TrialState.PRUNED)
    trials = study.get_trials(deepcopy=False)
    there = {_work_of(trial) for trial in trials if trial.state != TrialState.PRUNED}
    first = {f"designed {place}": drawn for place, drawn in enumerate(levers.designed())}
    left_over = {_work_of(trial): trial.params for trial in trials if trial.state == TrialState.PRUNED}
    for work, drawn in (left_over | first).items():
        if work not in there:
            study.enqueue_trial(drawn, user_attrs={_WORK: work})


def _work_of(trial: FrozenTrial) -> str:
    """What a trial does: its own number, unless it was queued for a designed trial or one that was left."""
    return str(trial.user_attrs.get(_WORK, trial.number))


@dataclass(frozen=True, slots=True, eq=False)
class _Confirmation:
    """Fits points as their settings say on the rows that chose them, and measures them on the others."""

    chosen: Dataset
    held_out: Dataset
    groups: tuple[Groups, Groups]
    levers: Levers
    folder: Path
    approvals: int | None
    baseline: HeldOut | None

    def point(self, wanted: WantedPoint) -> AlternativePoint:
        """Write the settings of a point, and measure it."""
        return self.described(wanted, *self.fitted(wanted))

    def fitted(self, wanted: WantedPoint) -> tuple[TrainingSettings, SearchedFigures, HeldOut]:
        """Write the settings of a point and fit the file's model; its figures out of fold, and its held-out PDs."""
        settings = self.levers.settings if wanted.drawn is None else self.levers.applied(wanted.drawn)
        settings, searched, validation = self._cut(settings, wanted)
        file = self.folder / f"{wanted.name}.yaml"
        write_text(file, _document(settings))
        return settings, searched, self._held(TrainingSettings.load(file), validation)

    def described(
        self, wanted: WantedPoint, settings: TrainingSettings, searched: SearchedFigures, own: HeldOut
    ) -> AlternativePoint:
        """Measure a fitted point against the baseline."""
        random = np.random.default_rng(settings.seed)
        draws = [resample(own.target, random) for _ in range(settings.alternatives.resamples)]
        before = own if self.baseline is None else self.baseline
        return AlternativePoint(
            name=wanted.name,
            file=f"{wanted.name}.yaml",
            trial=wanted.trial,
            rule=wanted.rule,
            reads=settings.model.fairness.stated,
            changes=tuple(changes(self.levers.settings, settings)),
            cutoff=own.policy.cutoff,
            searched=searched,
            confirmed=confirmed(own, before, draws, settings.evaluation.confidence),
        )

    def _cut(
        self, settings: TrainingSettings, wanted: WantedPoint
    ) -> tuple[TrainingSettings, SearchedFigures, CrossValidation]:
        """The settings with the cut-off of the rule, found out of fold; its figures there."""
        target = self.chosen.target
        validation = cross_validate(self.chosen, settings.features, _alone(settings).model, seed=settings.seed)
        probability = calibrated_by_fold(validation.margins, target, [fold.judged for fold in validation.folds])
        policy = decision_policy(settings.policy)
        curve = ApprovalCurve.of(target, probability, self.groups[0], policy)
        area = auc(target, validation.margins)
        kept = int((probability < policy.refer_from).sum()) if self.approvals is None else self.approvals
        place = curve.nearest(kept)
        if wanted.reaching is not None:
            reaching = curve.reaching(wanted.reaching[0], wanted.reaching[1], kept)
            place = len(curve.approvals) - 1 if reaching is None else reaching
        if wanted.rule != POLICY:
            cut = settings.policy.model_copy(update={"cutoff": round(float(curve.cutoffs[place]), 6)})
            settings = settings.model_copy(update={"policy": cut})
        return settings, curve.figures(place, area), validation

    def _held(self, settings: TrainingSettings, validation: CrossValidation) -> HeldOut:
        """The held-out PDs of a model that is fitted on all rows that chose it."""
        columns, target, model = self.chosen.columns, self.chosen.target, _alone(settings).model
        transformer = FeatureTransformer(fit_state(columns, target, settings.features, model, seed=settings.seed))
        booster = fit_trees(
            transformer.transform(columns),
            target,
            transformer.categorical,
            model,
            names=transformer.names,
            trees=validation.trees,
            seed=settings.seed,
            fair=fair_fit(columns, target, model),
        )
        held = margins_of(booster, transformer.transform(self.held_out.columns), threads=1)
        probability = calibrate(validation.margins, target).probabilities(held)
        return HeldOut(self.held_out.target, probability, self.groups[1], decision_policy(settings.policy))


def _document(settings: TrainingSettings) -> str:
    values = settings.model_dump(mode="json")
    values["tracking"]["uri"] = without_credentials(settings.tracking.uri)
    values["tuning"]["storage"] = without_credentials(settings.tuning.storage)
    return yaml.safe_dump(values, sort_keys=False)


def halves(dataset: Dataset, settings: TrainingSettings) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The rows that choose and those that confirm, stratified by outcome."""
    rows = np.arange(len(dataset))
    share = settings.alternatives.held_out
    divided = train_test_split(rows, test_size=share, random_state=settings.seed, stratify=dataset.target)
    return np.sort(divided[0]), np.sort(divided[1])


def search_alternatives(
    dataset: Dataset, settings: TrainingSettings, folder: Path, progress: Progress, *, minutes: float, beside: Groups
) -> FoundAlternatives:
    """Search for about so many minutes, and write the points found into `folder`, which also keeps the study.

    `beside` holds groups that a file beside the data states. StudyError if the folder's study was begun on other data
    or with other settings, or if another command works on it.
    """
    began = time.monotonic()
    settings = _whole(fitted_to(dataset, settings))
    with locked(folder, wait=False) as alone:
        if not alone:
            raise StudyError(f"{folder}: another command searches there")
        return _searched(dataset, settings, folder, progress, until=began + 60 * minutes, beside=beside)


def _whole(settings: TrainingSettings) -> TrainingSettings:
    return settings.model_copy(update={"whole": True})


def _searched(
    dataset: Dataset, settings: TrainingSettings, folder: Path, progress: Progress, *, until: float, beside: Groups
) -> FoundAlternatives:
    chosen, parts = settings.alternatives, halves(dataset, settings)
    groups = large_groups({**declared_groups(dataset), **beside}, parts, settings.gates.fairness.min_rows)
    study = _study(folder, dataset, settings, list(groups))
    first, last = taken(groups, parts[0]), taken(groups, parts[1])
    rows, held_out = dataset.take(parts[0]), dataset.take(parts[1])
    with progress.step("the model of the settings"):
        levers, proxies = _levers(rows, settings, first)
        began = time.monotonic()
        confirming = _Confirmation(rows, held_out, (first, last), levers, folder, None, None)
        unchanged = WantedPoint("baseline", 0, POLICY, None)
        fitted = confirming.fitted(unchanged)
        approvals = round(fitted[1].approved * len(rows))
        confirming = replace(confirming, approvals=approvals, baseline=fitted[2])
        baseline = confirming.described(unchanged, *fitted)
        took = time.monotonic() - began
    work = _Work(_trials(rows, first, levers, approvals), confirming)
    processes = chosen.processes or len(os.sched_getaffinity(0))
    # Points are confirmed by several processes; the half more is for those whose trees stop later.
    reserved = 1.5 * took * chosen.points / processes
    enough = max(time.monotonic() + _SEARCHING * (until - time.monotonic()), until - reserved)
    minutes = max(0.0, enough - time.monotonic()) / 60
    with _pool(work, processes) as pool:
        with progress.step(f"trials, for {minutes:.0f} minutes at most", chosen.trials) as advance:
            _search(study, work, pool, chosen.trials, enough, advance)
        done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        figures = {trial.number: _figures(trial) for trial in done}
        drawn = {trial.number: trial.user_attrs[_DRAWN] for trial in done}
        # The attribute whose groups are approved least alike comes first, since only so many points are confirmed.
        ranked = sorted(groups, key=lambda attribute: baseline.searched.ratios[attribute])
        wanted = wanted_points(figures, drawn, ranked, chosen.ratios)[: chosen.points]
        with progress.step("points on held-out applications", len(wanted)) as advance:
            points = [point for point in pool.map(_confirm, wanted) if advance() is None]
    return FoundAlternatives(
        source=dataset.source,
        sha256=dataset.fingerprint,
        rows=len(rows),
        held_out=len(held_out),
        confidence=settings.evaluation.confidence,
        trials=len(done),
        attributes={name: tuple(marked) for name, marked in groups.items()},
        levers=tuple(_lever_lines(levers)),
        proxies=proxies,
        baseline=baseline,
        points=tuple(points),
        prices=tuple(prices(baseline, points, list(groups), chosen.ratios)),
        cloud=tuple(one[SAME] for one in figures.values()),
    )


def _study(folder: Path, dataset: Dataset, settings: TrainingSettings, names: Sequence[str]) -> Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = TrialSeededSampler(settings.seed, settings.tuning.startup_trials)
    # The number of trials and points may change: a search goes on with more of either.
    searched = settings.alternatives.model_dump(mode="json", exclude={"trials", "points", "resamples", "processes"})
    space = settings.tuning.model_dump(mode="json", include={"space", "startup_trials"})
    identity = search_identity(dataset, settings, [searched, space, *names])
    storage = RDBStorage(f"sqlite:///{folder / 'study.db'}")
    study = optuna.create_study(
        study_name=identity[:16],
        storage=storage,
        sampler=sampler,
        directions=["maximize"] * (len(names) + 1),
        load_if_exists=True,
    )
    if len(optuna.get_all_study_names(storage)) > 1:
        raise StudyError(f"{folder}: holds a search of other data or with other settings; name another folder")
    return study


def _levers(rows: Dataset, settings: TrainingSettings, groups: Groups) -> tuple[Levers, tuple[ScreenedProxy, ...]]:
    """The levers of the search, from a first model that reads no protected attribute."""
    chosen = settings.alternatives.levers
    features = settings.features.model_copy(update={"without": settings.declared.schema.attributes})
    model = _fast(settings).model
    transformer = FeatureTransformer(fit_state(rows.columns, rows.target, features, model, seed=settings.seed))
    matrix = transformer.transform(rows.columns)
    free = model.model_copy(update={"monotone": {}})
    booster = fit_early_stopped(
        matrix, rows.target, transformer.categorical, free, names=transformer.names, seed=settings.seed
    )
    added = np.asarray(booster.predict(matrix, pred_contrib=True, num_threads=1), dtype=np.float64)[:, :-1]
    risk = added.sum(axis=1)
    extremes = {}
    for attribute, marked in groups.items():
        ranked = sorted(marked, key=lambda name: float(risk[marked[name]].mean()))
        extremes[attribute] = (ranked[-1], ranked[0])
    screened = screen_proxies(rows.columns, groups, extremes, transformer.state, added)
    telling = [one for one in screened if one.tells >= _LEAST_TELLING and one.carries > 0]
    columns = tuple(dict.fromkeys(one.column for one in telling))[: chosen.proxies]
    held = directions(booster, transformer.state, matrix, chosen.monotone) if chosen.monotone else {}
    readable = tuple(name for name in groups if name in settings.declared.schema.attributes)
    shown = tuple(
        ScreenedProxy(column=p.column, attribute=p.attribute, tells=p.tells, carries=p.carries) for p in telling
    )
    return Levers(settings, columns, held, readable), shown[: 2 * chosen.proxies]


def _lever_lines(levers: Levers) -> Iterator[str]:
    chosen = levers.settings.alternatives.levers
    yield f"{chosen.seeds} seeds of the trees"
    if levers.columns:
        yield f"leaving out, with all that is derived from it: {', '.join(levers.columns)}"
    if levers.monotone:
        yield f"directions of {len(levers.monotone)} features: {', '.join(levers.monotone)}"
    if chosen.parameters:
        yield "parameters of the trees, in the ranges of the part tuning of the settings"
    for word, used in (
        ("reweighing of rows", chosen.reweighing),
        ("a penalty of log-odds that differ", chosen.penalty),
    ):
        if levers.readable:
            yield f"{word} by group, which the fit reads: {', '.join(levers.readable) if used else 'switched off'}"
    yield "one cut-off for everybody: the one that keeps the number of approvals, and those that reach a ratio"


def _trials(rows: Dataset, groups: Groups, levers: Levers, approvals: int) -> _Trials:
    settings = levers.settings
    features = settings.features.model_copy(update={"without": settings.declared.schema.attributes})
    every = settings.model_copy(update={"features": features})
    divided = tuple(splits(rows.target, settings.model.folds, seed=settings.seed))
    folds = tuple(tuning_fold(rows, fitted, judged, _alone(every)) for fitted, judged in divided)
    return _Trials(rows, groups, levers, divided, folds, approvals)


def _figures(trial: FrozenTrial) -> dict[str, SearchedFigures]:
    return {rule: SearchedFigures.model_validate(one) for rule, one in trial.user_attrs[_FIGURES].items()}
