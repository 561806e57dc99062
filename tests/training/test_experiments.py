"""Experiments: what is fitted on which rows, how candidates are compared, and what is recorded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from jobs.commandline import Progress
from jobs.errors import SettingsError
from monitoring.measures import auc, auc_difference
from tests.home_credit import PORTFOLIO
from training.cli import main
from training.dataset import Dataset, load_dataset
from training.errors import CalibrationError
from training.evaluation import decision_policy
from training.experiments import EXPERIMENTS, compare, table_lines
from training.fitting import calibrated_by_fold, cross_validate, splits
from training.model_families import (
    Candidate,
    CrossFitted,
    FoldMatrices,
    Resampler,
    blended,
    candidate,
    cross_fit,
    cross_fitted,
    encoder,
    fold_matrices,
    sampled,
    stacked,
)
from training.search_settings import Family, Sampling
from training.settings import TrainingSettings

ROOT = Path(__file__).resolve().parents[2]


def nothing() -> None:
    """Progress that nobody looks at."""


@pytest.fixture(scope="module")
def dataset(generated: Path) -> Dataset:
    return load_dataset(generated, PORTFOLIO)


@pytest.fixture(scope="module")
def quick(settings: TrainingSettings) -> TrainingSettings:
    """The tests' settings with the smallest experiments that make sense."""
    values = settings.model_dump(mode="json")
    values["model"] |= {"max_trees": 20}
    values["experiments"]["model_selection"]["random_forest"]["trees"] = 10
    values["experiments"]["model_selection"]["neural_network"]["epochs"] = 2
    values["experiments"]["feature_engineering"] |= {"trees": 20, "feature_sets": {"domain": ["baseline", "domain"]}}
    return TrainingSettings.model_validate(values)


@pytest.fixture(scope="module")
def fold(dataset: Dataset, quick: TrainingSettings) -> FoldMatrices:
    fitted, judged = next(splits(dataset.target, 3, seed=quick.seed))
    return fold_matrices(dataset, fitted, judged, quick.features, quick.model, seed=quick.seed)


@pytest.mark.parametrize("family", [family for family in Family if family is not Family.DUMMY])
def test_a_family_ranks_rows_it_never_saw_and_does_so_again(
    dataset: Dataset, quick: TrainingSettings, fold: FoldMatrices, family: Family
) -> None:
    _, judged = next(splits(dataset.target, 3, seed=quick.seed))
    margins = candidate(family, quick).margins(fold)
    assert margins.shape == judged.shape
    assert auc(dataset.target[judged], margins) > 0.55
    assert margins.tolist() == candidate(family, quick).margins(fold).tolist()


def test_lightgbm_is_the_model_that_is_delivered(dataset: Dataset, quick: TrainingSettings) -> None:
    groups = {"": (quick.features, [candidate(Family.LIGHTGBM, quick)])}
    (fitted,) = cross_fit(dataset, groups, quick, nothing)
    validation = cross_validate(dataset, quick.features, quick.model, seed=quick.seed)
    judged = [fold.judged for fold in validation.folds]
    expected = calibrated_by_fold(validation.margins, dataset.target, judged)
    assert fitted.probabilities.tolist() == expected.tolist()


def test_the_dummy_gives_everybody_the_default_rate(dataset: Dataset, quick: TrainingSettings) -> None:
    (dummy,) = cross_fit(dataset, {"": (quick.features, [candidate(Family.DUMMY, quick)])}, quick, nothing)
    assert set(dummy.probabilities) == {dataset.target.mean()}


def test_a_candidate_sees_the_outcomes_of_the_other_folds_only(dataset: Dataset, quick: TrainingSettings) -> None:
    seen: list[NDArray[np.int64]] = []

    def margins(fold: FoldMatrices) -> NDArray[np.float64]:
        seen.append(fold.target)
        return -np.nan_to_num(fold.judged[:, fold.names.index("ext_source_mean")])

    (fitted,) = cross_fit(dataset, {"g": (quick.features, [Candidate("c", {}, margins)])}, quick, nothing)
    others = [np.setdiff1d(np.arange(len(dataset)), judged) for judged in fitted.judged]
    assert [outcomes.tolist() for outcomes in seen] == [dataset.target[rows].tolist() for rows in others]
    assert (fitted.name, np.sort(np.concatenate(fitted.judged)).tolist()) == ("g + c", list(range(len(dataset))))


def test_progress_is_told_of_every_fit(dataset: Dataset, quick: TrainingSettings) -> None:
    told: list[int] = []
    dummy = candidate(Family.DUMMY, quick)
    cross_fit(dataset, {"a": (quick.features, [dummy, dummy])}, quick, lambda: told.append(1))
    assert len(told) == 2 * quick.model.folds


