"""Fitting, folds, calibration and evaluation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from features.transformer import FeatureTransformer
from jobs.commandline import Progress
from monitoring.measures import auc, fit_line
from scoring.model import Calibration
from scoring.policy import RiskLevel
from scoring.scorer import Scorer
from tests.home_credit import PORTFOLIO
from training.dataset import Dataset, load_dataset
from training.evaluation import evaluate
from training.fitting import (
    CrossValidation,
    Fold,
    calibrate,
    cross_calibrated,
    cross_validate,
    fit_early_stopped,
    fit_state,
    fit_trees,
    text,
)
from training.run import Delivered
from training.settings import TrainingSettings
from training.trainer import train


@pytest.fixture(scope="module")
def dataset(generated: Path) -> Dataset:
    return load_dataset(generated, PORTFOLIO)


@pytest.fixture(scope="module")
def validation(dataset: Dataset, settings: TrainingSettings) -> CrossValidation:
    return cross_validate(dataset, settings.features, settings.model, seed=1)


def altered(dataset: Dataset, rows: np.ndarray) -> Dataset:
    """The same data with the columns of some rows turned into nonsense."""
    numbers, levels = dataset.columns.numbers.copy(), dataset.columns.levels.copy()
    numbers[rows] = -numbers[rows] * 1e6
    levels[rows] = "never seen"
    return replace(dataset, columns=type(dataset.columns)(numbers, levels, dataset.portfolio))


def test_every_row_is_judged_once(dataset: Dataset, validation: CrossValidation) -> None:
    judged = np.sort(np.concatenate([fold.judged for fold in validation.folds]))
    assert judged.tolist() == list(range(len(dataset)))
    assert np.isfinite(validation.margins).all()


def test_folds_are_stratified(dataset: Dataset, validation: CrossValidation) -> None:
    defaults = [int(dataset.target[fold.judged].sum()) for fold in validation.folds]
    assert max(defaults) - min(defaults) <= 1


def test_judged_rows_teach_nothing(dataset: Dataset, settings: TrainingSettings, validation: CrossValidation) -> None:
    """Nonsense in the rows that a fold judges changes neither its features nor its number of trees."""
    fold = validation.folds[0]
    other = cross_validate(altered(dataset, fold.judged), settings.features, settings.model, seed=1).folds[0]
    assert (other.features, other.trees) == (fold.features, fold.trees)
    assert other.judged.tolist() == fold.judged.tolist()


def test_a_fit_is_stopped_by_rows_it_does_not_learn_from(settings: TrainingSettings) -> None:
    """Trees always get better on the rows they learn from; on others, noise soon makes them worse."""
    random = np.random.default_rng(4)
    noise, outcomes = random.normal(size=(2_000, 10)), random.integers(0, 2, 2_000)
    stopping = settings.model.early_stopping.model_copy(update={"rounds": 20})
    model = settings.model.model_copy(update={"max_trees": 400, "early_stopping": stopping})
    booster = fit_early_stopped(noise, outcomes, (), model, names=(), seed=1)
    assert booster.best_iteration < 100


def test_the_delivered_calibration_is_that_of_out_of_fold_margins(delivered: Delivered, dataset: Dataset) -> None:
    trained = delivered.trained
    assert trained.calibration == calibrate(trained.validation.margins, dataset.target)


def test_a_fit_is_repeatable_on_any_number_of_threads(dataset: Dataset, settings: TrainingSettings) -> None:
    state = fit_state(dataset.columns, dataset.target, settings.features, settings.model, seed=1)
    transformer = FeatureTransformer(state)
    matrix = transformer.transform(dataset.columns)

    def trees(threads: int, seed: int) -> str:
        model = settings.model.model_copy(update={"threads": threads})
        booster = fit_trees(
            matrix, dataset.target, transformer.categorical, model, names=state.names, trees=20, seed=seed
        )
        return text(booster).split("\nparameters:")[0]

    assert trees(1, 5) == trees(1, 5) == trees(2, 5)
    assert trees(1, 5) != trees(1, 6)


def test_the_importance_filter_ranks_by_a_model_of_the_fold(dataset: Dataset, settings: TrainingSettings) -> None:
    def names(share: float | None) -> tuple[str, ...]:
        filters = settings.features.filters.model_copy(update={"importance": share})
        chosen = settings.features.model_copy(update={"filters": filters})
        return fit_state(dataset.columns, dataset.target, chosen, settings.model, seed=1).names

    everything, some, few = names(None), names(0.0), names(0.02)
    assert set(few) < set(some) < set(everything)
    assert "ext_source_mean" in few


def test_the_number_of_trees_of_the_refit_is_the_mean_of_the_folds() -> None:
    folds = [Fold(np.array([0]), (), trees, 0.5) for trees in (10, 11, 14)]
    assert CrossValidation(tuple(folds), np.zeros(1)).trees == 12


def test_calibration_recovers_the_line_that_made_the_outcomes() -> None:
    random = np.random.default_rng(2)
    margins = random.normal(-2, 1.5, 200_000)
    truth = Calibration(slope=0.7, intercept=-0.4)
    target = (random.random(200_000) < truth.probabilities(margins)).astype(np.int64)
    line = fit_line(margins, target)
    assert abs(line.slope - 0.7) < 4 * line.slope_error < 0.04
    assert abs(line.intercept + 0.4) < 4 * line.intercept_error < 0.08


def test_a_fold_is_calibrated_on_the_others(dataset: Dataset, validation: CrossValidation) -> None:
    fold = validation.folds[0]
    others = np.setdiff1d(np.arange(len(dataset)), fold.judged)
    calibration = calibrate(validation.margins[others], dataset.target[others])
    expected = calibration.probabilities(validation.margins[fold.judged])
    assert cross_calibrated(validation, dataset.target)[fold.judged].tolist() == expected.tolist()


def test_calibrated_probabilities_have_the_mean_of_the_outcomes(delivered: Delivered) -> None:
    evaluation = delivered.trained.evaluation
    mean = float(delivered.trained.probabilities.mean())
    assert mean == pytest.approx(evaluation.defaults / evaluation.rows, rel=0.05)


def test_an_evaluation_counts_what_the_policy_decides(delivered: Delivered, dataset: Dataset) -> None:
    trained = delivered.trained
    true_negative, false_positive, false_negative, true_positive = trained.evaluation.confusion
    declined = trained.probabilities >= 1 / 11
    assert true_positive == int(dataset.target[declined].sum())
    assert false_positive == int(declined.sum()) - true_positive
    assert false_negative + true_positive == trained.evaluation.defaults
    assert true_negative + false_positive + false_negative + true_positive == trained.evaluation.rows


def test_risk_levels_cover_everybody_and_rise(delivered: Delivered) -> None:
    levels = delivered.trained.evaluation.levels
    assert [level.level for level in levels] == list(RiskLevel)
    assert sum(level.rows for level in levels) == delivered.trained.evaluation.rows
    means = [level.mean_probability for level in levels if level.mean_probability is not None]
    assert means == sorted(means)


def test_a_level_nobody_is_in_has_no_rate(delivered: Delivered, settings: TrainingSettings) -> None:
    target, probability = np.array([0, 1, 0, 1]), np.array([0.001, 0.002, 0.003, 0.004])
    evaluation = evaluate(target, probability, delivered.trained.policy, settings.evaluation, seed=1)
    assert [(level.rows, level.default_rate is None) for level in evaluation.levels] == [
        (4, False), (0, True), (0, True), (0, True),
    ]  # fmt: skip


def test_the_same_seed_gives_the_same_intervals(delivered: Delivered, settings: TrainingSettings) -> None:
    target, probability = np.array([0, 1] * 50), np.linspace(0.01, 0.5, 100)

    def ks(seed: int) -> object:
        return evaluate(target, probability, delivered.trained.policy, settings.evaluation, seed=seed)["ks"]

    assert (ks(1) == ks(1), ks(1) == ks(2)) == (True, False)


def test_protected_attributes_are_out_and_their_price_is_measured(delivered: Delivered) -> None:
    names = delivered.trained.features.names
    barred = {"CODE_GENDER", "NAME_FAMILY_STATUS", "DAYS_BIRTH", "age_years", "employment_to_age"}
    assert barred.isdisjoint(names)
    price = delivered.trained.price
    assert price.low < price.value < price.high


def test_without_protected_attributes_there_is_no_price(settings: TrainingSettings) -> None:
    assert settings.features.without == (
        "sex",
        "marital_status",
        "age",
    )


def test_the_truth_is_a_ceiling_that_the_model_comes_near(
    delivered: Delivered, dataset: Dataset, generated: Path
) -> None:
    truth = pd.read_csv(generated / "true_pd.csv", index_col="SK_ID_CURR")["TRUE_PD"]
    true_probability = truth.loc[dataset.ids].to_numpy()
    estimated = delivered.trained.probabilities
    ceiling, reached = auc(dataset.target, true_probability), auc(dataset.target, estimated)
    assert ceiling - 0.12 < reached < ceiling
    assert np.corrcoef(estimated, true_probability)[0, 1] > 0.5
    riskiest = estimated > np.quantile(estimated, 0.9)
    assert true_probability[riskiest].mean() > 2 * true_probability.mean()


def test_the_artefact_of_a_training_scores_as_it_was_evaluated(delivered: Delivered, dataset: Dataset) -> None:
    scorer = Scorer(delivered.trained.artefact({}))
    scores = scorer.score(dataset.columns)
    assert scorer.model.trees == delivered.trained.validation.trees
    assert abs(float(scores.probability.mean()) - float(dataset.target.mean())) < 0.02


def test_two_trainings_with_one_seed_write_the_same_bytes(
    dataset: Dataset, settings: TrainingSettings, tmp_path: Path
) -> None:
    written = []
    for name in ("first", "second"):
        train(dataset, settings, Progress(quiet=True)).artefact({}).write(tmp_path / name)
        written.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert written[0] == written[1]
    assert "model.txt" in written[0]


def test_the_drift_reference_counts_the_rows_that_the_model_was_fitted_on(
    delivered: Delivered, generated: Path
) -> None:
    dataset, trained = load_dataset(generated, PORTFOLIO), delivered.trained
    transformer = FeatureTransformer(trained.features)
    matrix = transformer.transform(dataset.columns)
    assert tuple(trained.reference.features) == trained.features.names
    assert trained.reference.bin(matrix).tolist() == trained.reference.counts.tolist()
    assert trained.reference.rows == len(dataset)
    assert {bins.kind for bins in trained.reference.features.values()} == {"numeric", "category"}
    shares = {name: share / sum(gain for _, gain in trained.importance) for name, share in trained.importance}
    assert trained.reference.importance == pytest.approx(shares)
