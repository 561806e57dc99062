"""The search: what a trial is worth, what a kill loses, and what the winner is used for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import optuna
import pytest
import yaml
from optuna.trial import TrialState
from scipy.special import expit

from features import SettingsError
from scoring import Progress
from training.cli import main
from training.data.dataset import Dataset, load_dataset
from training.errors import OutputError, StudyError
from training.evaluation.metrics import auc
from training.settings.training import TrainingSettings
from training.tuning import tune
from training.tuning.nested import NestedEstimate
from training.tuning.objective import FOLDS, fitted_margins, score_of, tuning_folds
from training.tuning.parameters import TunedParameters, Winner
from training.tuning.study import FINISHED, open_study, run_trials

ROOT = Path(__file__).resolve().parents[2]
TRIALS = 5


@pytest.fixture(scope="module")
def dataset(generated: Path) -> Dataset:
    return load_dataset(generated)


@pytest.fixture
def searching(settings: TrainingSettings, tmp_path: Path) -> TrainingSettings:
    """The tests' settings with a small search in a database of its own."""
    return changed(settings, storage=f"sqlite:///{tmp_path}/optuna/optuna.db")


def changed(settings: TrainingSettings, **changes: object) -> TrainingSettings:
    values = settings.model_dump(mode="json")
    values["model"]["max_trees"] = 30
    small = {"trials": TRIALS, "folds": 2, "startup_trials": 2, "nested": None}
    values["tuning"] |= small | {"pruning": {"startup_trials": 2, "warmup_folds": 0}} | changes
    return TrainingSettings.model_validate(values)


def searched(dataset: Dataset, settings: TrainingSettings, trials: int = TRIALS) -> optuna.Study:
    study = open_study(settings.tuning.study, dataset, settings)
    run_trials(study, trials, tuning_folds(dataset, settings.tuning.folds, settings), settings)
    return study


def summary(study: optuna.Study) -> list[tuple[object, ...]]:
    """What may not differ between two searches: states, parameters, values and scores of all trials."""
    return [
        (
            trial.number,
            trial.state,
            tuple(trial.params.items()),
            tuple(trial.values or ()),
            tuple(trial.intermediate_values.items()),
            tuple((fold["score"], fold["trees"]) for fold in trial.user_attrs[FOLDS]),
        )
        for trial in study.trials
    ]


def test_two_searches_with_one_seed_are_the_same(dataset: Dataset, searching: TrainingSettings, tmp_path: Path) -> None:
    other = changed(searching, storage=f"sqlite:///{tmp_path}/other.db")
    first, second = searched(dataset, searching), searched(dataset, other)
    assert summary(first) == summary(second)
    assert len({tuple(trial.params.items()) for trial in first.trials}) == TRIALS
    assert all(trial.state in FINISHED for trial in first.trials)


def test_another_seed_searches_elsewhere(dataset: Dataset, searching: TrainingSettings, tmp_path: Path) -> None:
    other = changed(searching, storage=f"sqlite:///{tmp_path}/other.db").model_copy(update={"seed": 99})
    first, second = searched(dataset, searching, 1), searched(dataset, other, 1)
    assert first.trials[0].params != second.trials[0].params


def test_a_search_in_two_parts_is_the_search_in_one(
    dataset: Dataset, searching: TrainingSettings, tmp_path: Path
) -> None:
    other = changed(searching, storage=f"sqlite:///{tmp_path}/other.db")
    searched(dataset, other, 3)
    assert summary(searched(dataset, other)) == summary(searched(dataset, searching))


