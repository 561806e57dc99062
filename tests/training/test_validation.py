"""Data that is too small to judge a model on."""

from __future__ import annotations

import numpy as np
import pytest

from training.dataset import refuse_too_few
from training.errors import DataError


@pytest.mark.parametrize(("defaults", "good"), [(9, 100), (100, 9), (0, 0)])
def test_too_few_of_either_outcome_are_refused(defaults: int, good: int) -> None:
    target = np.repeat([1, 0], [defaults, good])
    with pytest.raises(DataError, match=f"^{defaults} defaults in {defaults + good} rows are too few: 5 folds .* 10 "):
        refuse_too_few(target, folds=5, per_fold=2)


def test_just_enough_of_both_is_enough() -> None:
    refuse_too_few(np.repeat([1, 0], [10, 10]), folds=5, per_fold=2)
