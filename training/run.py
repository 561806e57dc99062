"""`python -m training run` turns files into a judged challenger; its lines and commands to paste are made here too."""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from features.files import open_file
from jobs.commandline import Progress
from scoring.cli import served_name
from scoring.reasons import ReferenceGroup
from training.blocks import StoredDataset, read_source, store_parts, with_histories
from training.cli import SETTINGS
from training.dataset import (
    GENERATED,
    TRUE_PD,
    Dataset,
    find_applications,
    load_dataset,
    outside_leaks,
    refuse_leaks,
    refuse_too_few,
    split_by_time,
)
from training.errors import RegistryError, TrainingError
from training.evaluation import Evaluation
from training.fitting import fitted_to, parameters_line
from training.fleet import Fleet, FleetFit, fit_fleet
from training.gates import gate_lines, group_lines
from training.generation import generator_of
from training.registry.fitted import FILES, place_of_fitted, register_fitted, write_fitted
from training.registry.packaging import code_digest
from training.registry.promotion import JudgedModel, Verdict, judge
from training.registry.registry import Registered, current_champion
from training.registry.tracking import commit, connect, portfolio_of_run, tracked_run
from training.report.model_report import write_report
from training.search.frontier import FoundAlternatives
from training.search_settings import without_credentials
from training.settings import TrainingSettings
from training.trainer import TrainedModel, lineage, train, train_fleet


@dataclass(frozen=True, slots=True, eq=False)
class Delivered:
    """A delivered model is trained and registered, and has a verdict."""

    trained: TrainedModel
    registered: Registered
    verdict: Verdict

    @property
    def tag(self) -> str:
        """The tag that the model has in the BentoML store after its promotion."""
        return self.registered.tag


def deliver(
    data: Path | None,
    settings: TrainingSettings,
    progress: Progress,
    *,
    generated_allowed: bool = False,
    uncompared_allowed: bool = False,
    by_blocks: bool = False,
    searched: FoundAlternatives | None = None,
) -> Delivered:
    """Train on the files in `data`, or on generated ones; track the model, register it as challenger and judge it.

    Later applications judge it if the settings set some aside, else the training data do. `by_blocks` keeps the columns
    in files: the model has the same bits, and at most `SHOWN_ROWS` evenly spaced rows are judged and reported. The
    report has a chapter on the alternatives that were `searched`; TrainingError if that was on other data.
    """
    connect(settings.tracking, make=True)
    if not uncompared_allowed:
        refuse_other_portfolio(settings)
    with _read(data, settings, progress, by_blocks=by_blocks) as (dataset, later):
        return deliver_loaded(
            dataset,
            later,
            settings,
            progress,
            generated_allowed=generated_allowed,
            uncompared_allowed=uncompared_allowed,
            searched=searched,
        )


def deliver_loaded(
    dataset: Dataset | StoredDataset,
    later: Dataset | None,
    settings: TrainingSettings,
    progress: Progress,
    *,
    generated_allowed: bool = False,
    uncompared_allowed: bool = False,
    version_tags: Mapping[str, str] = MappingProxyType({}),
    searched: FoundAlternatives | None = None,
) -> Delivered:
    """Train on loaded applications as `deliver` does; the registered version gets the tags."""
    # Before the training: a folder that cannot be written, or a server that is down, would cost its whole result.
    place_of_fitted()
    if searched is not None:
        searched.refuse_other(dataset.fingerprint)
    for line in (*settings.left_out_lines(), parameters_line(dataset, settings)):
        progress.line(line)
    with tracked_run(settings.tracking, name=dataset.source) as run_id:
        trained = train(dataset, settings, progress, later=later)
        with progress.step("MLflow"):
            registered = track(dataset, trained, settings, run_id=run_id, version_tags=version_tags, searched=searched)
    with progress.step("gates"):
        verdict = judge(
            registered,
            _shown(dataset, trained)[0] if later is None else later,
            settings,
            generated_allowed=generated_allowed,
            uncompared_allowed=uncompared_allowed,
        )
    return Delivered(trained, registered, verdict)