def test_encoded_numbers_are_complete_and_standardized_by_the_fitted_rows() -> None:
    fitted = np.array([[1.0, 0.0], [np.nan, 1.0], [3.0, np.nan], [np.inf, 0.0]])
    pipeline = encoder(2, [1]).fit(fitted)
    np.testing.assert_allclose(
        pipeline.transform(np.array([[2.0, 7.0], [3.0, 1.0], [np.nan, np.nan]])),
        [[0.0, 0.0, 0.0, 0.0], [np.sqrt(2), 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]],
    )


@pytest.mark.parametrize(
    ("sampling", "good", "bad"),
    [
        (Sampling.NONE, 80, 20),
        (Sampling.BALANCED_WEIGHTS, 80, 20),
        (Sampling.SMOTE, 80, 80),
        (Sampling.UNDERSAMPLING, 20, 20),
        (Sampling.HYBRID, 40, 40),
    ],
)
def test_sampling_makes_the_outcomes_as_rare_as_it_says(
    quick: TrainingSettings, sampling: Sampling, good: int, bad: int
) -> None:
    matrix = np.random.default_rng(1).normal(size=(100, 3))
    target = np.repeat([0, 1], [80, 20])
    resampler = Resampler(sampling, quick.experiments.feature_engineering.sampling, seed=1)
    rows, outcomes, weight = resampler(matrix, target)
    assert (len(rows), np.bincount(outcomes).tolist()) == (good + bad, [good, bad])
    if sampling is Sampling.BALANCED_WEIGHTS:
        assert weight is not None
        assert (weight[target == 0].sum(), weight[target == 1].sum()) == pytest.approx((50, 50))
    else:
        assert weight is None


@pytest.mark.parametrize("sampling", [Sampling.SMOTE, Sampling.UNDERSAMPLING, Sampling.HYBRID])
def test_outcomes_that_are_balanced_already_are_left_alone(quick: TrainingSettings, sampling: Sampling) -> None:
    matrix, target = np.zeros((20, 1)), np.repeat([0, 1], 10)
    resampler = Resampler(sampling, quick.experiments.feature_engineering.sampling, seed=1)
    rows, outcomes, _ = resampler(matrix, target)
    assert (rows.tolist(), outcomes.tolist()) == (matrix.tolist(), target.tolist())


@pytest.mark.parametrize("sampling", Sampling)
def test_every_way_of_sampling_judges_all_rows_of_the_fold(
    quick: TrainingSettings, fold: FoldMatrices, sampling: Sampling
) -> None:
    one = sampled(sampling, quick.experiments.feature_engineering, quick.model, seed=1)
    margins = one.margins(fold)
    assert (len(margins), bool(np.isfinite(margins).all())) == (len(fold.judged), True)
    assert margins.tolist() == one.margins(fold).tolist()


def said(name: str, margins: Sequence[float] | NDArray[np.float64], target: NDArray[np.int64]) -> CrossFitted:
    """What a candidate with these margins said, in two folds."""
    judged = [np.arange(0, len(target), 2), np.arange(1, len(target), 2)]
    return cross_fitted(name, {}, np.asarray(margins, dtype=np.float64), target, judged, seconds=1.0)


@pytest.fixture
def outcomes() -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    random = np.random.default_rng(5)
    truth = random.normal(-2, 1.5, 4000)
    return (random.random(4000) < 1 / (1 + np.exp(-truth))).astype(np.int64), truth


def test_candidates_are_ordered_and_judged_by_paired_differences(
    quick: TrainingSettings, outcomes: tuple[NDArray[np.int64], NDArray[np.float64]]
) -> None:
    target, truth = outcomes
    random = np.random.default_rng(6)
    candidates = [
        said("poor", truth + random.normal(0, 3, 4000), target),
        said("near", truth + random.normal(0, 0.1, 4000), target),
        said("truth", truth, target),
    ]
    compared = compare(candidates, target, decision_policy(quick.policy), quick.evaluation, seed=1)
    assert {one.candidate.name for one in compared[:2]} == {"truth", "near"}
    assert [one.verdict for one in compared] == ["best", "as good", "worse"]
    best, poor = compared[0], compared[2]
    assert (best.auc_behind, best.cost_behind) == (None, None)
    together = 1 - (1 - quick.evaluation.confidence) / 2
    expected = auc_difference(target, poor.candidate.probabilities, best.candidate.probabilities, together)
    assert poor.auc_behind == expected
    assert poor.cost_behind is not None
    costs = [one.evaluation["cost_per_applicant"].value for one in (poor, best)]
    assert poor.cost_behind.value == pytest.approx(costs[0] - costs[1])
    assert poor.cost_behind.low > 0


def test_a_blend_is_the_mean_and_a_stack_is_fitted_on_the_other_fold(
    outcomes: tuple[NDArray[np.int64], NDArray[np.float64]],
) -> None:
    """Two halves of the truth: each alone ranks worse than both together; noise is left out by the stack."""
    target, truth = outcomes
    random = np.random.default_rng(7)
    part = random.normal(0, 1, 4000)
    members = [said("a", truth / 2 + part, target), said("b", truth / 2 - part, target)]
    alone = max(auc(target, member.probabilities) for member in members)
    assert auc(target, blended(members, target).probabilities) > alone + 0.05
    noisy = [*members, said("noise", random.normal(0, 1, 4000) + truth / 20, target)]
    stack = stacked(noisy, target)
    assert auc(target, stack.probabilities) > alone + 0.05
    assert (stack.parameters["members"], stack.seconds) == ("a,b,noise", 3.0)


