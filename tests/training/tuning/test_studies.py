"""Studies: the same trials whatever is killed, resumed or shared, in SQLite and in PostgreSQL."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import yaml
from optuna.trial import Trial, TrialState

from tests import postgres
from tests.skipped import missing
from tests.training.tuning.searches import TRIALS, changed, searched, summary
from training.dataset import Dataset
from training.errors import StudyError
from training.search.study import FINISHED, FOLDS, TuningFold, open_study, value_of
from training.settings import TrainingSettings

ROOT = Path(__file__).resolve().parents[3]


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
import yaml
from tests.home_credit import PORTFOLIO
from training.dataset import load_dataset
from training.settings import TrainingSettings
from training.search import study as objective
from training.search.study import open_study, run_trials
settings = TrainingSettings.model_validate(yaml.safe_load(Path({str(path)!r}).read_text()))
dataset = load_dataset(Path({str(generated)!r}), PORTFOLIO)
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


@pytest.fixture(params=["sqlite", "postgresql"])
def shared(request: pytest.FixtureRequest, searching: TrainingSettings) -> Iterator[TrainingSettings]:
    """Settings of a search whose database several processes may use."""
    if request.param == "sqlite":
        yield searching
        return
    programs = postgres.installed()
    if programs is None:
        pytest.skip(missing("initdb"))
    with postgres.running(programs) as address:
        yield changed(searching, storage=address)


def test_processes_that_share_a_study_divide_its_trials(
    dataset: Dataset, shared: TrainingSettings, generated: Path, tmp_path: Path
) -> None:
    path = tmp_path / "shared.yaml"
    path.write_text(yaml.safe_dump(shared.model_dump(mode="json")))
    code = f"""
from pathlib import Path
import yaml
from tests.home_credit import PORTFOLIO
from training.dataset import load_dataset
from training.settings import TrainingSettings
from training.search.study import open_study, run_trials, tuning_folds
settings = TrainingSettings.model_validate(yaml.safe_load(Path({str(path)!r}).read_text()))
dataset = load_dataset(Path({str(generated)!r}), PORTFOLIO)
study = open_study("shared", dataset, settings)
run_trials(study, 8, tuning_folds(dataset, 2, settings), settings)
"""
    open_study("shared", dataset, shared)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    both = [subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=environment) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    trials = open_study("shared", dataset, shared).get_trials()
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


def test_a_trial_that_another_process_took_too_and_finished_first_keeps_its_value(
    dataset: Dataset, searching: TrainingSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(trial: Trial, folds: Sequence[TuningFold], settings: TrainingSettings) -> float:
        if trial.number == 0:
            open_study(searching.tuning.study, dataset, searching).tell(0, 0.25)
        return value_of(trial, folds, settings)

    monkeypatch.setattr("training.search.study.value_of", late)
    searched(dataset, searching, 2)
    study = open_study(searching.tuning.study, dataset, searching)
    assert [trial.state in FINISHED for trial in study.trials] == [True, True]
    assert study.trials[0].value == 0.25


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
