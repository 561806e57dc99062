"""What was observed of a part of the rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.measures import Ranking
from training.evaluation import observe, observe_bands


def test_rows_are_counted_and_averaged() -> None:
    members = np.array([True, True, False, True])
    observed = observe(np.array([0, 1, 1, 0]), np.array([0.1, 0.4, 0.9, 0.1]), members, 0.95)
    assert observed.rows == 3
    assert observed.mean_probability == pytest.approx(0.2)
    assert observed.default_rate is not None
    assert observed.default_rate.value == pytest.approx(1 / 3)
    assert observed.default_rate.low < 1 / 3 < observed.default_rate.high


@given(st.lists(st.tuples(st.sampled_from([0.01, 0.02, 0.5]) | st.floats(0.01, 0.99), st.booleans()), min_size=20))
def test_bands_hold_every_row_once_and_rise(rows: list[tuple[float, bool]]) -> None:
    probability, target = np.array([p for p, _ in rows]), np.array([int(bad) for _, bad in rows])
    bands = observe_bands(target, probability, 10, 0.95)
    means = [band.mean_probability for band in bands if band.mean_probability is not None]
    assert sum(band.rows for band in bands) == len(rows)
    assert (means, len(means)) == (sorted(means), len(bands))


def test_the_ece_is_the_mean_gap_of_the_bands() -> None:
    random = np.random.default_rng(1)
    probability = random.uniform(0.01, 0.4, 1000)
    target = (random.random(1000) < probability).astype(np.int64)
    gaps = [
        band.rows * abs(band.mean_probability - band.default_rate.value)
        for band in observe_bands(target, probability, 10, 0.95)
        if band.mean_probability is not None and band.default_rate is not None
    ]
    expected = dict(Ranking.of(target, probability, 10)._probability_statistics(np.ones(1000)))["ece"]
    assert sum(gaps) / 1000 == pytest.approx(expected)