def deliver_fleet(
    data: Path,
    settings: TrainingSettings,
    fleet: Fleet,
    progress: Progress,
    *,
    generated_allowed: bool = False,
    uncompared_allowed: bool = False,
) -> tuple[FleetFit, Delivered | None]:
    """Fit the trees with the other machines; rank 0 also tracks, registers and judges the model, on held-out rows."""
    if fleet.rank != 0:
        return fit_fleet(data, settings, fleet, progress), None
    connect(settings.tracking, make=True)
    if not uncompared_allowed:
        refuse_other_portfolio(settings)
    place_of_fitted()
    fit = fit_fleet(data, settings, fleet, progress)
    dataset = replace(fit.judged, source=_source(data, fit.judged.source, settings))
    with tracked_run(settings.tracking, name=dataset.source) as run_id:
        trained = train_fleet(fit, progress)
        with progress.step("MLflow"):
            registered = track(dataset, trained, fit.settings, run_id=run_id, fleet=fit)
    with progress.step("gates"):
        verdict = judge(
            registered,
            dataset,
            settings,
            generated_allowed=generated_allowed,
            uncompared_allowed=uncompared_allowed,
        )
    return fit, Delivered(trained, registered, verdict)


SHOWN_ROWS = 200_000
"""The most rows of a training by blocks that are in memory at once, for the report and the gates."""


@contextmanager
def _read(
    data: Path | None, settings: TrainingSettings, progress: Progress, *, by_blocks: bool
) -> Iterator[tuple[Dataset | StoredDataset, Dataset | None]]:
    """The applications to fit, and the later ones; in blocks, as long as the context lasts."""
    if not by_blocks:
        yield split_by_time(load(data, settings, progress), settings.out_of_time)
        return
    if settings.out_of_time is not None:
        raise TrainingError("--by-blocks: sets no later applications aside; write out_of_time: null in the settings")
    with ExitStack() as kept:
        folder = kept.enter_context(_files(data, settings, progress))
        scratch = Path(kept.enter_context(tempfile.TemporaryDirectory()))
        with progress.step("load and validate"):
            stored = store_parts(read_source(folder, settings.declared), folder, settings.declared, scratch)
        if data is not None:
            stored = with_histories(stored, folder, settings, progress)
        refuse_unfit(stored, settings)
        dataset = replace(stored, source=_source(data, stored.source, settings))
        for warning in dataset.warnings:
            progress.line(f"{dataset.source}: {warning}")
        yield dataset, None


def refuse_unfit(dataset: StoredDataset, settings: TrainingSettings) -> None:
    """Refuse data in blocks that are too few or that leak the outcome; DataError."""
    refuse_too_few(dataset.target, folds=settings.model.folds, per_fold=settings.model.min_outcomes_per_fold)
    refuse_leaks(dataset.loaded(dataset.spaced(settings.leakage.rows)), settings.leakage)


def _shown(dataset: Dataset | StoredDataset, trained: TrainedModel) -> tuple[Dataset, TrainedModel]:
    """The rows that fit into memory, with their PDs: all of a data set that is there already."""
    if isinstance(dataset, Dataset):
        return dataset, trained
    rows = dataset.spaced(SHOWN_ROWS)
    return dataset.loaded(rows), replace(trained, probabilities=trained.probabilities[rows])


def refuse_other_portfolio(settings: TrainingSettings) -> None:
    """Refuse, before anything is fitted, a champion of another portfolio: no gate could compare the two."""
    name = settings.tracking.model
    in_charge, own = current_champion(name), settings.declared.name
    other = None if in_charge is None else portfolio_of_run(in_charge.run_id)
    if other not in (None, own):
        raise RegistryError(
            f"{in_charge} is the champion of the portfolio {other}, not of {own}: give {own} a registered model of its"
            " own (training: {tracking: {model: NAME}} in its portfolio file, and NAME in configs/serving.yaml and"
            " bentofile.yaml), or replace it with --allow-uncompared"
        )


