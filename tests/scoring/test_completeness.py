"""What is left out never turns a decline into an approval."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from features.transformer import Columns, FeatureTransformer
from scoring.artefact import Artefact
from scoring.errors import ArtefactError
from scoring.model import Calibration
from scoring.policy import Completeness, CompletenessRule, DecisionKind, DecisionPolicy, Known, column_shares
from scoring.scorer import Scorer, with_conformance
from scoring.store import StoredModel
from tests.features.examples import columns, state, write_csv
from tests.home_credit import APPLICATION, PORTFOLIO
from tests.scoring.jobs import parts, score_files

VOCABULARIES = {"NAME_INCOME_TYPE": ("Working",), "OCCUPATION_TYPE": ("Drivers",)}
NAMES = ("AMT_CREDIT", "NAME_INCOME_TYPE", "OCCUPATION_TYPE", "ext_source_mean", "missing_count")
IMPORTANCE = dict(zip(NAMES, (0.1, 0.2, 0.1, 0.6, 0.0), strict=True))


def judged(rule: CompletenessRule | None, *records: dict[str, object]) -> Known:
    transformer = FeatureTransformer(state(*NAMES, vocabularies=VOCABULARIES))
    return Completeness(transformer, IMPORTANCE, rule).of(transformer.transform(columns(*records)))


COMPLETE = {"NAME_INCOME_TYPE": "Working", "OCCUPATION_TYPE": "Drivers", "EXT_SOURCE_1": 0.5}


@pytest.mark.parametrize(
    ("change", "missing", "unknown"),
    [
        ({}, 0, ()),
        ({"NAME_INCOME_TYPE": None}, 1, ()),
        ({"NAME_INCOME_TYPE": "XNA"}, 1, ()),
        ({"NAME_INCOME_TYPE": "working"}, 0, ("NAME_INCOME_TYPE",)),
        ({"NAME_INCOME_TYPE": "Working "}, 0, ("NAME_INCOME_TYPE",)),
        ({"NAME_INCOME_TYPE": "\0", "OCCUPATION_TYPE": "\0"}, 0, ("NAME_INCOME_TYPE", "OCCUPATION_TYPE")),
        ({"EXT_SOURCE_1": None}, 3, ()),
        ({"OWN_CAR_AGE": None, "CODE_GENDER": "?"}, 0, ()),
    ],
)
def test_what_is_missing_and_unknown_of_the_columns_that_the_model_reads(change, missing, unknown):
    known = judged(None, {**COMPLETE, **change})
    assert (known.missing.tolist(), known.unknown.tolist(), dict(known.short)) == ([missing], [unknown], {})


@pytest.mark.parametrize(
    ("change", "reasons"),
    [
        ({}, ()),
        ({"OCCUPATION_TYPE": None}, ()),
        ({"NAME_INCOME_TYPE": None}, ("NAME_INCOME_TYPE must be known",)),
        ({"NAME_INCOME_TYPE": "?"}, ("NAME_INCOME_TYPE must be known",)),
        ({"EXT_SOURCE_1": None}, ("more than 50 % of the model's gain rests on what is missing or unknown",)),
    ],
)
def test_an_application_falls_short_of_declared_columns_and_of_the_share_of_gain(change, reasons):
    rule = CompletenessRule(known=("NAME_INCOME_TYPE", "OWN_CAR_AGE"), max_missing_share=0.5)
    assert judged(rule, {**COMPLETE, **change}).short.get(0, ()) == reasons


def test_a_share_of_exactly_the_limit_is_enough():
    rule = CompletenessRule(known=(), max_missing_share=0.3)
    short = judged(rule, {**COMPLETE, "NAME_INCOME_TYPE": None, "OCCUPATION_TYPE": None}, COMPLETE).short
    assert short == {}


@pytest.mark.parametrize(("excess", "enough"), [(0.9e-9, True), (1.5e-9, False)])
def test_a_share_beyond_the_limit_by_more_than_its_rounding_is_too_much(excess, enough):
    rule = CompletenessRule(known=(), max_missing_share=0.3 - excess)
    short = judged(rule, {**COMPLETE, "NAME_INCOME_TYPE": None, "OCCUPATION_TYPE": None}).short
    assert (short == {}) is enough


def test_a_model_without_derived_features_misses_its_own_columns():
    transformer = FeatureTransformer(state("AMT_CREDIT", "AMT_ANNUITY"))
    raw = columns({"AMT_ANNUITY": 5.0}, {"AMT_ANNUITY": None})
    known = Completeness(transformer, {"AMT_CREDIT": 0.5, "AMT_ANNUITY": 0.5}, None).of(transformer.transform(raw))
    assert known.missing.tolist() == [0, 1]


@pytest.mark.parametrize("share", [0, 1])
def test_no_share_and_every_share_are_legal(share):
    assert CompletenessRule(known=(), max_missing_share=share).max_missing_share == share


def test_the_sources_of_a_feature_share_its_gain_and_all_of_it_is_shared():
    shares = column_shares(IMPORTANCE, ["AMT_CREDIT", "NAME_INCOME_TYPE", "OCCUPATION_TYPE", "EXT_SOURCE_1"], PORTFOLIO)
    assert shares == {"AMT_CREDIT": 0.1, "NAME_INCOME_TYPE": 0.2, "OCCUPATION_TYPE": 0.1, "EXT_SOURCE_1": 0.6}
    halves = column_shares({"credit_to_income": 0.5, "AMT_CREDIT": 0.5}, ["AMT_CREDIT", "AMT_INCOME_TOTAL"], PORTFOLIO)
    assert halves == {"AMT_CREDIT": 0.75, "AMT_INCOME_TOTAL": 0.25}


@pytest.mark.parametrize(
    ("known", "share"),
    [(("AMT_CREDIT",) * 2, 0.5), ((), 1.1), ((), -0.1), ((), float("nan"))],
)
def test_a_rule_that_makes_no_sense_is_refused(known, share):
    with pytest.raises(ArtefactError):
        CompletenessRule(known=known, max_missing_share=share)


def test_a_rule_of_a_column_that_the_portfolio_does_not_declare_is_refused():
    with pytest.raises(ArtefactError, match="columns that are not declared: NO_SUCH_COLUMN"):
        judged(CompletenessRule(known=("NO_SUCH_COLUMN",), max_missing_share=0.5), {})


@pytest.fixture(scope="module")
def lenient(artefact: Artefact) -> Scorer:
    """Approves every PD that is below one half, if enough is known."""
    rule = CompletenessRule(known=("AMT_ANNUITY",), max_missing_share=0.75)
    policy = replace(artefact.policy, cutoff=0.5, refer_from=0.5, refer_to=0.5, completeness=rule)
    return Scorer(
        with_conformance(replace(artefact, policy=policy, calibration=Calibration(slope=0.001, intercept=-3.0)))
    )


def strictly(policy: DecisionPolicy) -> DecisionPolicy:
    return replace(policy, cutoff=0.0, refer_from=0.0, refer_to=0.0)


@pytest.mark.parametrize("record", [{}, {"AMT_GOODS_PRICE": 1e5}, {"AMT_ANNUITY": 1e4}])
def test_an_approval_that_falls_short_is_a_referral_and_says_why(lenient, record):
    scores = lenient.score(columns(record))
    assert scores.decision.tolist() == [DecisionKind.REFER]
    assert ("AMT_ANNUITY must be known" in scores.withheld[0]) == ("AMT_ANNUITY" not in record)
    assert scores.prediction.tolist() == [0]


def test_a_vector_of_nothing_is_referred(lenient):
    scores = lenient.score_matrix(np.full((1, len(lenient.features)), np.nan))
    assert (scores.decision.tolist(), scores.missing.tolist()) == ([DecisionKind.REFER], [len(lenient.inputs)])


def test_what_the_pd_declines_stays_declined_and_nothing_is_said(lenient):
    strict = Scorer(with_conformance(replace(lenient.artefact, policy=strictly(lenient.artefact.policy))))
    scores = strict.score(columns({}))
    assert (scores.decision.tolist(), scores.withheld.tolist()) == ([DecisionKind.DECLINE], [()])


def test_ordinary_applications_are_approved(lenient, applications):
    assert set(lenient.score(applications.take(np.isfinite(applications.numbers[:, _at("AMT_ANNUITY")]))).decision) == {
        DecisionKind.APPROVE
    }


def test_without_a_rule_the_pd_alone_decides(lenient):
    policy = replace(lenient.artefact.policy, completeness=None)
    unruled = Scorer(with_conformance(replace(lenient.artefact, policy=policy)))
    assert unruled.score(columns({})).decision.tolist() == [DecisionKind.APPROVE]


@pytest.mark.parametrize("level", ["\1", "cash loans", " Working"])
def test_unknown_levels_everywhere_are_named(lenient, applications: Columns, level):
    strange = Columns(applications.numbers[:1], np.full_like(applications.levels[:1], level), PORTFOLIO)
    read = [name for name in lenient.features if name in APPLICATION and not APPLICATION[name].numeric]
    assert lenient.score(strange).unknown.tolist() == [tuple(read)]


def test_a_row_is_judged_the_same_in_any_company(lenient, applications):
    whole = lenient.score(applications)
    alone = [lenient.score(applications.take(slice(i, i + 1))) for i in range(20)]
    for name in ("missing", "unknown", "withheld", "decision"):
        assert [getattr(one, name)[0] for one in alone] == getattr(whole, name)[:20].tolist()


def test_the_batch_job_obeys_and_says_so(lenient, tmp_path):
    model = StoredModel("small", "1", lenient)
    file = write_csv(
        tmp_path / "a.csv", {"SK_ID_CURR": 1}, header=["SK_ID_CURR", *(c.name for c in APPLICATION.stated)]
    )
    summary = score_files(file, tmp_path / "out", model)
    [row] = parts(tmp_path / "out")[0].to_pylist()
    assert (row["decision"], summary.withheld) == ("refer", 1)
    assert row["withheld"].startswith("AMT_ANNUITY must be known; more than 75 %")
    assert row["missing"] == len(lenient.inputs) - 3


def _at(name: str) -> int:
    return APPLICATION.position[name]
