"""What every derived feature is, on one application; and which features there are."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.features.examples import columns, matrix
from tests.home_credit import CATALOGUE, PORTFOLIO

APPLICANT = {
    "AMT_INCOME_TOTAL": 160_000,
    "AMT_CREDIT": 400_000,
    "AMT_ANNUITY": 20_000,
    "AMT_GOODS_PRICE": 320_000,
    "CNT_FAM_MEMBERS": 4,
    "DAYS_BIRTH": -14_610,
    "DAYS_EMPLOYED": -2_922,
    "DAYS_REGISTRATION": -7_305,
    "DAYS_ID_PUBLISH": -1_461,
    "DAYS_LAST_PHONE_CHANGE": -730,
    "OWN_CAR_AGE": 10,
    "EXT_SOURCE_1": 0.2,
    "EXT_SOURCE_2": 0.5,
    "EXT_SOURCE_3": 0.8,
    "APARTMENTS_AVG": 0.5,
    "AMT_REQ_CREDIT_BUREAU_YEAR": 1,
    "FLAG_DOCUMENT_2": 0,
    "FLAG_DOCUMENT_3": 1,
    "FLAG_DOCUMENT_21": 1,
    "bureau_credits": 4,
    "bureau_recent_credits_365d": 1,
    "bureau_active_debt": 40_000,
    "bureau_active_credit": 80_000,
    "bureau_card_debt": 5_000,
    "bureau_card_credit": 20_000,
    "previous_approved": 2,
    "previous_refused": 1,
    "previous_mean_annuity": 8_000,
    "previous_largest_annuity": 10_000,
    "previous_largest_credit": 100_000,
    "card_last_balance": 32_000,
    "card_paid": 3_000,
    "card_minimum": 1_500,
    "instalments_largest": 16_000,
}
# 103 numeric columns tell no protected attribute; the applicant above states 18 of them, the age aside.
DERIVED = {
    "credit_to_income": 2.5,
    "employment_years": 8.0,
    "income_per_person": 40_000.0,
    "age_years": 40.0,
    "credit_to_goods": 1.25,
    "ext_source_1_squared": 0.04,
    "ext_source_2_squared": 0.25,
    "ext_source_3_squared": 0.64,
    "days_birth_squared": 14_610.0**2,
    "days_employed_squared": 2_922.0**2,
    "ext_source_1_times_2": 0.1,
    "ext_source_1_times_3": 0.16,
    "ext_source_1_times_days_birth": -2_922.0,
    "ext_source_1_times_days_employed": -584.4,
    "ext_source_2_times_3": 0.4,
    "ext_source_2_times_days_birth": -7_305.0,
    "ext_source_2_times_days_employed": -1_461.0,
    "ext_source_3_times_days_birth": -11_688.0,
    "ext_source_3_times_days_employed": -2_337.6,
    "days_birth_times_days_employed": 14_610.0 * 2_922.0,
    "ext_source_mean": 0.5,
    "ext_source_weighted_mean": 0.55,
    "ext_source_min": 0.2,
    "ext_source_max": 0.8,
    "ext_source_deviation": math.sqrt(0.06),
    "ext_source_product": 0.08,
    "credit_to_annuity": 20.0,
    "annuity_to_income": 0.125,
    "goods_to_income": 2.0,
    "credit_to_ext_source_3": 500_000.0,
    "down_payment": -80_000.0,
    "employment_to_age": 0.2,
    "registration_to_age": 0.5,
    "id_publish_to_age": 0.1,
    "phone_change_to_age": 73 / 1461,
    "car_age_to_age": -1 / 1461,
    "car_age_to_employment": -10 / 2922,
    "income_to_employment": -160_000 / 2922,
    "registration_after_id": -5_844.0,
    "phone_after_id": 731.0,
    "ext_source_1_missing": 0.0,
    "ext_source_2_missing": 0.0,
    "ext_source_3_missing": 0.0,
    "employment_missing": 0.0,
    "goods_price_missing": 0.0,
    "building_missing": 0.0,
    "enquiries_missing": 0.0,
    "missing_count": 103.0 - 18.0,
    "document_count": 2.0,
    "bureau_debt_to_income": 0.25,
    "bureau_debt_to_credit": 0.5,
    "bureau_card_use": 0.25,
    "bureau_recent_share": 0.25,
    "annuity_to_previous": 2.0,
    "annuity_to_previous_mean": 2.5,
    "annuity_to_instalments": 1.25,
    "credit_to_previous": 4.0,
    "previous_refused_to_approved": 0.5,
    "card_balance_to_income": 0.2,
    "card_paid_to_minimum": 2.0,
}
STATED_OF_NOTHING = {
    **dict.fromkeys(DERIVED, math.nan),
    "credit_to_income": 2.5,
    **dict.fromkeys((name for name in DERIVED if name.endswith("_missing")), 1.0),
    "missing_count": 101.0,
}


def test_every_derived_feature_is_in_the_table():
    assert tuple(DERIVED) == tuple(feature.name for feature in CATALOGUE if feature.expression is not None)


@pytest.mark.parametrize("name", DERIVED)
def test_the_formula(name):
    assert matrix(columns(APPLICANT), name)[0, 0] == pytest.approx(DERIVED[name], rel=1e-14)


@pytest.mark.parametrize("name", DERIVED)
def test_the_feature_of_an_applicant_who_states_no_more_than_is_required(name):
    np.testing.assert_array_equal(matrix(columns({}), name)[0, 0], STATED_OF_NOTHING[name])


@pytest.mark.parametrize("name", DERIVED)
def test_features_that_are_chosen_together_are_those_that_are_chosen_alone(name):
    together = matrix(columns(APPLICANT), *DERIVED)[0]
    assert together[list(DERIVED).index(name)] == matrix(columns(APPLICANT), name)[0, 0]


@pytest.mark.parametrize(
    ("name", "applicant", "expected"),
    [
        ("credit_to_goods", {"AMT_GOODS_PRICE": 0}, math.nan),
        ("credit_to_goods", {"AMT_CREDIT": 0, "AMT_GOODS_PRICE": 5}, 0.0),
        ("credit_to_ext_source_3", {"EXT_SOURCE_3": 0}, math.nan),
        ("income_per_person", {"CNT_FAM_MEMBERS": 0}, math.nan),
        ("employment_years", {"DAYS_EMPLOYED": 365243}, math.nan),
        ("employment_missing", {"DAYS_EMPLOYED": 365243}, 1.0),
        ("employment_missing", {"DAYS_EMPLOYED": 0}, 0.0),
        ("phone_after_id", {"DAYS_LAST_PHONE_CHANGE": 0, "DAYS_ID_PUBLISH": -5}, math.nan),
        ("missing_count", {"DAYS_EMPLOYED": 365243}, 101.0),
        ("missing_count", {"DAYS_EMPLOYED": 0}, 100.0),
        ("missing_count", {"DAYS_BIRTH": -9000}, 101.0),
        ("missing_count", {"CODE_GENDER": "F", "ORGANIZATION_TYPE": "Bank"}, 101.0),
        ("ext_source_mean", {"EXT_SOURCE_1": 0.25, "EXT_SOURCE_3": 0.5}, 0.375),
        ("ext_source_weighted_mean", {"EXT_SOURCE_1": 0.25, "EXT_SOURCE_3": 0.5}, 0.4),
        ("ext_source_min", {"EXT_SOURCE_2": 0.25, "EXT_SOURCE_3": 0.5}, 0.25),
        ("ext_source_max", {"EXT_SOURCE_2": 0.25, "EXT_SOURCE_3": 0.5}, 0.5),
        ("ext_source_deviation", {"EXT_SOURCE_2": 0.25, "EXT_SOURCE_3": 0.75}, 0.25),
        ("ext_source_deviation", {"EXT_SOURCE_2": 0.25}, 0.0),
        ("ext_source_product", {"EXT_SOURCE_1": 0.25, "EXT_SOURCE_3": 0.5}, math.nan),
        ("days_employed_squared", {"DAYS_EMPLOYED": 365243}, math.nan),
        ("document_count", {"FLAG_DOCUMENT_4": 0}, 0.0),
        ("bureau_recent_share", {"bureau_credits": 0, "bureau_recent_credits_365d": 0}, math.nan),
        ("previous_refused_to_approved", {"previous_refused": 2, "previous_approved": 0}, math.nan),
        ("card_paid_to_minimum", {"card_paid": 0, "card_minimum": 0}, math.nan),
    ],
)
def test_the_formula_at_its_edges(name, applicant, expected):
    np.testing.assert_array_equal(matrix(columns(applicant), name), [[expected]])


@pytest.mark.parametrize(
    ("group", "count"),
    [("baseline", 120), ("domain", 5), ("polynomial", 15), ("application", 29), ("history", 109), ("histories", 11)],
)
def test_a_group_is_chosen_alone_or_with_others(group, count):
    alone = PORTFOLIO.select((group,), ())
    assert len(alone) == count
    assert {feature.group for feature in alone} == {group}
    assert [feature for feature in PORTFOLIO.select(PORTFOLIO.sets, ()) if feature.group == group] == list(alone)


def test_names_are_unique_and_described():
    assert len({feature.name for feature in CATALOGUE}) == len(CATALOGUE)
    assert all(feature.description for feature in CATALOGUE)
