"""Rule 3: what is learned is learned from the fold, once, and nothing is estimated afterwards."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from features.fitting import Clipping, FeatureSettings, Filters, fit_features
from features.transformer import FeatureTransformer, concatenate
from tests.features.examples import bits, columns, matrix

NO_FILTER = Filters(constant=None, correlation=None, importance=None)


def settings(*sets: str, **changed: object) -> FeatureSettings:
    plain = {"without": (), "category_min_count": 1, "clip": None, "filters": NO_FILTER}
    return FeatureSettings(sets=sets or ("baseline",), **(plain | changed))


def unasked(*_: object) -> np.ndarray:
    return pytest.fail("the importance filter is off")


def test_rule_3_other_data_changes_nothing_about_a_row(applications, fitted):
    strange = columns(
        {"AMT_CREDIT": 1e9, "AMT_INCOME_TOTAL": 1e9, "EXT_SOURCE_1": 1.0, "ORGANIZATION_TYPE": "Bank"},
        *({"ORGANIZATION_TYPE": "a new employer", "EXT_SOURCE_2": None} for _ in range(200)),
    )
    transform = FeatureTransformer(fitted).transform
    beside_strangers = transform(concatenate([strange, applications]))[len(strange) :]
    assert bits(beside_strangers) == bits(transform(applications))


def test_rule_3_transforming_leaves_the_state_as_it_was_fitted(applications, everything):
    fitted = fit_features(applications.take(slice(100)), everything, importance=unasked)
    before = copy.deepcopy(fitted.to_dict())
    transformer = FeatureTransformer(fitted)
    transformer.transform(applications.take(slice(100, 300)))
    assert transformer.state.to_dict() == before


def test_rule_3_the_same_fold_teaches_the_same(applications, everything):
    once, twice = (fit_features(applications, everything, importance=unasked) for _ in range(2))
    assert once == twice
    assert once != fit_features(applications.take(slice(150)), everything, importance=unasked)


@pytest.mark.parametrize(("min_count", "vocabulary"), [(1, ("A", "B", "C")), (2, ("A", "B")), (3, ("B",)), (4, ())])
def test_rule_3_a_vocabulary_is_the_sorted_levels_that_the_fold_has_often_enough(min_count, vocabulary):
    levels = ["B", "C", "A", "B", "A", "B", "XNA", "XNA", "XNA", "XNA", None, None, None, None]
    fold = columns(*({"ORGANIZATION_TYPE": level} for level in levels))
    state = fit_features(fold, settings(category_min_count=min_count), importance=unasked)
    assert state.vocabularies["ORGANIZATION_TYPE"] == vocabulary


def test_rule_3_a_declared_level_that_the_fold_lacks_is_unknown():
    fold = columns({"CODE_GENDER": "F"}, {"CODE_GENDER": "F"})
    state = fit_features(fold, settings(), importance=unasked)
    assert state.vocabularies["CODE_GENDER"] == ("F",)
    raw = columns({"CODE_GENDER": "M"}, {"CODE_GENDER": "F"})
    assert matrix(raw, "CODE_GENDER", vocabularies=state.vocabularies).tolist() == [[1.0], [0.0]]


def test_rule_3_clip_bounds_are_the_quantiles_of_the_fold():
    fold = columns(*({"AMT_CREDIT": float(i), "CNT_CHILDREN": float(i % 3)} for i in range(101)))
    state = fit_features(fold, settings(clip=Clipping(lower=0.01, upper=0.9)), importance=unasked)
    assert state.clip["AMT_CREDIT"] == (1.0, 90.0)
    assert state.clip["CNT_CHILDREN"] == (0.0, 2.0)


def test_rule_3_the_clip_bounds_of_the_fold_hold_for_any_later_row():
    clip = {"AMT_CREDIT": (1.0, 90.0)}
    amounts = (0.0, 1.0, 50.0, 90.0, 5000.0, None)
    expected = [1.0, 1.0, 50.0, 90.0, 90.0, np.nan]
    together = matrix(columns(*({"AMT_CREDIT": amount} for amount in amounts)), "AMT_CREDIT", clip=clip)
    alone = [matrix(columns({"AMT_CREDIT": amount}), "AMT_CREDIT", clip=clip) for amount in amounts]
    np.testing.assert_array_equal(together[:, 0], expected)
    np.testing.assert_array_equal(np.concatenate(alone)[:, 0], expected)


def test_rule_3_derived_features_are_made_of_clipped_values():
    raw = columns({"AMT_CREDIT": 400_000.0, "AMT_INCOME_TOTAL": 160_000.0})
    assert matrix(raw, "credit_to_income", clip={"AMT_CREDIT": (0.0, 320_000.0)}).tolist() == [[2.0]]


def test_flags_and_columns_without_a_value_are_not_clipped_and_codes_for_missing_are_no_values():
    fold = columns(*({"FLAG_MOBIL": 1.0, "DAYS_EMPLOYED": days} for days in (-100.0, 365243.0, 365243.0, 365243.0)))
    state = fit_features(fold, settings(clip=Clipping(lower=0, upper=1)), importance=unasked)
    assert dict(state.clip) == {
        "AMT_INCOME_TOTAL": (160_000.0, 160_000.0),
        "AMT_CREDIT": (400_000.0, 400_000.0),
        "DAYS_EMPLOYED": (-100.0, -100.0),
    }


def test_without_clipping_nothing_is_clipped(applications):
    assert dict(fit_features(applications, settings(), importance=unasked).clip) == {}


def test_only_the_groups_that_are_switched_on_become_features(applications):
    state = fit_features(applications, settings("domain"), importance=unasked)
    assert state.names == (
        "credit_to_income",
        "employment_years",
        "income_per_person",
        "age_years",
        "credit_to_goods",
    )
    assert dict(state.vocabularies) == {}


def test_rule_3_the_constant_filter_sees_the_fold_alone():
    kept = settings("domain", filters=NO_FILTER.model_copy(update={"constant": 0.75}))
    varying = [{"CNT_FAM_MEMBERS": float(i + 1), "AMT_GOODS_PRICE": 1.0 if i else 2.0} for i in range(4)]
    assert fit_features(columns(*varying), kept, importance=unasked).names == ("income_per_person",)


def test_the_correlation_filter_drops_the_later_of_two_features_that_agree():
    kept = settings("domain", filters=NO_FILTER.model_copy(update={"correlation": 0.99}))
    people = ((-10_000.0, -100.0, 3.0), (-12_000.0, -120.0, 1.0), (-14_000.0, -140.0, 2.0))
    fold = columns(*({"DAYS_BIRTH": a, "DAYS_EMPLOYED": e, "CNT_FAM_MEMBERS": c} for a, e, c in people))
    names = fit_features(fold, kept, importance=unasked).names
    assert "employment_years" in names
    assert "age_years" not in names
    assert "income_per_person" in names


def test_the_correlation_filter_does_not_compare_categories():
    filters = NO_FILTER.model_copy(update={"constant": 0.99, "correlation": 0.9})
    people = (("A", 0.0), ("B", 1.0), ("C", 2.0))
    fold = columns(*({"CODE_GENDER": level, "CNT_CHILDREN": count} for level, count in people))
    state = fit_features(fold, settings(filters=filters), importance=unasked)
    assert state.names == ("CODE_GENDER", "CNT_CHILDREN")


@pytest.mark.parametrize(
    ("share", "kept"),
    [(0.0, ("credit_to_income", "employment_years", "credit_to_goods")), (0.25, ("credit_to_goods",)), (0.5, ())],
)
def test_rule_3_the_importance_filter_keeps_what_gains_more_than_its_share_on_the_fold(applications, share, kept):
    filters = NO_FILTER.model_copy(update={"importance": share})
    fold = applications.take(slice(100))

    def importance(seen: np.ndarray, categorical: tuple[int, ...]) -> np.ndarray:
        assert seen.shape == (100, 5)
        assert categorical == ()
        return np.array([1.0, 1.0, 0.0, 0.0, 2.0])

    assert fit_features(fold, settings("domain", filters=filters), importance=importance).names == kept


def test_the_importance_filter_does_not_see_what_another_filter_dropped():
    filters = NO_FILTER.model_copy(update={"constant": 0.75, "importance": 0.0})
    fold = columns(*({"CNT_FAM_MEMBERS": float(i + 1), "CODE_GENDER": "F" if i % 2 else "M"} for i in range(4)))

    def importance(seen: np.ndarray, categorical: tuple[int, ...]) -> np.ndarray:
        assert categorical
        known = ~np.isnan(seen).all(axis=0)
        assert known.sum() == 3  # family, sex, income per person
        return np.ones(seen.shape[1])

    sets = settings("baseline", "domain", filters=filters)
    state = fit_features(fold, sets, importance=importance)
    assert state.names == ("CODE_GENDER", "CNT_FAM_MEMBERS", "income_per_person")
    assert dict(state.vocabularies) == {"CODE_GENDER": ("F", "M")}
