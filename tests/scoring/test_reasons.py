"""Contributions are exact Shapley values; reasons are ranked by group and never rest on a protected attribute."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import combinations
from math import factorial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from features.transformer import Columns
from scoring.artefact import Artefact
from scoring.errors import ArtefactError, ConformanceError
from scoring.model import Model
from scoring.policy import DecisionKind
from scoring.reasons import (
    Contributions,
    Explainer,
    FindPatterns,
    ReasonMethod,
    ReasonReference,
    ReferenceGroup,
    TableContributions,
)
from scoring.scorer import Scorer, with_conformance
from scoring.trees import Tree
from tests.home_credit import APPLICATION, CATALOGUE, PORTFOLIO, PROTECTED
from tests.scoring.test_trees import ROWS, drawn, fitted, hostile

Matrix = NDArray[np.float64]
PATH_DEPENDENT = ReasonReference(ReasonMethod.PATH_DEPENDENT)
REASONS = PORTFOLIO.reasons


def trees_of(text: str) -> tuple[tuple[Tree, ...], FindPatterns]:
    model = Model(text)
    assert model.tables is not None
    return model.tables.trees, model.patterns


def brute_force(model: Model, row: NDArray[np.float64], group: Matrix) -> NDArray[np.float64]:
    """Interventional Shapley values by their definition, over every set of features."""
    features = model.features

    def value(chosen: tuple[int, ...]) -> float:
        mixed = group.copy()
        mixed[:, list(chosen)] = row[list(chosen)]
        return float(model.margins(mixed).mean())

    found = np.zeros(features)
    for j in range(features):
        others = [i for i in range(features) if i != j]
        for size in range(features):
            weight = factorial(size) * factorial(features - size - 1) / factorial(features)
            found[j] += weight * sum(value((*chosen, j)) - value(chosen) for chosen in combinations(others, size))
    return found


def whole(contributions: Contributions, rows: Matrix) -> Matrix:
    """The contributions of all five features, shape (n, 5)."""
    found = np.zeros((len(rows), 5))
    found[:, contributions.features] = contributions.of(rows).T
    return found


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 10_000), leaves=st.integers(2, 8))
def test_interventional_contributions_equal_their_definition(seed: int, leaves: int) -> None:
    text = fitted(seed, num_leaves=leaves).model_to_string()
    model, random = Model(text), np.random.default_rng(seed)
    group, rows = drawn(random)[:40], hostile(random)[::80]
    reference = ReasonReference.interventional(Model(text), ReferenceGroup.ALL, group)
    found = TableContributions(*trees_of(text), reference)
    assert found.base == pytest.approx(model.margins(group).mean(), abs=1e-12)
    expected = np.array([brute_force(model, row, group) for row in rows])
    assert whole(found, rows) == pytest.approx(expected, abs=1e-11)
    assert found.base + found.of(rows).sum(axis=0) == pytest.approx(model.margins(rows), abs=1e-11)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), leaves=st.integers(2, 8), missing=st.booleans())
def test_path_dependent_contributions_equal_those_of_lightgbm(seed: int, leaves: int, missing: bool) -> None:
    booster = fitted(seed, num_leaves=leaves, use_missing=missing)
    text, rows = booster.model_to_string(), hostile(np.random.default_rng(seed))
    found = TableContributions(*trees_of(text), PATH_DEPENDENT)
    expected = np.asarray(booster.predict(rows, pred_contrib=True))
    assert whole(found, rows) == pytest.approx(expected[:, :-1], abs=1e-12)
    assert found.base == pytest.approx(expected[0, -1], abs=1e-12)


def test_a_row_has_the_same_bits_alone_and_among_others(scorer: Scorer, model_matrix: Matrix) -> None:
    assert scorer.explainer is not None
    together = scorer.explainer.contributions.of(model_matrix)
    assert all(
        np.array_equal(scorer.explainer.contributions.of(model_matrix[i : i + 1])[:, 0], together[:, i])
        for i in range(100)
    )


@pytest.mark.parametrize("trees", [1, 8, 9, 20, 150, 400])
def test_a_row_has_the_same_bits_in_a_large_block(trees: int) -> None:
    text, rows = fitted(3, trees=trees).model_to_string(), hostile(np.random.default_rng(3))
    found = TableContributions(*trees_of(text), PATH_DEPENDENT)
    many = np.tile(rows, (1 + 600 // len(rows), 1))
    alone = np.column_stack([found.of(row[np.newaxis]) for row in rows])
    assert np.array_equal(found.of(many)[:, : len(rows)], alone)


def test_reasons_are_ranked_alike_in_a_large_batch(scorer: Scorer, model_matrix: Matrix) -> None:
    alone = [scorer.reasons(row[np.newaxis])[0] for row in model_matrix]
    assert scorer.reasons(model_matrix) == alone
    assert {1, 4} <= {len(reasons) for reasons in alone}


def test_trees_of_more_than_eight_leaves_have_the_contributions_of_lightgbm() -> None:
    booster = fitted(5, num_leaves=20)
    text, rows = booster.model_to_string(), drawn(np.random.default_rng(5))
    with pytest.raises(ArtefactError, match="trees of more than eight leaves have no interventional reasons"):
        ReasonReference.interventional(Model(text), ReferenceGroup.ALL, rows)
    contributions = Model(text).contributions(rows)
    assert np.array_equal(contributions, booster.predict(rows, pred_contrib=True, num_threads=1))


def test_the_contributions_and_the_base_add_up_to_the_margin(scorer: Scorer, model_matrix: Matrix) -> None:
    assert scorer.explainer is not None
    margins = scorer.model.margins(model_matrix)
    for explanation, margin in zip(scorer.explainer.explain(model_matrix), margins, strict=True):
        added = [contribution for _, contribution in explanation.contributions]
        assert added == sorted(added, reverse=True)
        assert explanation.base + sum(added) == pytest.approx(margin, abs=1e-9)


def test_reasons_are_the_largest_groups_that_raised_the_risk(scorer: Scorer, model_matrix: Matrix) -> None:
    assert scorer.explainer is not None
    for explanation in scorer.explainer.explain(model_matrix):
        raised = [reason for reason, added in explanation.contributions if reason is not None and added > 1e-9]
        assert explanation.reasons == tuple(raised[:4])
    assert scorer.reasons(model_matrix) == [one.reasons for one in scorer.explainer.explain(model_matrix)]


def test_only_declines_have_reasons(scorer: Scorer, applications: Columns) -> None:
    scores = scorer.score(applications)
    declined = scores.decision == DecisionKind.DECLINE
    assert 0 < declined.sum() < len(scores)
    assert [bool(reasons) for reasons in scores.reasons] == declined.tolist()
    matrix = scorer.transformer.transform(applications)
    without = scorer.decide(matrix, scores.margin, with_reasons=False)
    assert not any(without.reasons)


def test_features_that_rest_on_a_protected_attribute_never_give_a_reason() -> None:
    barred = APPLICATION.protected(PROTECTED)
    names = [one.name for one in CATALOGUE if not barred.isdisjoint(one.sources)][:5]
    text = fitted(11).model_to_string()
    reference = ReasonReference.interventional(Model(text), ReferenceGroup.ALL, drawn(np.random.default_rng(1)))
    explainer = Explainer(Model(text), names, PORTFOLIO, reference)
    for explanation in explainer.explain(hostile(np.random.default_rng(2))):
        assert explanation.reasons == ()
        assert [reason for reason, _ in explanation.contributions] in ([None], [])


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_whatever_features_a_model_has_no_reason_rests_on_a_protected_attribute(data: st.DataObject) -> None:
    names = tuple(data.draw(st.lists(st.sampled_from(sorted(PORTFOLIO.features)), min_size=5, max_size=5, unique=True)))
    seed = data.draw(st.integers(0, 1000))
    text = fitted(seed).model_to_string()
    reference = ReasonReference.interventional(Model(text), ReferenceGroup.ALL, drawn(np.random.default_rng(seed)))
    explainer = Explainer(Model(text), names, PORTFOLIO, reference)
    barred = PORTFOLIO.schema.protected(APPLICATION.attributes)
    resting = [i for i, name in enumerate(names) if not barred.isdisjoint(PORTFOLIO.features[name].sources)]
    rows = hostile(np.random.default_rng(seed))
    added = whole(explainer.contributions, rows)
    added[:, resting] = 0.0
    for row, explanation in enumerate(explainer.explain(rows)):
        told = {reason: contribution for reason, contribution in explanation.contributions if reason is not None}
        # What the reasons hold is what the other features added, and nothing else.
        assert sum(told.values()) == pytest.approx(added[row].sum(), abs=1e-9)
        assert set(explanation.reasons) <= told.keys()


def test_a_missing_value_has_a_reason_of_its_own() -> None:
    assert REASONS is not None
    text = fitted(4).model_to_string()
    names = ("EXT_SOURCE_1", "EXT_SOURCE_2", "EXT_SOURCE_3", "NAME_EDUCATION_TYPE", "NAME_HOUSING_TYPE")
    reference = ReasonReference.interventional(Model(text), ReferenceGroup.ALL, drawn(np.random.default_rng(4)))
    explainer = Explainer(Model(text), names, PORTFOLIO, reference)
    known, missing = np.zeros((1, 5)), np.full((1, 5), np.nan)
    group = REASONS.of_feature["EXT_SOURCE_1"]
    assert group.missing.code == "M01"
    assert group.missing not in dict(explainer.explain(known)[0].contributions)
    assert set(dict(explainer.explain(missing)[0].contributions)) == {group.missing, REASONS.missing}


def test_an_artefact_whose_reference_is_of_other_trees_is_refused(artefact: Artefact) -> None:
    assert artefact.reasons is not None
    short = replace(artefact.reasons, outcomes=artefact.reasons.outcomes[:-1])
    with pytest.raises(ArtefactError, match="the reference group has outcomes of other trees"):
        Scorer(replace(artefact, reasons=short))


def test_another_reference_group_is_found_by_conformance(artefact: Artefact) -> None:
    other = replace(artefact, reasons=PATH_DEPENDENT)
    with pytest.raises(ConformanceError, match="this code gives another reasons than the code that trained the model"):
        Scorer(other)
    assert with_conformance(other).reasons == PATH_DEPENDENT


def test_the_version_names_the_method_and_tells_groups_apart(artefact: Artefact) -> None:
    assert artefact.reasons is not None
    assert PATH_DEPENDENT.version.startswith("path_dependent:")
    assert artefact.reasons.version.startswith("interventional:")
    again = ReasonReference.from_dict(json.loads(json.dumps(artefact.reasons.to_dict())))
    assert again == artefact.reasons
    assert again.version == artefact.reasons.version
    assert replace(artefact.reasons, group=ReferenceGroup.CUT_OFF).version != artefact.reasons.version


@pytest.mark.parametrize("group", [None, ReferenceGroup.ALL])
def test_a_constant_model_has_a_base_and_no_reason(group: ReferenceGroup | None) -> None:
    text = fitted(1, min_data_in_leaf=ROWS).model_to_string()
    model, rows = Model(text), drawn(np.random.default_rng(1))
    reference = PATH_DEPENDENT if group is None else ReasonReference.interventional(model, group, rows)
    found = TableContributions(*trees_of(text), reference)
    assert not found.of(rows).any()
    assert found.base == pytest.approx(model.margins(rows)[0])
