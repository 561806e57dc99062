from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from features.schema import Column
from tests.home_credit import APPLICATION

BUILDING_SUFFIXES = ("_AVG", "_MODE", "_MEDI")
BUILDING = [column.name for column in APPLICATION.stated if column.name.endswith(BUILDING_SUFFIXES)]


def names(column: Column) -> str:
    return column.name


@pytest.mark.parametrize("column", APPLICATION.stated, ids=names)
@pytest.mark.parametrize("split", ["train", "test"])
def test_present_values_satisfy_the_declaration(column, split, request):
    values = request.getfixturevalue(split)[column.name].dropna()
    values = values[~values.isin(column.missing)]
    if not column.numeric:
        assert set(values) <= set(column.levels)
        return
    assert values.between(column.low, column.high).all()
    if column.whole:
        assert (values % 1 == 0).all()


@pytest.mark.parametrize("column", APPLICATION.categorical, ids=names)
def test_every_frequent_level_occurs(column, train):
    rare = {"Unemployed", "Student", "Maternity leave", "Businessman", "Industry: type 8"}
    assert set(column.levels) - rare <= set(train[column.name].dropna())


@pytest.mark.parametrize(
    ("column", "share"),
    [
        ("EXT_SOURCE_1", 0.565),
        ("EXT_SOURCE_2", 0.002),
        ("EXT_SOURCE_3", 0.197),
        ("OCCUPATION_TYPE", 0.312),
        ("OWN_CAR_AGE", 0.66),
        ("AMT_REQ_CREDIT_BUREAU_YEAR", 0.135),
        ("NAME_TYPE_SUITE", 0.004),
        ("OBS_30_CNT_SOCIAL_CIRCLE", 0.0034),
        ("AMT_GOODS_PRICE", 0.0009),
        ("APARTMENTS_AVG", 0.506),
        ("YEARS_BEGINEXPLUATATION_MEDI", 0.489),
        ("COMMONAREA_MODE", 0.698),
        ("EMERGENCYSTATE_MODE", 0.474),
        ("AMT_INCOME_TOTAL", 0.0),
        ("AMT_ANNUITY", 0.0),
        ("DAYS_BIRTH", 0.0),
    ],
)
def test_missing_share(train, column, share):
    assert train[column].isna().mean() == pytest.approx(share, abs=0.015 if share > 0.05 else 0.001)


@pytest.mark.parametrize(
    ("column", "level", "share"),
    [
        ("NAME_CONTRACT_TYPE", "Revolving loans", 0.097),
        ("CODE_GENDER", "F", 0.659),
        ("FLAG_OWN_CAR", "Y", 0.341),
        ("NAME_INCOME_TYPE", "Pensioner", 0.18),
        ("NAME_EDUCATION_TYPE", "Higher education", 0.24),
        ("NAME_FAMILY_STATUS", "Married", 0.637),
        ("NAME_HOUSING_TYPE", "House / apartment", 0.888),
        ("ORGANIZATION_TYPE", "Business Entity Type 3", 0.222),
        ("OCCUPATION_TYPE", "Laborers", 0.178),
        ("WALLSMATERIAL_MODE", "Panel", 0.217),
        ("CNT_CHILDREN", 0, 0.698),
        ("REGION_RATING_CLIENT", 2, 0.736),
        ("DAYS_LAST_PHONE_CHANGE", 0, 0.122),
        ("FLAG_DOCUMENT_3", 1, 0.709),
        ("REG_CITY_NOT_WORK_CITY", 1, 0.231),
        ("DEF_30_CNT_SOCIAL_CIRCLE", 0, 0.884),
    ],
)
def test_share_of_a_level(train, column, level, share):
    assert (train[column] == level).mean() == pytest.approx(share, abs=0.025)


