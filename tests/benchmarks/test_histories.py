"""What histories add is measured on the same folds, and is nothing where there is no history."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.histories import expected_auc, measure_gains
from configs.portfolios.home_credit.generator.dataset import synthesize
from jobs.commandline import Progress
from training.errors import DataError
from training.settings import TrainingSettings


@pytest.mark.slow
def test_without_histories_both_models_are_one(generated: Path, settings: TrainingSettings, tmp_path: Path) -> None:
    for name in ("application_train.csv", "application_test.csv", "true_pd.csv"):
        (tmp_path / name).symlink_to(generated / name)
    found = measure_gains(tmp_path, settings, up_to=None, seeds=1, progress=Progress(quiet=True))
    assert (found.applications, found.rollups) == (3_000, len(settings.declared.schema.rolled_up))
    assert [each.difference.value for each in found.gains] == [0.0] * 4
    assert [each.against_truth for each in found.gains] == [0.0] * 4


@pytest.mark.slow
def test_histories_change_the_scores_of_the_clients_who_are_measured(
    tmp_path: Path, settings: TrainingSettings
) -> None:
    data = tmp_path / "data"
    synthesize(data, clients=3_000, seed=11)
    found = measure_gains(data, settings, up_to=101_999, seeds=1, progress=Progress(quiet=True))
    assert 1_600 < found.applications < 1_850
    for each in found.gains:
        assert each.difference.value == pytest.approx(each.together.value - each.application.value, abs=1e-12)
        assert each.of_seeds == pytest.approx([each.difference.value], abs=1e-12)
        assert each.difference.value != 0


def test_data_without_applications_are_refused(settings: TrainingSettings, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"neither application_train\.csv nor \.parquet"):
        measure_gains(tmp_path, settings, up_to=None, seeds=1, progress=Progress(quiet=True))


def test_the_expected_auc_is_that_of_all_pairs_by_their_chance() -> None:
    truth, scores = np.array([0.1, 0.5, 0.2, 0.9]), np.array([0.3, 0.4, 0.1, 0.2])
    chance = truth[:, None] * (1 - truth)
    np.fill_diagonal(chance, 0)
    expected = (chance * (scores[:, None] > scores)).sum() / chance.sum()
    assert expected_auc(truth, scores) == pytest.approx(expected, rel=1e-14)