def test_a_killed_search_ends_with_the_trials_of_an_uninterrupted_one(
    dataset: Dataset, searching: TrainingSettings, generated: Path, tmp_path: Path
) -> None:
    """The process is killed while a trial runs: the trial is taken over with what its first fold had measured."""
    killed = changed(searching, storage=f"sqlite:///{tmp_path}/killed.db")
    path = tmp_path / "killed.yaml"
    path.write_text(yaml.safe_dump(killed.model_dump(mode="json")))
    code = f"""
import os, signal
from pathlib import Path
from training.data.dataset import load_dataset
from training.settings import TrainingSettings
from training.tuning import objective
from training.tuning.study import open_study, run_trials
settings = TrainingSettings.load(Path({str(path)!r}))
dataset = load_dataset(Path({str(generated)!r}))
measure, measured = objective._measure, []
def measure_then_die(*arguments):
    if len(measured) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    measured.append(1)
    return measure(*arguments)
objective._measure = measure_then_die
study = open_study(settings.tuning.study, dataset, settings)
run_trials(study, 5, objective.tuning_folds(dataset, 2, settings), settings)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    dead = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=False)
    assert dead.returncode == -signal.SIGKILL
    left = open_study(killed.tuning.study, dataset, killed)
    assert [trial.state for trial in left.trials] == [TrialState.COMPLETE, TrialState.RUNNING]
    assert len(left.trials[1].user_attrs[FOLDS]) == 1
    assert summary(searched(dataset, killed)) == summary(searched(dataset, searching))


def test_processes_that_share_a_study_divide_its_trials(
    dataset: Dataset, searching: TrainingSettings, generated: Path, tmp_path: Path
) -> None:
    path = tmp_path / "shared.yaml"
    path.write_text(yaml.safe_dump(searching.model_dump(mode="json")))
    code = f"""
