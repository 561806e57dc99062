"""Approvals by protected group."""

from __future__ import annotations

import numpy as np
import pytest

from features.schema import Protection
from monitoring.measures import Group, ImpactRatio
from tests.features.examples import columns
from training.gates import GroupComparison, compared, group_lines, group_performances, groups_of, members

SEX = Protection(attribute="sex")
AGE = Protection(attribute="age", bands=(25.0, 62.0), elderly=62.0)


def sex(name: str, rows: int, approved: int) -> Group:
    return Group("sex", name, rows, approved)


def age(name: str, rows: int, approved: int) -> Group:
    return Group("age", name, rows, approved)


def test_approvals_are_counted_by_sex() -> None:
    rows = columns(*({"CODE_GENDER": value} for value in ("F", "F", "F", "M", "M", "XNA", None)))
    approved = np.array([True, True, False, True, False, True, True])
    assert groups_of(rows, "sex", approved) == (sex("F", 3, 2), sex("M", 2, 1))


def test_approvals_are_counted_by_age_band() -> None:
    birthdays = [-9131, -9132, -14610, -22645, -22646, None]  # a year has 365.25 days
    rows = columns(*({"DAYS_BIRTH": days} for days in birthdays))
    found = groups_of(rows, "age", np.array([True, False, False, True, True, True]))
    assert found == (
        age("under 25", 1, 1),
        age("25 to under 40", 1, 0),
        age("40 to under 62", 2, 1),
        age("62 and over", 1, 1),
    )


def test_who_states_a_level_or_an_age_is_found() -> None:
    rows = columns({"NAME_FAMILY_STATUS": "Widow", "DAYS_BIRTH": -9131}, {"DAYS_BIRTH": -9132}, {})
    by_status = members(rows, "marital_status")
    assert list(by_status) == ["Civil marriage", "Married", "Separated", "Single / not married", "Widow"]
    assert by_status["Widow"].tolist() == [True, False, False]
    by_age = {name: found.tolist() for name, found in members(rows, "age").items()}
    assert by_age["under 25"] == [True, False, False]
    assert by_age["25 to under 40"] == [False, True, False]
    assert by_age["62 and over"] == [False, False, False]


def test_a_group_is_observed_and_held_against_the_group_approved_most() -> None:
    target = np.array([0, 1, 1, 0, 0, 0, 0])
    probability = np.array([0.1, 0.4, 0.2, 0.1, 0.4, 0.1, 0.2])
    marked = {"a": np.arange(7) < 4, "b": np.arange(7) >= 5, "c": np.arange(7) == 4}
    first, second, small = group_performances(
        "sex",
        marked,
        target=target,
        probability=probability,
        approved=np.array([True, False, False, False, True, True, True]),
        min_rows=2,
        min_outcomes=2,
        confidence=0.95,
    )
    assert first.impact_ratio is not None
    assert first.impact_ratio.value == pytest.approx(1 / 4)
    assert first.impact_ratio.reference.name == "b"
    assert first.observed is not None
    assert first.observed.default_rate is not None
    assert (first.observed.rows, first.observed.default_rate.value) == (4, 0.5)
    assert first.observed.mean_probability == pytest.approx(0.2)
    assert first.auc is not None
    assert (first.auc.value, second.auc) == (1.0, None)
    assert (small.group.rows, small.impact_ratio, small.observed, small.auc) == (1, None, None, None)


def test_the_least_approved_sex_is_held_against_the_most_approved() -> None:
    women, men = sex("F", 200, 150), sex("M", 100, 60)
    assert list(compared([women, men], SEX, 100)) == [GroupComparison("sex", ImpactRatio(men, women))]
    assert ImpactRatio(men, women).value == pytest.approx(0.6 / 0.75)


def test_every_band_of_an_age_is_compared_and_the_elderly_besides() -> None:
    young, middle, old = age("under 25", 50, 10), age("25 to under 62", 50, 30), age("62 and over", 40, 32)
    bands, elderly = compared([young, middle, old], AGE, 40)
    assert bands == GroupComparison("age", ImpactRatio(young, old))
    assert elderly.elderly == "62 and over against under 62"
    assert elderly.ratio == ImpactRatio(old, age("under 62", 100, 40))
    assert elderly.ratio.value == pytest.approx(0.8 / 0.4)


def test_the_elderly_are_named_by_their_bound_though_they_have_several_bands() -> None:
    protection = Protection(attribute="age", bands=(62.0, 75.0), elderly=62.0)
    groups = [age("under 62", 10, 5), age("62 to under 75", 10, 5), age("75 and over", 10, 5)]
    assert [one.elderly for one in compared(groups, protection, 1)] == ["", "62 and over against under 62"]


def test_bands_are_compared_where_the_elderly_are_too_few() -> None:
    young, middle = age("under 25", 200, 16), age("25 to under 62", 200, 46)
    bands, elderly = compared([young, middle, age("62 and over", 9, 9)], AGE, 100)
    assert bands.ratio == ImpactRatio(young, middle)
    assert elderly.ratio is None


@pytest.mark.parametrize("rows", [99, 0])
def test_small_groups_are_not_judged(rows: int) -> None:
    assert [one.ratio for one in compared([sex("F", 100, 50), sex("M", rows, 0)], SEX, 100)] == [None]
    ages = [age("under 25", 0, 0), age("25", 100, 50), age("62 and over", rows, 0)]
    assert [one.ratio for one in compared(ages, AGE, 100)] == [None, None]


def test_a_group_without_rows_has_no_share() -> None:
    assert list(group_lines([sex("F", 1000, 125), sex("M", 0, 0)])) == [
        "sex F  1000 applications  approved 12.5%",
        "sex M            no rows",
    ]


@pytest.mark.parametrize(("approved", "of_reference", "value"), [(0, 0, 1.0), (1, 0, np.inf), (0, 1, 0.0)])
def test_a_ratio_without_approvals(approved: int, of_reference: int, value: float) -> None:
    assert ImpactRatio(sex("F", 10, approved), sex("M", 10, of_reference)).value == value