def test_margins_are_calibrated_on_the_other_folds_only(
    outcomes: tuple[NDArray[np.int64], NDArray[np.float64]],
) -> None:
    target, truth = outcomes
    judged = [np.arange(2000), np.arange(2000, 4000)]
    changed = target.copy()
    changed[:200] = 1 - changed[:200]
    before, after = (calibrated_by_fold(truth, outcome, judged) for outcome in (target, changed))
    assert before[:2000].tolist() == after[:2000].tolist()
    assert before[2000:].tolist() != after[2000:].tolist()


def test_margins_that_fall_with_the_default_rate_cannot_be_calibrated(
    outcomes: tuple[NDArray[np.int64], NDArray[np.float64]],
) -> None:
    target, truth = outcomes
    with pytest.raises(CalibrationError, match=r"^backwards: the model ranks no better than chance"):
        said("backwards", -truth, target)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_is_recorded_candidate_by_candidate(dataset: Dataset, quick: TrainingSettings, name: str) -> None:
    compared = EXPERIMENTS[name].run(dataset, quick, Progress(quiet=True))
    experiment = getattr(quick.experiments, name).experiment
    runs = {run.info.run_name: run for run in mlflow.search_runs(experiment_names=[experiment], output_format="list")}
    assert set(runs) == {"comparison", *(one.candidate.name for one in compared)}
    best = compared[0]
    run = runs[best.candidate.name]
    assert run.data.metrics["auc"] == best.evaluation["auc"].value
    assert [run.data.metrics[f"fold_{i}_auc"] for i in range(3)] == list(best.fold_auc)
    assert run.data.tags["data.sha256"] == dataset.fingerprint
    assert (run.data.tags["verdict"], run.data.params["folds"]) == ("best", "3")
    assert run.data.metrics["seconds"] == pytest.approx(best.candidate.seconds)
    figures = mlflow.MlflowClient().list_artifacts(run.info.run_id, "figures")
    assert len(figures) == 5


def test_the_grid_has_every_combination(dataset: Dataset, quick: TrainingSettings) -> None:
    fitted = EXPERIMENTS["feature_engineering"].fit(dataset, quick, Progress(quiet=True))
    assert {one.name for one in fitted} == {f"domain + {sampling}" for sampling in Sampling}


def written(quick: TrainingSettings, folder: Path, **changes: Any) -> Path:
    values = quick.model_dump(mode="json")
    values["experiments"]["model_selection"] |= changes
    path = folder / "training.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_the_command_ends_with_a_table(
    quick: TrainingSettings, generated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(quick, tmp_path, families=["lightgbm", "xgboost", "dummy"], ensemble=["lightgbm", "xgboost"])
    command = ["experiments", "--only", "model_selection", "--data", str(generated), "--settings", str(path)]
    assert main(command) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "model_selection:"
    assert printed[1].split()[:3] == ["candidate", "verdict", "AUC"]
    assert sorted(line.split()[0] for line in printed[2:-1]) == ["blend", "dummy", "lightgbm", "stack", "xgboost"]
    assert [line.split()[1] for line in printed[2:-1]].count("best") == 1


def test_the_columns_of_a_table_are_aligned(
    quick: TrainingSettings, outcomes: tuple[NDArray[np.int64], NDArray[np.float64]]
) -> None:
    target, truth = outcomes
    noise = np.random.default_rng(8).normal(0, 3, 4000)
    candidates = [said("a", truth, target), said("longer name", truth + noise, target)]
    compared = compare(candidates, target, decision_policy(quick.policy), quick.evaluation, seed=1)
    lines = list(table_lines(compared))
    assert len({line.index(word) for line, word in zip(lines, ("verdict", "best", "worse"), strict=True)}) == 1


def test_an_unknown_experiment_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["experiments", "--only", "astrology"]) == 1
    assert (
        capsys.readouterr().err == "error: --only astrology: not one of model_selection, feature_engineering, options\n"
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"ensemble": ["lightgbm", "dummy"]},
        {"families": ["lightgbm", "dummy"], "ensemble": ["lightgbm", "xgboost"]},
        {"families": ["lightgbm", "lightgbm", "xgboost"], "ensemble": ["lightgbm", "xgboost"]},
        {"families": ["lightgbm", "magic"]},
        {"random_forest": {"trees": 0, "min_samples_leaf": 1, "max_features": 0.5}},
    ],
    ids=str,
)
def test_experiments_that_make_no_sense_are_refused(
    quick: TrainingSettings, tmp_path: Path, changes: dict[str, Any]
) -> None:
    with pytest.raises(SettingsError, match=r"experiments\.model_selection"):
        TrainingSettings.load(written(quick, tmp_path, **changes))