@pytest.mark.parametrize(
    ("column", "median", "tenth", "ninety_fifth"),
    [
        ("AMT_INCOME_TOTAL", 144_000, 81_000, 337_500),
        ("AMT_CREDIT", 509_400, 180_000, 1_350_000),
        ("AMT_ANNUITY", 24_817, 10_948, 53_100),
        ("AMT_GOODS_PRICE", 450_000, 180_000, 1_260_000),
        ("EXT_SOURCE_1", 0.506, 0.215, 0.832),
        ("EXT_SOURCE_2", 0.566, 0.222, 0.747),
        ("EXT_SOURCE_3", 0.532, 0.223, 0.785),
        ("LIVINGAREA_AVG", 0.075, 0.015, 0.327),
        ("FLOORSMAX_AVG", 0.1667, 0.0417, 0.5),
    ],
)
def test_quantiles(train, column, median, tenth, ninety_fifth):
    drawn = train[column].quantile([0.1, 0.5, 0.95]).to_numpy()
    assert drawn == pytest.approx([tenth, median, ninety_fifth], rel=0.2)


def test_car_age_is_missing_exactly_without_a_car(train):
    assert (train["OWN_CAR_AGE"].isna() == (train["FLAG_OWN_CAR"] == "N")).all()


def test_without_employer_there_is_no_tenure_organization_phone_or_occupation(train):
    without = train["NAME_INCOME_TYPE"].isin(["Pensioner", "Unemployed"])
    assert ((train["DAYS_EMPLOYED"] == 365_243) == without).all()
    assert ((train["ORGANIZATION_TYPE"] == "XNA") == without).all()
    assert ((train["FLAG_EMP_PHONE"] == 0) == without).all()
    assert train["OCCUPATION_TYPE"][without].isna().all()


def test_nobody_worked_before_sixteen(train):
    employed = train["DAYS_EMPLOYED"] < 0
    assert (train["DAYS_EMPLOYED"] - train["DAYS_BIRTH"])[employed].min() >= 16 * 365


def test_pensioners_are_old(train):
    age = -train["DAYS_BIRTH"] / 365.25
    pensioner = train["NAME_INCOME_TYPE"] == "Pensioner"
    assert pensioner[age < 40].mean() < 0.02
    assert pensioner[age > 60].mean() > 0.7


def test_family_members_are_client_partner_and_children(train):
    partner = train["NAME_FAMILY_STATUS"].isin(["Married", "Civil marriage"])
    assert (train["CNT_FAM_MEMBERS"] == 1 + partner + train["CNT_CHILDREN"]).all()


def test_goods_prices_are_round(train):
    priced = train["AMT_GOODS_PRICE"].dropna()
    assert (priced % 4_500 == 0).all()
    assert (priced % 225_000 == 0).mean() == pytest.approx(0.35, abs=0.1)


def test_credit_is_the_price_and_at_most_half_as_much_again(train):
    ratio = (train["AMT_CREDIT"] / train["AMT_GOODS_PRICE"]).dropna()
    assert ratio.between(0.9999, 1.48).all()
    assert (ratio == 1).mean() == pytest.approx(0.36, abs=0.05)


def test_instalments_repay_the_credit_in_plausible_time(train):
    months = train["AMT_CREDIT"] / train["AMT_ANNUITY"]
    revolving = train["NAME_CONTRACT_TYPE"] == "Revolving loans"
    assert months[revolving].round(6).eq(20).all()
    assert months[~revolving].between(7, 53).all()
    assert months[~revolving].quantile([0.05, 0.5, 0.95]).to_numpy() == pytest.approx([9.5, 20.7, 34.5], rel=0.15)


@pytest.mark.parametrize(
    ("first", "second", "low", "high"),
    [
        ("AMT_CREDIT", "AMT_GOODS_PRICE", 0.95, 1),
        ("AMT_CREDIT", "AMT_ANNUITY", 0.7, 0.9),
        ("AMT_INCOME_TOTAL", "AMT_CREDIT", 0.3, 0.5),
        ("EXT_SOURCE_1", "DAYS_BIRTH", -0.65, -0.5),
        ("EXT_SOURCE_1", "EXT_SOURCE_3", 0.1, 0.35),
        ("EXT_SOURCE_2", "REGION_RATING_CLIENT", -0.4, -0.2),
        ("REGION_POPULATION_RELATIVE", "REGION_RATING_CLIENT", -0.6, -0.3),
        ("DAYS_BIRTH", "CNT_CHILDREN", 0.25, 0.5),
        ("DAYS_BIRTH", "DAYS_REGISTRATION", 0.2, 0.4),
        ("APARTMENTS_AVG", "LIVINGAREA_AVG", 0.85, 1),
        ("ELEVATORS_AVG", "FLOORSMAX_AVG", 0.7, 1),
        ("OBS_30_CNT_SOCIAL_CIRCLE", "OBS_60_CNT_SOCIAL_CIRCLE", 0.98, 1),
    ],
)
def test_rank_correlation(train, first, second, low, high):
    assert low < train[[first, second]].corr("spearman").iloc[0, 1] < high


