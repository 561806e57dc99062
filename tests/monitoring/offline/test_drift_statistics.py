from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from scipy.spatial.distance import jensenshannon

from monitoring import statistics
from monitoring.statistics import chi_squared_survival, hypergeometric_p_value

Counts = NDArray[np.int64]
COUNTS = st.lists(st.tuples(st.integers(5, 500), st.integers(5, 500)), min_size=2, max_size=12).map(
    lambda pairs: (np.array([[a for a, _ in pairs]]), np.array([[b for _, b in pairs]]))
)


@pytest.mark.slow
@given(COUNTS)
def test_statistics_agree_with_scipy(counts: tuple[Counts, Counts]) -> None:
    reference, window = counts
    values = [np.repeat(np.arange(each.shape[1]), each[0]) for each in counts]
    np.testing.assert_allclose(statistics.jensen_shannon(*counts), jensenshannon(reference[0], window[0], 2), atol=1e-7)
    np.testing.assert_allclose(statistics.kolmogorov_smirnov(*counts), stats.ks_2samp(*values).statistic, atol=1e-12)
    ranks = stats.mannwhitneyu(values[1], values[0], use_continuity=False, method="asymptotic")
    np.testing.assert_allclose(statistics.rank_sum_test(*counts), ranks.pvalue, rtol=1e-6)


def test_chi_squared_agrees_with_scipy_where_every_bin_is_filled() -> None:
    random = np.random.default_rng(1)
    reference, window = random.integers(200, 400, (20, 12)), random.integers(50, 100, (20, 12))
    expected = [stats.chi2_contingency(np.stack(pair)).pvalue for pair in zip(reference, window, strict=True)]
    np.testing.assert_allclose(statistics.chi_squared_test(reference, window), expected, rtol=1e-9)


@given(st.integers(0, 60), st.floats(0, 120))
def test_the_tail_of_chi_squared_is_exact(dof: int, value: float) -> None:
    expected = stats.chi2.sf(value, dof) if dof else 1.0
    np.testing.assert_allclose(chi_squared_survival(np.array([value]), np.array([dof])), expected, rtol=1e-9)


@pytest.mark.parametrize("dof", [2_047, 2_048, 5_001, 20_001])
def test_the_tail_of_chi_squared_is_exact_for_thousands_of_bins(dof: int) -> None:
    values = dof + np.array([-200.0, 0.0, 200.0])
    found = chi_squared_survival(values, np.full(3, dof))
    np.testing.assert_allclose(found, stats.chi2.sf(values, dof), rtol=1e-7)


@pytest.mark.slow
@given(st.integers(0, 40), st.integers(0, 40))
def test_rare_events_are_tested_exactly(before: int, now: int) -> None:
    rare = stats.hypergeom(30_300, before + now, 300)
    expected = min(1.0, 2 * min(rare.sf(now - 1), rare.cdf(now)))
    counts = np.array([[30_000 - before, before]]), np.array([[300 - now, now]])
    np.testing.assert_allclose(hypergeometric_p_value(*counts), expected, rtol=1e-6)
    swapped = (each[:, ::-1] for each in counts)
    np.testing.assert_allclose(hypergeometric_p_value(*swapped), expected, rtol=1e-6)


def test_several_pairs_of_columns_are_tested_each_by_itself() -> None:
    reference = np.array([[90, 10], [5, 95], [50, 50], [8, 2]])
    window = np.array([[8, 2], [1, 19], [3, 7], [8, 2]])
    rows, drawn, total = (reference + window).sum(axis=1), window.sum(axis=1), reference[:, 0] + window[:, 0]
    up = stats.hypergeom.sf(window[:, 0] - 1, rows, total, drawn)
    down = stats.hypergeom.cdf(window[:, 0], rows, total, drawn)
    expected = np.minimum(2 * np.minimum(up, down), 1.0)
    np.testing.assert_allclose(hypergeometric_p_value(reference, window), expected, rtol=1e-9)


def test_benjamini_hochberg_agrees_with_scipy() -> None:
    p_values = np.random.default_rng(2).random(50) ** 3
    np.testing.assert_allclose(statistics.benjamini_hochberg(p_values), stats.false_discovery_control(p_values))


@pytest.mark.parametrize("rows", [300, 1_000, 10_000])
def test_the_psi_of_no_drift_is_the_bias_on_average_and_rarely_beyond_the_quantile(rows: int) -> None:
    random = np.random.default_rng(3)
    shares = np.full(10, 0.1)
    reference, window = random.multinomial(30_000, shares, 4_000), random.multinomial(rows, shares, 4_000)
    psi = statistics.psi(reference, window)
    assert psi.mean() == pytest.approx(statistics.psi_bias(reference, window)[0], rel=0.05)
    beyond = np.mean(psi > statistics.psi_quantile(reference, window, 0.99))
    assert 0.004 < beyond < 0.018


def test_an_empty_bin_counts_half_a_row_and_no_bin_counts_nothing() -> None:
    reference, window = np.array([[200, 0, 0]]), np.array([[90, 10, 0]])
    expected = -0.1 * np.log(0.9) + (0.1 - 0.0025) * np.log(0.1 / 0.0025)
    assert statistics.psi(reference, window).tolist() == pytest.approx([expected])