from pathlib import Path
from training.data.dataset import load_dataset
from training.settings import TrainingSettings
from training.tuning.objective import tuning_folds
from training.tuning.study import open_study, run_trials
settings = TrainingSettings.load(Path({str(path)!r}))
dataset = load_dataset(Path({str(generated)!r}))
study = open_study("shared", dataset, settings)
run_trials(study, 8, tuning_folds(dataset, 2, settings), settings)
"""
    open_study("shared", dataset, searching)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    both = [subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=environment) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    trials = open_study("shared", dataset, searching).get_trials()
    finished = [trial for trial in trials if trial.state in FINISHED]
    assert [trial.number for trial in finished] == list(range(8))
    assert len({tuple(trial.params.items()) for trial in finished}) == 8
    assert all(trial.state is TrialState.FAIL and not trial.params for trial in trials[8:])


def test_a_trial_of_a_living_process_is_left_to_it(dataset: Dataset, searching: TrainingSettings) -> None:
    study = open_study(searching.tuning.study, dataset, searching)
    trial = study.ask()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        trial.set_user_attr("owner", f"{os.uname().nodename}:{other.pid}")
        searched(dataset, searching, 2)
        assert study.trials[0].state is TrialState.RUNNING
        other.communicate(b"\n")
    searched(dataset, searching, 2)
    assert [one.state in FINISHED for one in study.trials] == [True, True]


@pytest.mark.parametrize(("seen", "taken_over"), [(1.0, True), (1e12, False)])
def test_a_trial_of_another_machine_is_taken_over_when_it_was_silent_for_long(
    dataset: Dataset, searching: TrainingSettings, seen: float, taken_over: bool
) -> None:
    study = open_study(searching.tuning.study, dataset, searching)
    trial = study.ask()
    trial.set_user_attr("owner", "elsewhere:1")
    trial.set_user_attr("seen", seen)
    searched(dataset, searching, 1)
    assert (study.trials[0].state in FINISHED) is taken_over


def test_a_study_is_not_continued_on_other_data_or_with_other_settings(
    dataset: Dataset, searching: TrainingSettings
) -> None:
    searched(dataset, searching, 1)
    for other, settings in (
        (dataset.take(np.arange(2000)), searching),
        (dataset, searching.model_copy(update={"seed": 1})),
        (dataset, changed(searching, objective="auc", storage=searching.tuning.storage)),
    ):
        with pytest.raises(StudyError, match="begun on other data or with other settings"):
            searched(other, settings)


@pytest.mark.parametrize(
    "storage",
    [
        "sqlite:////proc/none/optuna.db",
        "postgresql://user:secret@127.0.0.1:9/trials",
        "magic://user:secret@host/trials",
        "nonsense",
    ],
)
def test_a_database_that_cannot_be_used_is_refused_without_its_password(
    dataset: Dataset, searching: TrainingSettings, storage: str
) -> None:
    with pytest.raises(StudyError, match="cannot be used") as refusal:
        open_study("s", dataset, changed(searching, storage=storage))
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize("objective", ["auc", "average_precision", "cost_per_applicant", "f_beta"])
def test_the_objective_is_measured_at_the_cut_off_of_the_policy(
    dataset: Dataset, searching: TrainingSettings, objective: str
) -> None:
    settings = changed(searching, objective=objective)
    margins = np.random.default_rng(3).normal(-2.4, 0.6, len(dataset)) + dataset.target
    declined = expit(margins) >= 1 / 11
    hits, alarms = int((declined & (dataset.target == 1)).sum()), int((declined & (dataset.target == 0)).sum())
    missed = int(dataset.target.sum()) - hits
    beta = settings.evaluation.f_beta**2
    expected = {
        "auc": auc(dataset.target, margins),
        "cost_per_applicant": (10 * missed + alarms) / len(dataset),
        "f_beta": (1 + beta) * hits / ((1 + beta) * hits + beta * missed + alarms),
    }
    measured = score_of(dataset.target, margins, settings)
    assert measured == pytest.approx(expected.get(objective, measured))
    assert 0 < measured < 1


def test_a_cost_is_minimized(dataset: Dataset, searching: TrainingSettings) -> None:
    study = searched(dataset, changed(searching, objective="cost_per_applicant"))
    assert study.best_value == min(trial.value for trial in study.trials if trial.value is not None)


def test_a_bad_trial_is_given_up_after_a_fold(dataset: Dataset, searching: TrainingSettings) -> None:
    study = searched(dataset, changed(searching, trials=8), 8)
    pruned = [trial for trial in study.trials if trial.state is TrialState.PRUNED]
    assert pruned
    for trial in pruned:
        earlier = [one.intermediate_values[0] for one in study.trials[: trial.number] if one.state in FINISHED]
        assert len(trial.user_attrs[FOLDS]) == 1
        assert trial.number >= 2
        assert trial.intermediate_values[0] < max(earlier)


def test_the_value_of_a_trial_is_that_of_its_parameters(dataset: Dataset, searching: TrainingSettings) -> None:
    study = searched(dataset, searching, 1)
    best = study.best_trial
    folds = tuning_folds(dataset, 2, searching)
    scores = []
    for fold in folds:
        margins, trees = fitted_margins(fold, best.params | {"subsample_freq": 1}, searching)
        scores.append(score_of(fold.judged_target, margins, searching))
        assert trees <= 30
    assert best.value == np.mean(scores)


def test_optimism_is_what_was_promised_and_not_kept(dataset: Dataset, searching: TrainingSettings) -> None:
    settings = changed(searching, nested={"folds": 2, "trials": 2}, trials=2)
    tuned = tune(dataset, settings, Progress(quiet=True))
    nested = tuned.nested
    assert isinstance(nested, NestedEstimate)
    assert (len(nested.promised), len(nested.kept)) == (2, 2)
    assert nested.optimism == pytest.approx(np.mean(nested.promised) - np.mean(nested.kept))
    assert nested.auc.low < nested.auc.value < nested.auc.high
    assert nested.gain.low < nested.gain.value < nested.gain.high
    names = optuna.get_all_study_names(settings.tuning.storage)
    assert sorted(names) == ["lightgbm", "lightgbm, outer fold 0", "lightgbm, outer fold 1"]


def test_every_finished_trial_is_recorded_once(dataset: Dataset, searching: TrainingSettings) -> None:
    settings = changed(searching, study="recorded", trials=3)
    tune(dataset, changed(settings, study="recorded", trials=2), Progress(quiet=True))
    tune(dataset, settings, Progress(quiet=True))
    runs = mlflow.search_runs(
        experiment_names=[settings.tuning.experiment], filter_string="tags.study = 'recorded'", output_format="list"
    )
    trials = sorted(run.data.tags["trial"] for run in runs if "trial" in run.data.tags)
    assert trials == ["0", "1", "2"]
    first = next(run for run in runs if run.data.tags.get("trial") == "0")
    assert {"fold_0_f_beta", "fold_1_f_beta", "fold_0_trees", "seconds", "value"} <= set(first.data.metrics)
    assert first.data.tags["data.sha256"] == dataset.fingerprint


def test_the_winner_is_used_without_editing(
    searching: TrainingSettings, generated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, found = tmp_path / "training.yaml", tmp_path / "tuned.yaml"
    values = searching.model_dump(mode="json")
    values["tracking"]["model"] = "tuned_model"
    path.write_text(yaml.safe_dump(values))
    common = ["--data", str(generated), "--settings", str(path)]
    assert main(["tune", *common, "--trials", "2", "--study", "mine", "--output", str(found)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert (printed[0].split(";")[0], printed[-1].split(";")[0]) == ("2 trials", f"written to {found}")
    study = optuna.load_study(study_name="mine", storage=searching.tuning.storage)
    applied = TunedParameters.apply(found, searching).model.parameters
    assert study.best_params.items() <= applied.stated().items()
    assert applied.cat_l2 == searching.model.parameters.cat_l2
    assert main(["run", *common, "--params", str(found), "--no-promote"]) == 0


def example() -> TunedParameters:
    origin = Winner(study="s", objective="auc", value=0.7, trials=3, data_sha256="00")
    return TunedParameters(parameters={"num_leaves": 5}, winner=origin)


def test_a_file_of_parameters_is_read_as_it_was_written(tmp_path: Path) -> None:
    example().write(tmp_path / "tuned.yaml")
    assert TunedParameters.load(tmp_path / "tuned.yaml") == example()
    assert [path.name for path in tmp_path.iterdir()] == ["tuned.yaml"]


def test_parameters_that_are_not_legal_are_refused_by_file_and_name(settings: TrainingSettings, tmp_path: Path) -> None:
    path = tmp_path / "tuned.yaml"
    example().model_copy(update={"parameters": {"num_leaves": 1}}).write(path)
    with pytest.raises(SettingsError, match=rf"^{path}: model\.parameters\.num_leaves: "):
        TunedParameters.apply(path, settings)


def test_a_search_that_could_not_be_written_does_not_begin(
    searching: TrainingSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "training.yaml"
    path.write_text(yaml.safe_dump(searching.model_dump(mode="json")))
    assert main(["tune", "--settings", str(path), "--output", str(tmp_path / "none" / "tuned.yaml")]) == 1
    assert capsys.readouterr().err.endswith("tuned.yaml: not a file in a folder that exists\n")
    assert not (tmp_path / "optuna").exists()


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        example().write(tmp_path / "none" / "tuned.yaml")


@pytest.mark.parametrize(
    "changes",
    [
        {"trials": 0},
        {"folds": 1},
        {"objective": "accuracy"},
        {"space": {"learning_rate": {"low": 0.3, "high": 0.01, "log": True}}},
        {"space": {"learning_rate": {"low": 0.0, "high": 0.01, "log": True}}},
        {"space": {"num_leaves": {"low": 1, "high": 10}}},
        {"space": {"leaves": {"low": 2, "high": 10}}},
    ],
    ids=str,
)
def test_a_search_that_makes_no_sense_is_refused(
    settings: TrainingSettings, tmp_path: Path, changes: dict[str, Any]
) -> None:
    values = settings.model_dump(mode="json")
    space = values["tuning"]["space"] | changes.get("space", {})
    values["tuning"] |= {**changes, "space": space}
    path = tmp_path / "training.yaml"
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(SettingsError, match=r"training\.yaml: tuning\."):
        TrainingSettings.load(path)
