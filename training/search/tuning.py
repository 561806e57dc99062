"""`python -m training tune` searches LightGBM's parameters and measures what its winner is worth."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import yaml
from matplotlib.figure import Figure
from numpy.typing import NDArray
from optuna.exceptions import OptunaError
from optuna.study import Study
from optuna.trial import FrozenTrial

from jobs.commandline import Progress
from jobs.output import write_text
from jobs.settings import Settings
from monitoring.measures import Estimate, auc_difference, auc_estimate
from training.dataset import Dataset
from training.errors import StudyError
from training.fitting import fitted_to, splits
from training.registry.tracking import commit, connect, tracked_run
from training.search.study import (
    FINISHED,
    FOLDS,
    fitted_margins,
    open_study,
    run_trials,
    score_of,
    tuning_fold,
    tuning_folds,
    winner,
)
from training.search_settings import DRAWING_ROWS, NestedSettings
from training.settings import TrackingSettings, TrainingSettings


@dataclass(frozen=True, slots=True)
class Tuned:
    """The winner of a search, and the nested estimate if the settings ask for one."""

    parameters: TunedParameters
    nested: NestedEstimate | None


def tune(dataset: Dataset, settings: TrainingSettings, progress: Progress) -> Tuned:
    """Run the study of the settings, or the rest of it, and record it in MLflow.

    StudyError if the study cannot be used, or if its database fails.
    """
    try:
        return _tuned(dataset, fitted_to(dataset, settings), progress)
    except OptunaError as error:
        raise StudyError(f"study {settings.tuning.study}: {error}") from None


def _tuned(dataset: Dataset, settings: TrainingSettings, progress: Progress) -> Tuned:
    chosen = settings.tuning
    study = open_study(chosen.study, dataset, settings)
    folds = tuning_folds(dataset, chosen.folds, settings)
    done = len(study.get_trials(deepcopy=False, states=FINISHED))
    with progress.step(f"trials of {chosen.study}", max(0, chosen.trials - done)) as advance:
        run_trials(study, chosen.trials, folds, settings, progress=advance)
    best = winner(study)
    nested = _nested(dataset, settings, progress)
    with progress.step("MLflow"):
        record_trials(study, dataset, settings)
        record_search(study, nested, dataset, settings)
    origin = Winner(
        study=chosen.study,
        objective=chosen.objective.value,
        value=float(best.values[0]),
        trials=len(study.get_trials(deepcopy=False, states=FINISHED)),
        data_sha256=dataset.fingerprint,
    )
    return Tuned(TunedParameters(parameters=best.params | DRAWING_ROWS, winner=origin), nested)


def _nested(dataset: Dataset, settings: TrainingSettings, progress: Progress) -> NestedEstimate | None:
    chosen = settings.tuning
    if chosen.nested is None:
        return None
    with progress.step("nested search", chosen.nested.folds * chosen.nested.trials) as advance:
        return nested_estimate(chosen.study, dataset, settings, chosen.nested, progress=advance)


def tuning_lines(tuned: Tuned, written: Path) -> Iterator[str]:
    """Format the result, line by line; `written` is the file that holds the winner."""
    winner = tuned.parameters.winner
    yield f"{winner.trials} trials; the best has {winner.objective} {winner.value:.4f} on the folds that chose it:"
    for name, value in tuned.parameters.parameters.items():
        yield f"  {name:20} {value:g}"
    if tuned.nested is not None:
        nested = tuned.nested
        yield f"on rows that no trial saw, by the same search within {len(nested.kept)} outer folds:"
        promised, kept = np.mean(nested.promised), np.mean(nested.kept)
        yield f"  {winner.objective:20} {kept:.4f}, where the search promised {promised:.4f}"
        yield f"  {'optimism':20} {nested.optimism:+.4f}"
        yield f"  {'auc':20} {nested.auc}"
        yield f"  {'gain over settings':20} {nested.gain} AUC"
    yield f"written to {written}; use it with: python -m training run --params {written}"


class Winner(Settings):
    """The study, the objective and the data that tuned parameters come from."""

    study: str
    objective: str
    value: float
    """The mean over the folds that chose the winner, which flatters it."""
    trials: int
    data_sha256: str


class TunedParameters(Settings):
    """Tuned parameters replace those of the settings; `winner` says where they come from."""

    parameters: dict[str, Any]
    winner: Winner

    @classmethod
    def apply(cls, path: Path, settings: TrainingSettings) -> TrainingSettings:
        """Replace the settings' parameters by those in the file; SettingsError if these are not legal."""
        # Checked as a whole: people edit such files, and two legal parameters may not fit together.
        values = settings.model_dump(mode="json")
        values["model"]["parameters"] |= cls.load(path).parameters
        return TrainingSettings.checked(values, path)

    def write(self, path: Path) -> None:
        """Write the file whole or not at all; OutputError if it cannot be written."""
        write_text(path, yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False))


@dataclass(frozen=True, slots=True)
class NestedEstimate:
    """The nested estimate compares winners on the folds that chose them and on rows that no trial saw.

    Attributes
    ----------
    promised : for each outer fold the winner's value on the folds that chose it
    kept : for each outer fold the same winner's value on rows that no trial saw
    auc : AUC of the winners on those rows
    gain : AUC of the winners minus AUC of the parameters in the settings, on the same rows
    """

    promised: tuple[float, ...]
    kept: tuple[float, ...]
    auc: Estimate
    gain: Estimate

    @property
    def optimism(self) -> float:
        """The mean of `promised` minus the mean of `kept`, in the objective's unit."""
        return float(np.mean(self.promised) - np.mean(self.kept))


