"""The application table as it is declared: bounds by hand, so that a slip of the pen is seen."""

from __future__ import annotations

import pytest

from features import APPLICATION, Kind

LIFETIME = 120 * 365.25
BOUNDS = {
    "CNT_CHILDREN": (0, 30),
    "CNT_FAM_MEMBERS": (0, 40),
    "AMT_INCOME_TOTAL": (1, 1_000_000_000),  # nobody lends nothing, or to somebody without any income
    "AMT_CREDIT": (1, 1_000_000_000),
    "AMT_ANNUITY": (0, 1_000_000_000),
    "AMT_GOODS_PRICE": (0, 1_000_000_000),
    "DAYS_BIRTH": (-LIFETIME, -16 * 365.25),  # of age in every country
    "DAYS_EMPLOYED": (-LIFETIME, 0),
    "DAYS_REGISTRATION": (-LIFETIME, 0),
    "DAYS_ID_PUBLISH": (-LIFETIME, 0),
    "DAYS_LAST_PHONE_CHANGE": (-LIFETIME, 0),
    "OWN_CAR_AGE": (0, 120),
    "REGION_RATING_CLIENT": (1, 3),
    "REGION_RATING_CLIENT_W_CITY": (1, 3),
    "HOUR_APPR_PROCESS_START": (0, 23),
}
BOUNDS_OF_KIND = {Kind.FLAG: (0, 1), Kind.NUMBER: (0, 1), Kind.COUNT: (0, 1000)}
LEVELS = {
    "NAME_CONTRACT_TYPE": 2, "CODE_GENDER": 2, "FLAG_OWN_CAR": 2, "FLAG_OWN_REALTY": 2, "NAME_TYPE_SUITE": 7,
    "NAME_INCOME_TYPE": 8, "NAME_EDUCATION_TYPE": 5, "NAME_FAMILY_STATUS": 5, "NAME_HOUSING_TYPE": 6,
    "OCCUPATION_TYPE": 18, "WEEKDAY_APPR_PROCESS_START": 7, "ORGANIZATION_TYPE": 57, "FONDKAPREMONT_MODE": 4,
    "HOUSETYPE_MODE": 3, "WALLSMATERIAL_MODE": 7, "EMERGENCYSTATE_MODE": 2,
}  # fmt: skip


@pytest.mark.parametrize("column", list(APPLICATION.numeric), ids=lambda column: column.name)
def test_the_bounds_are_those_of_the_thing_that_is_measured(column):
    assert (column.low, column.high) == BOUNDS.get(column.name, BOUNDS_OF_KIND[column.kind])


def test_every_category_has_its_levels():
    assert {column.name: len(column.levels) for column in APPLICATION.categorical} == LEVELS
    organizations = APPLICATION["ORGANIZATION_TYPE"].levels
    numbered = {
        name: sum(level.startswith(name) for level in organizations) for name in ("Industry", "Trade", "Transport")
    }
    assert numbered == {"Industry": 13, "Trade": 7, "Transport": 4}
    assert {"Industry: type 1", "Industry: type 13", "Trade: type 1", "Trade: type 7", "Transport: type 4"} <= set(
        organizations
    )
    assert APPLICATION["WEEKDAY_APPR_PROCESS_START"].levels[0] == "MONDAY"
