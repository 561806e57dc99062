"""Rule 5: neither identifiers nor the outcome nor, by default, protected attributes reach the model."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import yaml
from pydantic import ValidationError

from features.files import open_file
from features.fitting import FeatureSettings, fit_features
from features.transformer import Columns, FeatureTransformer
from tests.features.examples import NAMES, REQUIRED, ROOT, bits, read, write_csv
from tests.home_credit import APPLICATION, CATALOGUE, PORTFOLIO, PROTECTED, Application

SUBSETS = [subset for size in (1, 2, 3) for subset in combinations(PROTECTED, size)]
by_subset = pytest.mark.parametrize("without", SUBSETS, ids="+".join)

SEX = {"CODE_GENDER"}
MARITAL_STATUS = {"NAME_FAMILY_STATUS"}
AGE = {
    "DAYS_BIRTH",
    "age_years",
    "days_birth_squared",
    "days_birth_times_days_employed",
    "ext_source_1_times_days_birth",
    "ext_source_2_times_days_birth",
    "ext_source_3_times_days_birth",
    "employment_to_age",
    "registration_to_age",
    "id_publish_to_age",
    "phone_change_to_age",
    "car_age_to_age",
}
READERS = {"sex": SEX, "marital_status": MARITAL_STATUS, "age": AGE}
COLUMNS = {
    "sex": "CODE_GENDER",
    "marital_status": "NAME_FAMILY_STATUS",
    "age": "DAYS_BIRTH",
}


def with_other(applications: Columns, attribute: str) -> Columns:
    """The same applications by people who differ in nothing but the attribute, in what is stated and in what not."""
    numbers, levels = applications.numbers.copy(), applications.levels.copy()
    name = COLUMNS[attribute]
    if attribute == "age":
        numbers[:, APPLICATION.position[name]] = np.where(np.arange(len(numbers)) % 2, -9000.0, np.nan)
    else:
        levels[:, APPLICATION.position[name]] = np.where(np.arange(len(levels)) % 2, "other", None)
    return Columns(numbers, levels, PORTFOLIO)


def test_rule_5_the_protected_attributes_are_declared():
    declared = {column.name: one.attribute for column in APPLICATION for one in column.protections}
    assert declared == {name: attribute for attribute, name in COLUMNS.items()}


@by_subset
def test_rule_5_what_is_left_out_is_what_reads_a_protected_column_and_nothing_else(without):
    every, kept = (tuple(f.name for f in PORTFOLIO.select(PORTFOLIO.sets, barred)) for barred in ((), without))
    barred = {name for attribute in without for name in READERS[attribute]}
    assert kept == tuple(name for name in every if name not in barred)


@by_subset
def test_rule_5_features_do_not_change_with_a_protected_attribute_that_is_left_out(applications, everything, without):
    settings = everything.model_copy(update={"without": without})
    transformer = FeatureTransformer(fit_features(applications, settings, importance=lambda *_: np.empty(0)))
    expected = bits(transformer.transform(applications))
    for attribute in PROTECTED:
        same = bits(transformer.transform(with_other(applications, attribute))) == expected
        assert same is (attribute in without)


@by_subset
def test_rule_5_a_protected_attribute_that_is_left_out_teaches_nothing(applications, everything, without):
    settings = everything.model_copy(update={"without": without})
    fitted = fit_features(applications, settings, importance=lambda *_: np.empty(0))
    other = applications
    for attribute in without:
        other = with_other(other, attribute)
    again = fit_features(other, settings, importance=lambda *_: np.empty(0))
    assert again.names == fitted.names
    assert again.vocabularies == fitted.vocabularies
    assert set(READERS) - set(without) or COLUMNS["sex"] not in fitted.vocabularies


def test_rule_5_the_project_leaves_every_protected_attribute_out():
    configured = yaml.safe_load((ROOT / "configs" / "training.yaml").read_text())["features"]
    assert FeatureSettings.model_validate(configured).without_of(PORTFOLIO) == PROTECTED


def test_rule_5_a_protected_attribute_stays_available_for_fairness_monitoring(tmp_path):
    record = {"CODE_GENDER": "F", "NAME_FAMILY_STATUS": "Widow", "DAYS_BIRTH": -20_000}
    raw = read(write_csv(tmp_path / "a.csv", record))
    assert raw.levels[0, APPLICATION.position["CODE_GENDER"]] == "F"
    assert raw.levels[0, APPLICATION.position["NAME_FAMILY_STATUS"]] == "Widow"
    assert raw.numbers[0, APPLICATION.position["DAYS_BIRTH"]] == -20_000


@pytest.mark.parametrize("name", ["SK_ID_CURR", "TARGET"])
def test_rule_5_the_identifier_and_the_outcome_are_no_feature_and_no_field(name):
    assert name not in APPLICATION
    assert all(name != feature.name and name not in feature.sources for feature in CATALOGUE)
    with pytest.raises(ValidationError) as caught:
        Application.model_validate({**REQUIRED, name: 1})
    assert [(error["loc"], error["type"]) for error in caught.value.errors()] == [((name,), "extra_forbidden")]


def test_rule_5_the_identifier_and_the_outcome_of_a_file_change_no_feature(tmp_path):
    header = ("SK_ID_CURR", "TARGET", *NAMES)
    one = write_csv(tmp_path / "one.csv", {"SK_ID_CURR": 1, "TARGET": 0}, header=header)
    two = write_csv(tmp_path / "two.csv", {"SK_ID_CURR": 2, "TARGET": 1}, header=header)
    assert open_file(one, PORTFOLIO).undeclared == ("SK_ID_CURR", "TARGET")
    assert bits(read(one).numbers) == bits(read(two).numbers)
    assert read(one).levels.tolist() == read(two).levels.tolist()
