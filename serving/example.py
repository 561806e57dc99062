"""An application as a caller sends it: shown on the interactive page and used to warm up. Nobody's data."""

from __future__ import annotations

from typing import Any

EXAMPLE: dict[str, Any] = {
    "client_id": "example",
    "application": {
        "NAME_CONTRACT_TYPE": "Cash loans",
        "FLAG_OWN_CAR": "Y",
        "FLAG_OWN_REALTY": "Y",
        "CNT_CHILDREN": 1,
        "AMT_INCOME_TOTAL": 180000,
        "AMT_CREDIT": 450000,
        "AMT_ANNUITY": 22500,
        "AMT_GOODS_PRICE": 450000,
        "NAME_INCOME_TYPE": "Working",
        "NAME_EDUCATION_TYPE": "Higher education",
        "NAME_HOUSING_TYPE": "House / apartment",
        "REGION_POPULATION_RELATIVE": 0.02,
        "DAYS_EMPLOYED": -2200,
        "DAYS_REGISTRATION": -4200,
        "DAYS_ID_PUBLISH": -2900,
        "OWN_CAR_AGE": 6,
        "OCCUPATION_TYPE": "Core staff",
        "CNT_FAM_MEMBERS": 3,
        "REGION_RATING_CLIENT": 2,
        "REGION_RATING_CLIENT_W_CITY": 2,
        "ORGANIZATION_TYPE": "School",
        "EXT_SOURCE_2": 0.61,
        "EXT_SOURCE_3": 0.54,
        "DAYS_LAST_PHONE_CHANGE": -900,
        "AMT_REQ_CREDIT_BUREAU_YEAR": 1,
    },
}
