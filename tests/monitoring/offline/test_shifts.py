"""What is measured of literal counts, which level that is, which column is to blame, and when the alarm goes off."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from scipy import stats

from monitoring import statistics
from monitoring.drift import DriftLevel, Shift, carried_importance, judge, measure, rank_columns
from monitoring.errors import WindowError
from monitoring.settings import DriftSettings
from monitoring.statistics import chi_squared_survival, hypergeometric_p_value, normal_p_value
from scoring.drift_reference import Bins, DriftReference, Window

SETTINGS = DriftSettings.model_validate(
    {
        "false_alarm_rate": 0.02,
        "min_rows": 100,
        "psi": {"moderate": 0.1, "major": 0.25},
        "importance": {"important": 0.3, "bound_factor": 0.5, "alarming": 0.4},
        "missing_shift": 0.1,
        "unseen_share": 0.05,
    }
)


def counts(*rows: list[int]) -> np.ndarray:
    return np.array(rows, dtype=np.int64)


def one(values: np.ndarray) -> float:
    assert values.shape == (1,)
    return float(values[0])


@pytest.mark.parametrize(
    ("reference", "window", "bins"),
    [([60, 40, 0], [5, 5, 0], 1), ([97, 3, 0], [10, 0, 0], 30 / 110), ([10, 0, 0], [5, 0, 0], 0), ([0, 0], [0, 0], 0)],
)
def test_the_bias_of_the_psi_counts_bins_as_far_as_a_row_is_expected_in_them(reference, window, bins):
    spread = 1 / max(sum(reference), 1) + 1 / max(sum(window), 1)
    assert one(statistics.psi_bias(counts(reference), counts(window))) == pytest.approx(bins * spread)


@pytest.mark.parametrize("confidence", [0.9, 0.99])
@pytest.mark.parametrize("filled", [3, 10])
def test_the_quantile_of_the_psi_is_that_of_chi_squared(filled, confidence):
    reference, window = [20] * filled + [0], [4] * filled + [0]
    spread = 1 / sum(reference) + 1 / sum(window)
    found = one(statistics.psi_quantile(counts(reference), counts(window), confidence))
    assert found == pytest.approx(stats.chi2.ppf(confidence, filled - 1) * spread, rel=0.011)


def test_one_bin_has_no_drift():
    assert one(statistics.psi_quantile(counts([9, 0]), counts([4, 0]), 0.99)) == 0.0


def test_an_empty_side_has_no_distance_and_no_share():
    assert one(statistics.kolmogorov_smirnov(counts([5, 5]), counts([0, 0]))) == 0.0
    assert one(statistics.kolmogorov_smirnov(counts([0, 0]), counts([5, 5]))) == 0.0
    assert statistics.kolmogorov_smirnov(counts([5, 5], [5, 5]), counts([0, 0], [5, 0])).tolist() == [0.0, 0.5]
    assert statistics.kolmogorov_smirnov(counts([0, 0], [5, 0]), counts([5, 5], [5, 5])).tolist() == [0.0, 0.5]
    assert one(statistics.share(counts([0, 0]), np.array([1]))) == 0.0
    assert one(statistics.share(counts([1, 3]), np.array([1]))) == 0.75
    assert one(statistics.share(counts([0, 1]), np.array([1]))) == 1.0
    assert one(statistics.rank_sum_test(counts([5, 5]), counts([0, 0]))) == 1.0


def test_samples_without_a_common_bin_are_at_distance_one():
    assert one(statistics.jensen_shannon(counts([7, 0]), counts([0, 3]))) == 1.0
    assert one(statistics.kolmogorov_smirnov(counts([7, 0]), counts([0, 3]))) == 1.0


def pearson(*table: list[int]) -> float:
    return float(stats.chi2_contingency(np.array(table), correction=False).pvalue)


def test_rare_bins_are_tested_together():
    # of 130 rows 30 are in the window: a bin needs 22 rows in all for five to be expected there
    found = one(statistics.chi_squared_test(counts([60, 20, 12, 8]), counts([10, 8, 7, 5])))
    assert found == pytest.approx(pearson([60, 20, 20], [10, 8, 12]))


def test_rare_bins_that_are_rare_together_are_left_out():
    found = one(statistics.chi_squared_test(counts([60, 37, 2, 1]), counts([10, 19, 1, 0])))
    # the two large bins alone, as samples of 97 and 29 rows
    assert found == pytest.approx(pearson([60, 37], [10, 19]), rel=0.05)


def test_a_bin_of_exactly_five_expected_rows_stands_alone():
    found = one(statistics.chi_squared_test(counts([40, 6, 4]), counts([40, 4, 6])))
    assert found == pytest.approx(pearson([40, 6, 4], [40, 4, 6]))


@pytest.mark.parametrize(("before", "now"), [(40, 30), (5, 5), (300, 20)])
def test_a_share_with_enough_rows_is_tested_like_a_table(before, now):
    reference, window = counts([1000 - before, before]), counts([100 - now, now])
    few = (before + now) * 100 / 1100 < 5
    rare = stats.hypergeom(1100, before + now, 100)
    exact = min(1.0, 2 * min(rare.sf(now - 1), rare.cdf(now)))
    expected = exact if few else pearson([1000 - before, before], [100 - now, now])
    assert one(statistics.share_test(reference, window, np.array([1]))) == pytest.approx(expected, rel=1e-6)


def test_a_share_of_nothing_or_of_everything_has_not_changed():
    assert one(statistics.share_test(counts([10, 0]), counts([5, 0]), np.array([1]))) == 1.0
    assert one(statistics.share_test(counts([10, 0]), counts([5, 0]), np.array([0]))) == 1.0


def test_either_of_two_bins_may_be_counted():
    one_way = hypergeometric_p_value(counts([995, 5]), counts([96, 4]))
    other = hypergeometric_p_value(counts([5, 995]), counts([4, 96]))
    assert one(one_way) == pytest.approx(one(other), rel=1e-9)
    assert one(hypergeometric_p_value(counts([995, 5]), counts([96, 4]))) == pytest.approx(
        2 * stats.hypergeom(1100, 9, 100).sf(3), rel=1e-9
    )


def test_tails_at_their_ends():
    assert chi_squared_survival(np.array([0.0, 3.0, 0.0]), np.array([0, 0, 4])).tolist() == [1.0, 1.0, 1.0]
    assert normal_p_value(np.array([0.0, 1.959963984540054, -1.959963984540054])) == pytest.approx([1.0, 0.05, 0.05])


def test_adjusted_p_values_are_at_most_one_and_in_the_order_given():
    found = statistics.benjamini_hochberg(np.array([0.9, 0.001, 0.8, 0.02]))
    assert found == pytest.approx([0.9, 0.004, 0.9, 0.04])


NUMBER, CATEGORY = Bins("numeric", (1.0, 2.0), (40, 40, 20, 0, 0)), Bins("category", (0.0, 1.0), (60, 30, 5, 5))
REFERENCE, WINDOW = (
    counts([400, 400, 180, 0, 20], [600, 300, 50, 50, 0]),
    counts([90, 60, 40, 0, 10], [100, 70, 20, 10, 0]),
)


def measured(settings: DriftSettings = SETTINGS, bound_factor: tuple[float, float] = (1.0, 1.0)) -> list[Shift]:
    gain = {"importance": np.array([0.6, 0.4]), "carried": np.array([0.7, 0.5])}
    bins = {"number": NUMBER, "category": CATEGORY}
    return measure(bins, gain, REFERENCE.ravel(), WINDOW.ravel(), settings, bound_factor=np.array(bound_factor))


def test_every_measure_is_taken_over_its_own_bins():
    number, category = measured()
    assert (number.name, number.importance, number.carried) == ("number", 0.6, 0.7)
    assert (number.missing, number.missing_shift) == pytest.approx((0.05, 0.03))
    assert (number.unseen, number.unseen_shift) == (0.0, 0.0)
    assert (category.missing, category.missing_shift) == pytest.approx((0.05, 0.0))
    assert (category.unseen, category.unseen_shift) == pytest.approx((0.1, 0.05))
    # of values that are present: 90, 150 of 190 against 400, 800 of 980
    assert number.ks == pytest.approx(max(abs(90 / 190 - 400 / 980), abs(150 / 190 - 800 / 980)))
    assert math.isnan(category.ks)
    for shift, row in zip((number, category), (0, 1), strict=True):
        pair = REFERENCE[[row]], WINDOW[[row]]
        assert shift.psi == pytest.approx(one(statistics.psi(*pair)))
        assert shift.excess == pytest.approx(max(one(statistics.psi(*pair)) - one(statistics.psi_bias(*pair)), 0.0))
        assert shift.chance == pytest.approx(one(statistics.psi_quantile(*pair, 0.99)))
        assert shift.jensen_shannon == pytest.approx(one(statistics.jensen_shannon(*pair)))


def test_a_p_value_is_the_smallest_of_three_times_three():
    number, category = measured()
    both = [REFERENCE[[0]], WINDOW[[0]]]
    known = [each[:, :3] for each in both]
    tests = [
        one(statistics.chi_squared_test(*both)),
        one(statistics.share_test(*both, np.array([4]))),
        one(statistics.rank_sum_test(*known)),
    ]
    assert number.p_value == pytest.approx(min(1.0, 3 * min(tests)))
    both = [REFERENCE[[1]], WINDOW[[1]]]
    tests = [
        one(statistics.chi_squared_test(*both)),
        *(one(statistics.share_test(*both, np.array([column]))) for column in (3, 2)),
    ]
    assert category.p_value == pytest.approx(min(1.0, 3 * min(tests)))
    adjusted = statistics.benjamini_hochberg(np.array([number.p_value, category.p_value]))
    assert [number.adjusted, category.adjusted] == pytest.approx(adjusted.tolist())


def test_features_of_any_width_are_measured_as_each_by_itself():
    random = np.random.default_rng(5)
    levels = [3, 126, 127, 5_000, 10, 300]
    bins = {str(n): Bins.empty("category", tuple(map(float, range(n)))) for n in levels}
    parts = [
        [random.multinomial(rows, np.full(each.size, 1 / each.size)) for each in bins.values()]
        for rows in (60_000, 50_000)
    ]
    gain = {"importance": np.ones(1), "carried": np.ones(1)}
    many = {name: np.ones(len(bins)) for name in gain}
    together = measure(bins, many, *map(np.concatenate, parts), SETTINGS, bound_factor=np.ones(len(bins)))
    for (name, each), before, now, shift in zip(bins.items(), *parts, together, strict=True):
        (alone,) = measure({name: each}, gain, before, now, SETTINGS, bound_factor=np.ones(1))
        assert (shift.name, shift.p_value) == (name, pytest.approx(alone.p_value))
        assert (shift.psi, shift.excess, shift.chance, shift.jensen_shannon, shift.missing, shift.unseen) == (
            pytest.approx((alone.psi, alone.excess, alone.chance, alone.jensen_shannon, alone.missing, alone.unseen))
        )


def test_judging_takes_no_memory_for_the_widest_of_all_features():
    features, levels = 100, 20_000
    bins = {str(i): Bins.empty("category", tuple(map(float, range(levels if i == 0 else 5)))) for i in range(features)}
    flat = np.ones(sum(each.size for each in bins.values()), dtype=np.int64)
    gain = {name: np.ones(features) for name in ("importance", "carried")}
    tracemalloc.start()
    measure(bins, gain, flat, flat, SETTINGS, bound_factor=np.ones(features))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < features * levels * flat.itemsize / 4


def changed(**values: object) -> DriftSettings:
    return SETTINGS.model_copy(update=values)


def psi_bounds(moderate: float, major: float) -> object:
    return SETTINGS.psi.model_copy(update={"moderate": moderate, "major": major})


def test_the_family_takes_half_of_the_rate_of_false_alarms():
    adjusted = measured()[0].adjusted
    assert 0.0 < adjusted < 0.1
    assert measured(changed(false_alarm_rate=2.001 * adjusted))[0].significant
    assert not measured(changed(false_alarm_rate=1.999 * adjusted))[0].significant


def test_the_bounds_on_the_psi_are_narrower_for_what_matters():
    number, _ = measured(bound_factor=(0.5, 1.0))
    assert (number.moderate, number.major) == (0.05, 0.125)


def levels(settings: DriftSettings) -> list[DriftLevel]:
    return [shift.level for shift in measured(settings)]


def test_a_level_is_reached_at_its_bound():
    lenient = {"false_alarm_rate": 0.2, "missing_shift": 1.0, "unseen_share": 1.0}
    excess = measured()[1].excess
    assert excess > 0
    above, below = excess * 1.01, excess * 0.99
    assert levels(changed(**lenient, psi=psi_bounds(above, 2 * above)))[1] is DriftLevel.STABLE
    assert levels(changed(**lenient, psi=psi_bounds(excess, 2 * above)))[1] is DriftLevel.MODERATE
    assert levels(changed(**lenient, psi=psi_bounds(below, excess)))[1] is DriftLevel.MAJOR


def test_missing_and_unseen_values_are_major_drift_at_their_bounds():
    lenient = {"false_alarm_rate": 0.2, "psi": psi_bounds(8.0, 9.0)}
    assert levels(changed(**lenient, missing_shift=1.0, unseen_share=0.051)) == [DriftLevel.STABLE, DriftLevel.STABLE]
    assert levels(changed(**lenient, missing_shift=1.0, unseen_share=0.0499)) == [DriftLevel.STABLE, DriftLevel.MAJOR]
    assert levels(changed(**lenient, missing_shift=0.0299, unseen_share=1.0)) == [DriftLevel.MAJOR, DriftLevel.STABLE]
    assert levels(changed(**lenient, missing_shift=0.031, unseen_share=1.0)) == [DriftLevel.STABLE, DriftLevel.STABLE]


def test_fewer_missing_values_are_drift_as_much_as_more():
    settings = changed(false_alarm_rate=0.2, psi=psi_bounds(8.0, 9.0), missing_shift=0.1, unseen_share=1.0)
    gain = {"importance": np.ones(1), "carried": np.ones(1)}
    full, holes = np.array([300, 300, 300, 0, 10]), np.array([240, 240, 240, 0, 200])
    for pair in ((full, holes), (holes, full)):
        (shift,) = measure({"number": NUMBER}, gain, *pair, settings, bound_factor=np.ones(1))
        assert shift.level is DriftLevel.MAJOR


def test_what_may_be_chance_is_no_drift():
    settings = changed(psi=psi_bounds(1e-6, 2e-6), missing_shift=1e-6, unseen_share=1e-6, false_alarm_rate=1e-12)
    assert levels(settings) == [DriftLevel.STABLE, DriftLevel.STABLE]


def shifted(name: str, excess: float, importance: float, level: DriftLevel, *, significant: bool = True) -> Shift:
    numbers = dict.fromkeys(Shift.__slots__, 0.0)
    return Shift(
        **numbers
        | {"name": name, "excess": excess, "importance": importance, "level": level, "significant": significant}
    )


SOURCES = {
    "credit_to_income": ("AMT_CREDIT", "AMT_INCOME_TOTAL"),
    "annuity_to_income": ("AMT_ANNUITY", "AMT_INCOME_TOTAL"),
}


def test_a_derived_feature_is_charged_to_the_source_that_moved_most():
    shifts = [
        shifted("AMT_CREDIT", 0.1, 0.2, DriftLevel.STABLE),
        shifted("AMT_INCOME_TOTAL", 0.4, 0.1, DriftLevel.MAJOR),
        shifted("AMT_ANNUITY", 0.5, 0.1, DriftLevel.STABLE, significant=False),
        shifted("credit_to_income", 0.3, 0.5, DriftLevel.MODERATE),
        shifted("annuity_to_income", 0.2, 0.1, DriftLevel.STABLE),
        shifted("EXT_SOURCE_1", 0.9, 0.01, DriftLevel.MAJOR),
    ]
    found = rank_columns(shifts, SOURCES)
    assert [(culprit.name, culprit.features) for culprit in found] == [
        ("AMT_INCOME_TOTAL", ("AMT_INCOME_TOTAL", "credit_to_income")),
        ("EXT_SOURCE_1", ("EXT_SOURCE_1",)),
    ]
    assert [culprit.weight for culprit in found] == pytest.approx([0.4 * 0.1 + 0.3 * 0.5, 0.9 * 0.01])


def test_a_derived_feature_whose_sources_stand_still_is_to_blame_itself():
    shifts = [
        shifted("AMT_CREDIT", 0.3, 0.2, DriftLevel.STABLE, significant=False),
        shifted("credit_to_income", 0.3, 0.5, DriftLevel.MODERATE),
    ]
    assert [culprit.name for culprit in rank_columns(shifts, SOURCES)] == ["credit_to_income"]


def test_of_columns_of_equal_weight_the_one_that_moved_more_is_first():
    shifts = [shifted("AMT_CREDIT", 0.2, 0.4, DriftLevel.MAJOR), shifted("AMT_ANNUITY", 0.4, 0.2, DriftLevel.MAJOR)]
    assert [culprit.name for culprit in rank_columns(shifts, SOURCES)] == ["AMT_ANNUITY", "AMT_CREDIT"]


def test_a_column_carries_its_part_of_what_is_derived_from_it():
    importance = {"AMT_CREDIT": 0.1, "AMT_INCOME_TOTAL": 0.2, "credit_to_income": 0.4, "annuity_to_income": 0.3}
    # two of the model's columns share credit_to_income, one alone carries annuity_to_income
    assert carried_importance(importance, SOURCES) == pytest.approx([0.3, 0.7, 0.4, 0.3])


def model(importance: tuple[float, float] = (0.5, 0.5)) -> DriftReference:
    bins = {
        "AMT_CREDIT": Bins("numeric", (1.0,), (500, 500, 0, 0)),
        "AMT_ANNUITY": Bins("numeric", (1.0,), (500, 500, 0, 0)),
    }
    named = dict(zip(bins, importance, strict=True))
    return DriftReference(bins, Bins("numeric", (0.1,), (500, 500, 0, 0)), named, 1000)


def window(credit: int, annuity: int, pd: int, rows: int = 1000) -> Window:
    """A window with so many rows in the lower of the two bins."""
    return Window(
        np.array([credit, rows - credit, 0, 0, annuity, rows - annuity, 0, 0]), np.array([pd, rows - pd, 0, 0])
    )


def test_a_window_like_the_reference_raises_no_alarm():
    judgement = judge(model(), window(500, 500, 500), SETTINGS)
    assert (judgement.alarm, judgement.reasons, judgement.drifted, judgement.drifted_columns) == (False, (), (), ())
    assert (judgement.rows, judgement.reference_rows, judgement.false_alarm_rate) == (1000, 1000, 0.02)


def test_a_drift_of_the_score_alone_raises_the_alarm():
    judgement = judge(model(), window(500, 500, 700), SETTINGS)
    assert judgement.alarm
    assert judgement.reasons == (f"the score has moderate drift: PSI {judgement.score.excess:.3f} beyond chance",)
    assert (judgement.score.importance, judgement.score.moderate, judgement.score.major) == (1.0, 0.1, 0.25)


@pytest.mark.parametrize(
    ("importance", "reasons"),
    [
        ((0.2, 0.8), ()),  # moderate drift of what carries less than 40 % of the gain
        ((0.4, 0.6), ("40.0% of the model's gain rests on features that have drifted",)),
    ],
)
def test_moderate_drift_raises_the_alarm_where_enough_of_the_gain_rests_on_it(importance, reasons):
    judgement = judge(model(importance), window(670, 500, 500), SETTINGS)
    assert [shift.level for shift in judgement.features] == [DriftLevel.MODERATE, DriftLevel.STABLE]
    assert judgement.reasons == reasons
    assert [culprit.name for culprit in judgement.drifted_columns] == ["AMT_CREDIT"]
    assert [shift.name for shift in judgement.drifted] == ["AMT_CREDIT"]


def test_drifting_features_carry_their_shares_together():
    judgement = judge(model((0.25, 0.75)), window(670, 640, 500), SETTINGS)
    assert [shift.level for shift in judgement.features] == [DriftLevel.MODERATE, DriftLevel.MODERATE]
    assert judgement.reasons == ("100.0% of the model's gain rests on features that have drifted",)


@pytest.mark.parametrize(("annuity", "said"), [(500, "major drift of 1 feature"), (900, "major drift of 2 features")])
def test_major_drift_raises_the_alarm_whatever_it_carries(annuity, said):
    judgement = judge(model((0.01, 0.99)), window(900, annuity, 500), SETTINGS)
    assert judgement.reasons[0] == said


def test_what_carries_much_of_the_gain_has_tighter_bounds():
    light, heavy = judge(model((0.29, 0.71)), window(500, 500, 500), SETTINGS).features
    assert (light.moderate, heavy.moderate, light.major, heavy.major) == (0.1, 0.05, 0.25, 0.125)
    at_the_bound, _ = judge(model((0.3, 0.7)), window(500, 500, 500), SETTINGS).features
    assert at_the_bound.moderate == 0.05


def test_a_window_can_be_held_against_another():
    base = window(900, 500, 500, rows=2000)
    judgement = judge(model(), window(450, 250, 250), SETTINGS, base=base)
    assert judgement.reference_rows == 2000
    assert not judgement.alarm
    assert judge(model(), window(450, 250, 250), SETTINGS).alarm


def test_a_window_needs_enough_rows_over_the_bins_of_the_model():
    assert judge(model(), window(50, 50, 50, rows=100), SETTINGS).rows == 100
    with pytest.raises(WindowError, match=r"^the window has 99 rows, fewer than the 100 that can be judged$"):
        judge(model(), window(50, 50, 50, rows=99), SETTINGS)
    with pytest.raises(WindowError, match=r"^the reference has 99 rows"):
        judge(model(), window(50, 50, 50), SETTINGS, base=window(50, 50, 50, rows=99))
    other = Window(np.array([500, 500, 0, 0]), np.array([500, 500, 0, 0]))
    with pytest.raises(WindowError, match=r"^the window was counted over other bins than those of the model$"):
        judge(model(), other, SETTINGS)
    other = Window(window(500, 500, 500).features, np.array([500, 500, 0]))
    with pytest.raises(WindowError, match=r"^the window was counted over other bins"):
        judge(model(), other, SETTINGS)


def test_two_windows_add_up():
    both = window(500, 400, 300) + window(100, 200, 300)
    assert both.features.tolist() == [600, 1400, 0, 0, 600, 1400, 0, 0]
    assert both.probability.tolist() == [600, 1400, 0, 0]
    assert both.rows == 2000