def test_income_rises_with_education_and_occupation(train):
    by_education = train.groupby("NAME_EDUCATION_TYPE")["AMT_INCOME_TOTAL"].median()
    by_occupation = train.groupby("OCCUPATION_TYPE")["AMT_INCOME_TOTAL"].median()
    assert by_education["Higher education"] > 1.15 * by_education["Secondary / secondary special"]
    assert by_occupation["Managers"] > 1.3 * by_occupation["Cleaning staff"]


def test_city_rating_is_never_worse_than_the_region(train):
    assert (train["REGION_RATING_CLIENT_W_CITY"] <= train["REGION_RATING_CLIENT"]).all()
    assert (train["REGION_RATING_CLIENT_W_CITY"] == train["REGION_RATING_CLIENT"]).mean() > 0.95


@pytest.mark.parametrize("places", ["REG_{}_NOT_LIVE_{}", "REG_{}_NOT_WORK_{}", "LIVE_{}_NOT_WORK_{}"])
def test_other_regions_are_other_cities(train, places):
    assert (train[places.format("REGION", "REGION")] <= train[places.format("CITY", "CITY")]).all()


@pytest.mark.parametrize("measure", [name.removesuffix("_AVG") for name in BUILDING if name.endswith("_AVG")])
def test_the_three_statistics_of_a_measure_are_missing_together_and_nearly_equal(train, measure):
    average, mode, median = (train[f"{measure}_{suffix}"] for suffix in ("AVG", "MODE", "MEDI"))
    assert (average.isna() == mode.isna()).all()
    assert (average.isna() == median.isna()).all()
    assert average.corr(mode) > 0.93
    assert average.corr(median) > 0.97


def test_buildings_are_on_record_or_not(train):
    missing = train[BUILDING].isna()
    assert missing.mean().between(0.46, 0.71).all()
    assert missing.all(axis=1).mean() == pytest.approx(0.47, abs=0.015)
    assert (~missing).all(axis=1).mean() > 0.2


def test_enquiries_are_missing_together_and_with_the_third_score(train):
    missing = train.filter(like="AMT_REQ_CREDIT_BUREAU_").isna()
    assert missing.nunique(axis=1).eq(1).all()
    assert train["EXT_SOURCE_3"][missing.all(axis=1)].isna().all()


def test_defaults_around_the_client_are_among_the_observed(train):
    for days in (30, 60):
        circle = train[[f"DEF_{days}_CNT_SOCIAL_CIRCLE", f"OBS_{days}_CNT_SOCIAL_CIRCLE"]].dropna()
        assert (circle.iloc[:, 0] <= circle.iloc[:, 1]).all()
    assert (train["DEF_60_CNT_SOCIAL_CIRCLE"].dropna() <= train["DEF_30_CNT_SOCIAL_CIRCLE"].dropna()).all()


def test_at_most_one_main_document(train):
    assert train[[f"FLAG_DOCUMENT_{number}" for number in (3, 5, 6, 8)]].sum(axis=1).max() == 1


def test_third_score_takes_few_values(train):
    assert 500 < train["EXT_SOURCE_3"].nunique() < 1_200


def test_offices_are_busiest_before_noon_and_quiet_on_sundays(train):
    assert train["HOUR_APPR_PROCESS_START"].mode().tolist() == [11]
    assert train["WEEKDAY_APPR_PROCESS_START"].value_counts().index[-1] == "SUNDAY"


def test_numbers_are_finite(train):
    assert not np.isinf(train.select_dtypes("number").to_numpy(dtype=np.float64)).any()


def test_no_application_twice(train):
    assert not pd.util.hash_pandas_object(train.drop(columns=["SK_ID_CURR", "TARGET"]), index=False).duplicated().any()