def nested_estimate(
    study: str,
    dataset: Dataset,
    settings: TrainingSettings,
    nested: NestedSettings,
    *,
    progress: Callable[[], object] = lambda: None,
) -> NestedEstimate:
    """Repeat the search with `nested.trials` trials in each outer fold; `study` and the fold name its studies."""
    promised, kept = [], []
    margins, plain = np.empty(len(dataset)), np.empty(len(dataset))
    for i, (fitted, judged) in enumerate(splits(dataset.target, nested.folds, seed=settings.seed)):
        inner = dataset.take(fitted)
        search = open_study(f"{study}, outer fold {i}", inner, settings)
        folds = tuning_folds(inner, settings.tuning.folds, settings)
        run_trials(search, nested.trials, folds, settings, progress=progress)
        best = winner(search)
        outer = tuning_fold(dataset, fitted, judged, settings)
        # Winner and settings are fitted and judged on the same rows, so the gain is a paired difference.
        margins[judged], _ = fitted_margins(outer, best.params | DRAWING_ROWS, settings)
        plain[judged], _ = fitted_margins(outer, {}, settings)
        promised.append(float(best.values[0]))
        kept.append(score_of(outer.judged_target, margins[judged], settings))
    return _estimate(dataset.target, margins, plain, promised, kept, settings.evaluation.confidence)


def _estimate(
    target: NDArray[np.int64],
    margins: NDArray[np.float64],
    plain: NDArray[np.float64],
    promised: list[float],
    kept: list[float],
    confidence: float,
) -> NestedEstimate:
    return NestedEstimate(
        promised=tuple(promised),
        kept=tuple(kept),
        auc=auc_estimate(target, margins, confidence),
        gain=auc_difference(target, margins, plain, confidence),
    )


def record_trials(study: Study, dataset: Dataset, settings: TrainingSettings) -> None:
    """Log every finished trial that has no run yet, also those of a killed process."""
    tracking = settings.tracking.model_copy(update={"experiment": settings.tuning.experiment})
    recorded = _recorded(study, tracking)
    for trial in study.get_trials(deepcopy=False, states=FINISHED):
        if str(trial.number) not in recorded:
            with tracked_run(tracking, name=f"{study.study_name} {trial.number}"):
                _record(trial, study, dataset, settings)


def record_search(study: Study, nested: NestedEstimate | None, dataset: Dataset, settings: TrainingSettings) -> None:
    """Log the winner, the history of the search and the nested estimate."""
    tracking = settings.tracking.model_copy(update={"experiment": settings.tuning.experiment})
    best = study.best_trial
    with tracked_run(tracking, name=study.study_name), tempfile.TemporaryDirectory() as scratch:
        mlflow.set_tags(_tags(study, dataset))
        mlflow.log_params({**best.params, "objective": settings.tuning.objective.value, "best_trial": best.number})
        mlflow.log_metric("value", float(best.values[0]))
        mlflow.log_dict(settings.recorded(), "settings.json")
        if nested is not None:
            mlflow.log_metrics({"optimism": nested.optimism, **_interval("nested_auc", nested), **_gain(nested)})
            mlflow.log_dict(asdict(nested), "nested.json")
        # Without this, matplotlib writes its own version into the file.
        _history(study).savefig(Path(scratch) / "history.png", dpi=130, metadata={"Software": None})
        mlflow.log_artifacts(scratch, "figures")


def _recorded(study: Study, tracking: TrackingSettings) -> set[str]:
    """Numbers of the trials that have a run."""
    # A run that a process left unfinished may lack figures, so its trial is logged again.
    connect(tracking, make=True)
    if mlflow.get_experiment_by_name(tracking.experiment) is None:
        return set()
    runs = mlflow.search_runs(
        experiment_names=[tracking.experiment],
        filter_string=f"tags.study = '{study.study_name}' and attributes.status = 'FINISHED'",
        output_format="list",
    )
    return {run.data.tags["trial"] for run in runs if "trial" in run.data.tags}


def _record(trial: FrozenTrial, study: Study, dataset: Dataset, settings: TrainingSettings) -> None:
    folds = trial.user_attrs[FOLDS]
    mlflow.set_tags({**_tags(study, dataset), "trial": trial.number, "state": trial.state.name})
    mlflow.log_params({**trial.params, "objective": settings.tuning.objective.value, "seed": settings.seed})
    for i, fold in enumerate(folds):
        mlflow.log_metrics({f"fold_{i}_{settings.tuning.objective}": fold["score"], f"fold_{i}_trees": fold["trees"]})
    mlflow.log_metric("seconds", sum(fold["seconds"] for fold in folds))
    if trial.values:
        mlflow.log_metric("value", trial.values[0])


def _tags(study: Study, dataset: Dataset) -> dict[str, str]:
    return {
        "study": study.study_name,
        "data.sha256": dataset.fingerprint,
        "data.source": dataset.source,
        "code.commit": commit() or "none",
    }


def _interval(name: str, nested: NestedEstimate) -> dict[str, float]:
    return {name: nested.auc.value, f"{name}_low": nested.auc.low, f"{name}_high": nested.auc.high}


def _gain(nested: NestedEstimate) -> dict[str, float]:
    return {"gain": nested.gain.value, "gain_low": nested.gain.low, "gain_high": nested.gain.high}


def _history(study: Study) -> Figure:
    # Optuna gives a pruned trial the last value that it reported.
    valued = [trial for trial in study.trials if trial.values]
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.set(title=f"Search {study.study_name}", xlabel="trial", ylabel="mean over the folds")
    axes.plot([trial.number for trial in valued], [trial.values[0] for trial in valued], "o", color="#2166ac")
    axes.plot(study.best_trial.number, study.best_trial.values[0], "o", color="#b2182b", label="best")
    axes.legend(frameon=False)
    return figure
