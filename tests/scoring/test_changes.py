"""Alternatives are approved, legal and the smallest: held against every step of every changeable column."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from itertools import count
from typing import Any

import lightgbm as lgb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from features.portfolio import Portfolio
from features.transformer import Columns, FeatureTransformer
from features.validation import find_violations
from scoring.artefact import Artefact, Conformance
from scoring.changes import Alternative, Alternatives, ChangeSearch, SearchBounds
from scoring.policy import DecisionKind
from scoring.scorer import Scorer, Scores
from tests.features.examples import columns
from tests.home_credit import APPLICATION, PORTFOLIO

Matrix = NDArray[np.float64]
UNBOUNDED = SearchBounds(most_evaluations=1_000_000, seconds=1e9)
CREDIT, ANNUITY, GOODS = "AMT_CREDIT", "AMT_ANNUITY", "AMT_GOODS_PRICE"
AT = APPLICATION.position
DECLARED: dict[str, Any] = {
    CREDIT: {"to": "lower", "most": 0.5, "step": 1000, "with": [ANNUITY]},
    ANNUITY: {"to": "either", "most": 0.5, "step": 100},
    GOODS: {"to": "lower", "most": 0.5, "step": 1000, "with": [CREDIT, ANNUITY]},
}


def declaring(changeable: dict[str, Any]) -> Portfolio:
    """The portfolio with these columns changeable, and no others."""
    document = json.loads(PORTFOLIO.content)
    for name, column in document["columns"].items():
        column.pop("changeable", None)
        if name in changeable:
            column["changeable"] = changeable[name]
    return Portfolio.of(document)


def scorer_of(artefact: Artefact, changeable: dict[str, Any] = DECLARED, refer_from: float = 0.07) -> Scorer:
    """A scorer of the model with another declaration of changes and another limit of approvals."""
    policy = replace(artefact.policy, refer_from=refer_from)
    features = replace(artefact.features, portfolio=declaring(changeable))
    return Scorer(replace(artefact, features=features, policy=policy, conformance=Conformance()))


def row_of(applications: Columns, row: int, scorer: Scorer) -> Columns:
    return applications.take(slice(row, row + 1)).declared_by(scorer.artefact.portfolio)


def search(scorer: Scorer, applied: Columns, bounds: SearchBounds = UNBOUNDED) -> Alternatives:
    return ChangeSearch(scorer, bounds).of(applied)


def changed(applied: Columns, alternative: Alternative) -> Columns:
    """The application with the values of an alternative, and nothing else changed."""
    numbers = applied.numbers.copy()
    for change in alternative.changes:
        assert numbers[0, AT[change.column]] == change.before
        numbers[0, AT[change.column]] = change.after
    return Columns(numbers, applied.levels, applied.portfolio)


def multiples(value: float, declared: dict[str, Any]) -> Iterator[float]:
    """Every value that a column may be changed to, by exact decimals."""
    step, exact, most = Decimal(str(declared["step"])), Decimal(repr(float(value))), Decimal(str(declared["most"]))
    start = (exact * (1 - most) / step).to_integral_value(rounding="ROUND_CEILING")
    for i in count(int(start)):
        multiple = i * step
        if multiple > exact * (1 + most):
            return
        if multiple < exact and declared["to"] != "higher":
            yield float(multiple)
        if multiple > exact and declared["to"] != "lower":
            yield float(multiple)


def moved(applied: Columns, name: str, values: list[float], declared: dict[str, Any]) -> Columns:
    """The application with each value of a column, and the columns that are scaled with it."""
    numbers = np.repeat(applied.numbers, len(values), axis=0)
    before = applied.numbers[0, AT[name]]
    for scaled in declared[name].get("with", ()):
        step = declared[scaled]["step"]
        numbers[:, AT[scaled]] = np.round(numbers[:, AT[scaled]] * (np.array(values) / before) / step) * step
    numbers[:, AT[name]] = values
    return Columns(numbers, np.repeat(applied.levels, len(values), axis=0), applied.portfolio)


def within(applied: Columns, found: Columns, declared: dict[str, Any]) -> NDArray[np.bool_]:
    """Which rows are legal applications within the declared limits."""
    legal = np.ones(len(found), dtype=bool)
    for name, limits in declared.items():
        before, after = applied.numbers[0, AT[name]], found.numbers[:, AT[name]]
        most = limits.get("most", np.inf)
        legal &= ~(np.abs(after - before) > abs(before) * most)
        legal &= ~((after > before) & (limits["to"] == "lower")) & ~((after < before) & (limits["to"] == "higher"))
    for violation in find_violations(found):
        legal[violation.rows] = False
    return legal


def smallest(scorer: Scorer, applied: Columns, name: str, declared: dict[str, Any]) -> float | None:
    """The smallest relative change of one column that is approved, by asking about every step of it."""
    before = applied.numbers[0, AT[name]]
    if np.isnan(before):
        return None
    values = list(multiples(before, declared[name]))
    found = moved(applied, name, values, declared)
    approved = (scorer.score(found).decision == DecisionKind.APPROVE) & within(applied, found, declared)
    return min((abs(value - before) / before for value, yes in zip(values, approved, strict=True) if yes), default=None)


def relative(alternative: Alternative, name: str) -> float:
    [change] = [one for one in alternative.changes if one.column == name]
    return abs(change.after - change.before) / change.before


def by_lever(alternative: Alternative) -> str:
    """Which column leads a change of one lever."""
    names = {change.column for change in alternative.changes}
    return GOODS if GOODS in names else CREDIT if CREDIT in names else ANNUITY


def not_approved(scorer: Scorer, applications: Columns) -> list[int]:
    return np.flatnonzero(scorer.score(applications).decision != DecisionKind.APPROVE).tolist()


@pytest.fixture(scope="module")
def sensitive(artefact: Artefact, applications: Columns) -> Artefact:
    """A model of outcomes that depend on what was applied for, so that changes of it reach approval often."""
    transformer = FeatureTransformer(artefact.features)
    matrix, random = transformer.transform(applications), np.random.default_rng(5)
    at = {name: matrix[:, i] for i, name in enumerate(transformer.names)}
    burden = np.nan_to_num(at["credit_to_income"] / 3 + at["annuity_to_income"] * 5 + at["credit_to_goods"])
    outcomes = random.random(len(matrix)) < 1 / (1 + np.exp(6 - 1.2 * burden))
    booster = lgb.train(
        {"objective": "binary", "num_leaves": 7, "min_data_in_leaf": 5, "seed": 1, "num_threads": 1, "verbosity": -1},
        lgb.Dataset(matrix, outcomes.astype(int), categorical_feature=list(transformer.categorical)),
        num_boost_round=40,
    )
    return replace(artefact, model_text=booster.model_to_string(), reasons=None)


@settings(max_examples=40)
@given(row=st.integers(0, 399), refer_from=st.floats(0.02, 0.08))
def test_every_alternative_is_approved_legal_and_changes_nothing_else(
    sensitive: Artefact, applications: Columns, row: int, refer_from: float
) -> None:
    scorer = scorer_of(sensitive, refer_from=refer_from)
    applied = row_of(applications, row, scorer)
    [before] = scorer.score(applied).decision
    found = search(scorer, applied)
    assert found.complete
    assert len(found.found) <= (0 if before == DecisionKind.APPROVE else 3)
    for alternative in found.found:
        suggested = changed(applied, alternative)
        scores = scorer.score(suggested)
        assert scores.decision.tolist() == [DecisionKind.APPROVE]
        assert scores.probability.tolist() == [alternative.probability]
        assert within(applied, suggested, DECLARED).all()
        assert {change.column for change in alternative.changes} <= DECLARED.keys()
        assert all(change.before != change.after for change in alternative.changes)


def test_no_smaller_change_of_one_column_reaches_approval(sensitive: Artefact, applications: Columns) -> None:
    scorer = scorer_of(sensitive)
    reached = 0
    for row in not_approved(scorer, applications)[:60]:
        applied = row_of(applications, row, scorer)
        expected = {name: smallest(scorer, applied, name, DECLARED) for name in DECLARED}
        known = {name: cost for name, cost in expected.items() if cost is not None}
        found = search(scorer, applied).found
        if known:
            assert {by_lever(one): relative(one, by_lever(one)) for one in found} == known
            assert [relative(one, by_lever(one)) for one in found] == sorted(known.values())
            reached += 1
    assert reached >= 10


def test_fine_steps_are_bisected_to_the_same_smallest_change(sensitive: Artefact, applications: Columns) -> None:
    coarse, fine = ({CREDIT: {"to": "lower", "most": 0.5, "step": step}} for step in (1000, 50))
    rough, scorer = scorer_of(sensitive, coarse), scorer_of(sensitive, fine)
    rows = [row for row in not_approved(rough, applications) if search(rough, row_of(applications, row, rough)).found]
    assert len(rows) >= 5
    for row in rows[:5]:
        applied = row_of(applications, row, scorer)
        found = search(scorer, applied)
        assert found.complete
        assert [relative(one, CREDIT) for one in found.found] == [smallest(scorer, applied, CREDIT, fine)]


def test_of_two_columns_neither_can_be_changed_less(sensitive: Artefact, applications: Columns) -> None:
    alone = {CREDIT: {"to": "lower", "most": 0.5, "step": 1000}, ANNUITY: {"to": "either", "most": 0.5, "step": 100}}
    scorer = scorer_of(sensitive, alone)
    pairs = 0
    for row in not_approved(scorer, applications):
        applied = row_of(applications, row, scorer)
        for alternative in search(scorer, applied).found:
            if len(alternative.changes) == 2:
                pairs += 1
                assert [smallest(scorer, applied, name, alone) for name in alone] == [None, None]
                for change in alternative.changes:
                    suggested = changed(applied, alternative)
                    values = [
                        value
                        for value in multiples(change.before, alone[change.column])
                        if (value - change.before) * (change.after - change.before) > 0
                        and abs(value - change.before) < abs(change.after - change.before)
                    ]
                    nearer = moved(suggested, change.column, values, alone)
                    approved = scorer.score(nearer).decision == DecisionKind.APPROVE
                    assert not (approved & within(applied, nearer, alone)).any()
    assert pairs >= 3


@pytest.mark.parametrize(
    ("stated", "changeable"),
    [
        ({ANNUITY: None}, {ANNUITY: DECLARED[ANNUITY]}),
        ({"DAYS_EMPLOYED": 365243}, {"OWN_CAR_AGE": {"to": "lower"}}),
        ({ANNUITY: 20.0}, {ANNUITY: {"to": "lower", "most": 0.5, "step": 100}}),
    ],
    ids=["missing", "missing with a code elsewhere", "no step within the limit"],
)
def test_what_cannot_be_changed_gives_no_alternative(
    sensitive: Artefact, stated: dict[str, Any], changeable: dict[str, Any]
) -> None:
    scorer = scorer_of(sensitive, changeable, refer_from=0.0)
    found = search(scorer, columns(stated).declared_by(scorer.artefact.portfolio))
    assert found == Alternatives((), True, "No change within the limits was found that reaches approval.")


def test_an_order_between_columns_is_kept(sensitive: Artefact, applications: Columns) -> None:
    # The annuity is all of the credit: a smaller credit alone would be below it.
    free = {CREDIT: {"to": "lower", "step": 1000}}
    scorer = scorer_of(sensitive, free)
    numbers = applications.numbers.copy()
    numbers[:, AT[ANNUITY]] = numbers[:, AT[CREDIT]]
    for row in not_approved(scorer, applications)[:20]:
        applied = Columns(numbers[row : row + 1], applications.levels[row : row + 1], scorer.artefact.portfolio)
        assert search(scorer, applied).found == ()


def test_a_column_that_is_scaled_with_another_keeps_its_own_limits(sensitive: Artefact, applications: Columns) -> None:
    tight = {CREDIT: {"to": "lower", "most": 0.5, "step": 1000, "with": [ANNUITY]},
             ANNUITY: {"to": "lower", "most": 0.05, "step": 100}}  # fmt: skip
    scorer = scorer_of(sensitive, tight)
    for row in not_approved(scorer, applications)[:40]:
        applied = row_of(applications, row, scorer)
        for alternative in search(scorer, applied).found:
            assert within(applied, changed(applied, alternative), tight).all()


def test_an_approved_application_has_no_alternatives(sensitive: Artefact, applications: Columns) -> None:
    scorer = scorer_of(sensitive)
    [row, *_] = np.flatnonzero(scorer.score(applications).decision == DecisionKind.APPROVE).tolist()
    found = search(scorer, row_of(applications, row, scorer))
    assert found == Alternatives((), True, "The application is approved as it is.")


def test_a_portfolio_without_changeable_columns_has_no_alternatives(sensitive: Artefact, applications: Columns) -> None:
    scorer = scorer_of(sensitive, {})
    found = search(scorer, row_of(applications, not_approved(scorer, applications)[0], scorer))
    assert found == Alternatives((), True, "The portfolio of the model declares no changeable column.")


def test_too_little_that_is_known_cannot_be_changed_away(sensitive: Artefact, applications: Columns) -> None:
    scorer = scorer_of(sensitive, refer_from=0.08)
    numbers = applications.numbers.copy()
    numbers[:, AT[ANNUITY]] = np.nan  # the rule of completeness wants it known
    for row in range(20):
        applied = Columns(numbers[row : row + 1], applications.levels[row : row + 1], scorer.artefact.portfolio)
        assert search(scorer, applied).found == ()


def test_a_search_says_that_it_was_cut_short(sensitive: Artefact, applications: Columns) -> None:
    scorer = scorer_of(sensitive, refer_from=0.0)
    applied = row_of(applications, 0, scorer)
    expected = "No change within the limits was found that reaches approval. "
    expected += "The search was cut short: there may be others, and smaller ones."
    few = ChangeSearch(scorer, SearchBounds(most_evaluations=5, seconds=1e9)).of(applied)
    ticks = count()
    slow = ChangeSearch(scorer, SearchBounds(1_000_000, seconds=3.0), clock=lambda: float(next(ticks))).of(applied)
    assert few == slow == Alternatives((), False, expected)


class CountingScorer(Scorer):
    """Counts the rows that it decides on."""

    rows = 0

    def decide(self, matrix: Matrix, margin: Matrix, *, with_reasons: bool = True) -> Scores:
        self.rows += len(matrix)
        return super().decide(matrix, margin, with_reasons=with_reasons)


@pytest.mark.parametrize("most", [1, 2, 5])
def test_the_scorer_is_asked_no_more_often_than_the_bound_allows(
    sensitive: Artefact, applications: Columns, most: int
) -> None:
    scorer = CountingScorer(scorer_of(sensitive, refer_from=0.0).artefact)
    found = search(scorer, row_of(applications, 0, scorer), SearchBounds(most_evaluations=most, seconds=1e9))
    assert (found.complete, scorer.rows) == (False, most)


def test_what_is_changeable_alters_no_score(sensitive: Artefact, applications: Columns) -> None:
    with_changes, without = scorer_of(sensitive), scorer_of(sensitive, {})
    assert with_changes.score(applications).margin.tobytes() == without.score(applications).margin.tobytes()
    assert with_changes.features == without.features