def track(
    dataset: Dataset | StoredDataset,
    trained: TrainedModel,
    settings: TrainingSettings,
    *,
    run_id: str,
    fleet: FleetFit | None = None,
    version_tags: Mapping[str, str] = MappingProxyType({}),
    searched: FoundAlternatives | None = None,
) -> Registered:
    """Record a trained model with its figures and report in the active run and register it as challenger."""
    # Everything is on the disk before MLflow is asked to keep any of it.
    used = fitted_to(dataset, settings)
    made = lineage(dataset, used, run_id=run_id, commit=commit(), code=code_digest(), fleet=fleet)
    artefact = trained.artefact(made)
    folder = write_fitted(dataset, trained, artefact, settings, run_id=run_id, version_tags=version_tags)
    shown, of_shown = _shown(dataset, trained)
    write_report(folder / FILES, shown, of_shown, artefact, settings, searched)
    return register_fitted(folder)


def load(
    data: Path | None,
    settings: TrainingSettings,
    progress: Progress,
    *,
    to_fit: bool = True,
    dates: str | None = None,
) -> Dataset:
    """Load and validate the data in the folder `data`, or generate data; warnings become lines of the progress.

    DataError if the data break a rule. Data `to_fit` a model must also be large enough and not leak the outcome.
    `dates` names the column of their days; without it, that of the later applications is read, if there are any.
    """
    if to_fit and dates is None and settings.out_of_time is not None:
        dates = settings.out_of_time.column
    with _files(data, settings, progress) as directory:
        with progress.step("load and validate"):
            dataset = load_dataset(directory, settings.declared, dates=dates)
        if data is not None:  # the generator is asked for applications alone
            dataset = with_histories(dataset, directory, settings, progress)
        if to_fit:
            dataset = _fit_for_training(dataset, directory, settings)
    dataset = replace(dataset, source=_source(data, dataset.source, settings))
    for warning in dataset.warnings:
        progress.line(f"{dataset.source}: {warning}")
    return dataset


def _source(data: Path | None, name: str, settings: TrainingSettings) -> str:
    """The name of the data, which says whether they are generated."""
    if data is None:
        return f"{GENERATED}{settings.synthetic.clients} clients, seed {settings.synthetic.seed}"
    # Only the generator knows true PDs, so a folder that holds them holds generated data.
    generated = any((data.parent if data.is_file() else data).glob(f"{TRUE_PD}.*"))
    return f"{GENERATED}{name}" if generated else name


def _fit_for_training(dataset: Dataset, directory: Path, settings: TrainingSettings) -> Dataset:
    refuse_too_few(dataset.target, folds=settings.model.folds, per_fold=settings.model.min_outcomes_per_fold)
    refuse_leaks(dataset, settings.leakage)
    file = open_file(find_applications(directory, settings.declared), settings.declared)
    return replace(dataset, warnings=(*dataset.warnings, *outside_leaks(dataset, file, settings.leakage)))


@contextmanager
def _files(data: Path | None, settings: TrainingSettings, progress: Progress) -> Iterator[Path]:
    if data is not None:
        yield data
        return
    generator, synthetic = generator_of(settings.declared), settings.synthetic
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch) / "generated"
        with progress.step("generate applications", generator.total_clients(synthetic.clients)) as advance:
            generator.synthesize(
                directory, clients=synthetic.clients, seed=synthetic.seed, tables="applications", progress=advance
            )
        yield directory


_SHOWN = (
    "auc", "gini", "ks", "average_precision", "brier", "log_loss", "ece", "ece_by_chance", "calibration_slope", "lift",
    "precision", "recall", "f1", "f_beta", "declined_share", "cost_per_applicant", "cost_approve_all",
)  # fmt: skip


