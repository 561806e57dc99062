"""The application table as it is declared: bounds by hand, so that a slip of the pen is seen."""

from __future__ import annotations

import pytest

from features.schema import ColumnKind
from tests.home_credit import APPLICATION, STATED_NUMBERS

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
BOUNDS_OF_KIND = {ColumnKind.FLAG: (0, 1), ColumnKind.NUMBER: (0, 1), ColumnKind.COUNT: (0, 1000)}
LEVELS = {
    "NAME_CONTRACT_TYPE": ("Cash loans", "Revolving loans"),
    "CODE_GENDER": ("F", "M"),
    "FLAG_OWN_CAR": ("N", "Y"),
    "FLAG_OWN_REALTY": ("N", "Y"),
    "NAME_TYPE_SUITE": (
        "Children", "Family", "Group of people", "Other_A", "Other_B", "Spouse, partner", "Unaccompanied"
    ),
    "NAME_INCOME_TYPE": (
        "Businessman", "Commercial associate", "Maternity leave", "Pensioner", "State servant", "Student",
        "Unemployed", "Working"
    ),
    "NAME_EDUCATION_TYPE": (
        "Academic degree", "Higher education", "Incomplete higher", "Lower secondary", "Secondary / secondary special"
    ),
    "NAME_FAMILY_STATUS": ("Civil marriage", "Married", "Separated", "Single / not married", "Widow"),
    "NAME_HOUSING_TYPE": (
        "Co-op apartment", "House / apartment", "Municipal apartment", "Office apartment", "Rented apartment",
        "With parents"
    ),
    "OCCUPATION_TYPE": (
        "Accountants", "Cleaning staff", "Cooking staff", "Core staff", "Drivers", "HR staff",
        "High skill tech staff", "IT staff", "Laborers", "Low-skill Laborers", "Managers", "Medicine staff",
        "Private service staff", "Realty agents", "Sales staff", "Secretaries", "Security staff",
        "Waiters/barmen staff"
    ),
    "WEEKDAY_APPR_PROCESS_START": ("MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY", "SUNDAY"),
    "FONDKAPREMONT_MODE": ("not specified", "org spec account", "reg oper account", "reg oper spec account"),
    "HOUSETYPE_MODE": ("block of flats", "specific housing", "terraced house"),
    "WALLSMATERIAL_MODE": ("Block", "Mixed", "Monolithic", "Others", "Panel", "Stone, brick", "Wooden"),
    "EMERGENCYSTATE_MODE": ("No", "Yes"),
}  # fmt: skip
NUMBERED = ("Business Entity Type", "Industry: type", "Trade: type", "Transport: type")
UNITS = {
    "AMT_INCOME_TOTAL": "currency", "AMT_CREDIT": "currency", "AMT_ANNUITY": "currency", "AMT_GOODS_PRICE": "currency",
    "REGION_RATING_CLIENT": "rating", "REGION_RATING_CLIENT_W_CITY": "rating", "OWN_CAR_AGE": "years",
    "HOUR_APPR_PROCESS_START": "hour of day",
}  # fmt: skip
UNIT_OF_KIND = {
    ColumnKind.FLAG: "0 or 1", ColumnKind.NUMBER: "normalized to 0..1", ColumnKind.COUNT: "count",
    ColumnKind.CATEGORY: "level",
}  # fmt: skip


@pytest.mark.parametrize("column", STATED_NUMBERS, ids=lambda column: column.name)
def test_the_bounds_are_those_of_the_thing_that_is_measured(column):
    assert (column.low, column.high) == BOUNDS.get(column.name, BOUNDS_OF_KIND[column.kind])


@pytest.mark.parametrize("column", list(APPLICATION.stated), ids=lambda column: column.name)
def test_every_column_has_the_unit_of_what_is_measured(column):
    days = column.name.startswith("DAYS_")
    assert column.unit == ("days before application" if days else UNITS.get(column.name, UNIT_OF_KIND[column.kind]))


def test_every_category_has_its_levels():
    levels = {column.name: column.levels for column in APPLICATION.categorical}
    organizations = levels.pop("ORGANIZATION_TYPE")
    assert levels == LEVELS
    counted = {name: sum(level.startswith(name) for level in organizations) for name in NUMBERED}
    assert counted == dict(zip(NUMBERED, (3, 13, 7, 4), strict=True))
    for name, count in counted.items():
        assert {f"{name} {number}" for number in range(1, count + 1)} < set(organizations)
    assert [level for level in organizations if not level.startswith(NUMBERED)] == [
        "Advertising", "Agriculture", "Bank", "Cleaning", "Construction", "Culture", "Electricity", "Emergency",
        "Government", "Hotel", "Housing", "Insurance", "Kindergarten", "Legal Services", "Medicine", "Military",
        "Mobile", "Other", "Police", "Postal", "Realtor", "Religion", "Restaurant", "School", "Security",
        "Security Ministries", "Self-employed", "Services", "Telecom", "University",
    ]  # fmt: skip