def trained_lines(trained: TrainedModel) -> Iterator[str]:
    """Format the measurements of a training, line by line."""
    evaluation = trained.evaluation
    yield (
        f"{evaluation.rows} applications, {evaluation.defaults} defaults; "
        f"out of fold, with {evaluation.confidence:.0%} intervals:"
    )
    for name in _SHOWN:
        yield f"  {name:20} {evaluation[name]}"
    yield f"  AUC that the protected attributes would add: {trained.price}"
    yield f"  {_reasons_line(trained)}"
    if trained.monotone_price is not None:
        yield f"  AUC that features without a direction would add: {trained.monotone_price}"
    if trained.later is not None:
        later = trained.later
        yield f"  {later.rows} later applications, {later.defaults} defaults: AUC {later['auc']}, ECE {later['ece']}"
    yield from _policy_lines(evaluation)


def _reasons_line(trained: TrainedModel) -> str:
    reference = trained.reasons
    if reference is None or trained.explained_in is None:
        return "reasons of declines: none, since the portfolio declares none"
    group = {
        ReferenceGroup.CUT_OFF: f" against {reference.rows} applicants at or just above the cut-off",
        ReferenceGroup.ALL: f" against {reference.rows} applicants of all",
        None: "",
    }
    cost = f"{1e6 * trained.explained_in:.0f} us an application"
    return f"reasons of declines: {reference.method}{group[reference.group]}, {cost}"


def _policy_lines(evaluation: Evaluation) -> Iterator[str]:
    for level in evaluation.levels:
        rate = level.default_rate or "no applications"
        yield f"  {level.level:9} {level.rows:8} applications, default rate {rate}"
    for threshold in evaluation.thresholds:
        yield (
            f"  {threshold.method:12} cut-off {threshold.cutoff:.4f}, cost {threshold.cost_per_applicant:.4f} per "
            f"applicant, F-beta {threshold.f_beta:.4f}"
        )


def verdict_lines(verdict: Verdict) -> Iterator[str]:
    """Format every gate with its figure, its limit and its result, and the rows that judged it."""
    yield f"gates, judged on {verdict.rows} applications, each by a model that was not fitted on it:"
    yield f"  challenger {_judged(verdict.challenger, verdict.rows)}"
    yield f"  {_champion_line(verdict)}"
    yield from (f"  {line}" for line in gate_lines(verdict.gates))
    yield from (f"  {line}" for line in group_lines(verdict.groups))


def _champion_line(verdict: Verdict) -> str:
    if verdict.champion is not None:
        return f"champion   {_judged(verdict.champion, verdict.rows)}"
    return f"champion   cannot be compared with: {verdict.obstacle}" if verdict.incumbent else "no champion yet"


def _judged(judged: JudgedModel, rows: int) -> str:
    return f"{judged.registered}: {judged.fitted_on} out of fold, {rows - judged.fitted_on} by the registered model"


def pasted(words: Sequence[str], settings: Path, portfolio: Path | None, tracking_uri: str | None) -> str:
    """Return a training command that can be pasted, with every option that it needs to act on the same model."""
    options = [*_named("--portfolio", portfolio), *_named("--settings", None if settings == SETTINGS else settings)]
    # A password stays out of the terminal; the variable holds in the next command too.
    if tracking_uri not in (None, os.environ.get("MLFLOW_TRACKING_URI")):
        options += _named("--tracking-uri", without_credentials(str(tracking_uri)))
    return shlex.join([_python(), "-m", "training", *words, *options])


def promoting(registered: Registered, data: Path | None) -> list[str]:
    """Return the words of the command that promotes a version, judged on `data`; `pasted` makes the command."""
    return ["promote", "--version", registered.version, *_named("--data", data)]


def scoring_batch(model: str, file: Path) -> str:
    """Return a command that can be pasted and scores the applications in `file`."""
    tagged = [] if model == served_name() else ["--model", model]
    return shlex.join([_python(), "-m", "scoring", "batch", "--input", str(file), "--output", "scores", *tagged])


def _named(option: str, value: object) -> list[str]:
    return [] if value is None else [option, str(value)]


def _python() -> str:
    python, here = Path(sys.executable), Path.cwd()
    return str(python.relative_to(here) if python.is_relative_to(here) else python)
