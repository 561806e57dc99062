"""Recorded decisions are decided again by a challenger; what changes is counted, and what cannot be is named."""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import lightgbm as lgb
import numpy as np
import pytest
from numpy.typing import NDArray

from decision_log import replay
from decision_log.errors import SourceError
from decision_log.format import ClientHash
from decision_log.reader import DecisionLogReader
from decision_log.replay import OtherModel, UnplayedModel
from decision_log.segments import Listing
from features.errors import ColumnsError
from features.files import open_file
from features.transformer import Columns, FeatureState, FeatureTransformer
from features.values import as_numbers
from monitoring.comparison import (
    BandShift,
    Flip,
    PairedDecisions,
    PairKeys,
    comparison,
    decided_again,
    shadow_joined,
)
from monitoring.fairness import GroupShift, read_protected
from monitoring.measures import share_estimate
from monitoring.outcomes import read_outcomes
from monitoring.report import BarChart, comparison_lines, comparison_report
from monitoring.sources import ShadowDecisions
from scoring.artefact import Artefact
from scoring.errors import ArtefactError
from scoring.model import Model
from scoring.policy import DecisionKind
from scoring.reasons import ReasonReference, ReferenceGroup
from scoring.scorer import Scorer, Scores, Translation, with_conformance
from scoring.store import StoredModel
from tests.decision_log.models import kept
from tests.home_credit import PORTFOLIO
from tests.monitoring.recording import KEY, Worker, settings
from tests.monitoring.test_closing import LATER
from tests.scoring.conftest import reference

Matrix = NDArray[np.float64]
CATEGORY = "NAME_EDUCATION_TYPE"
AMOUNT = "AMT_CREDIT"


def trained(
    artefact: Artefact, state: FeatureState, applications: Columns, outcomes: Matrix, *, rounds: int
) -> Artefact:
    """A model of these features."""
    transformer = FeatureTransformer(state)
    matrix = transformer.transform(applications)
    booster = lgb.train(
        {"objective": "binary", "num_leaves": 6, "min_data_in_leaf": 5, "seed": 2, "num_threads": 1, "verbosity": -1},
        lgb.Dataset(matrix, outcomes, categorical_feature=list(transformer.categorical)),
        num_boost_round=rounds,
    )
    text = booster.model_to_string()
    reasons = ReasonReference.interventional(Model(text), ReferenceGroup.ALL, matrix[:50])
    bare = replace(artefact, model_text=text, features=state, reference=reference(transformer, matrix), reasons=reasons)
    return with_conformance(bare)


@pytest.fixture(scope="module")
def outcomes(labelled_csv: Path) -> Matrix:
    return as_numbers(open_file(labelled_csv, PORTFOLIO).column("TARGET"))[0]


@pytest.fixture(scope="module")
def reordered(artefact: Artefact, applications: Columns, outcomes: Matrix) -> Artefact:
    """A model of the same features in another order, with the levels of categories in another order."""
    state = artefact.features
    vocabularies = {name: tuple(reversed(levels)) for name, levels in state.vocabularies.items()}
    other = replace(state, names=tuple(reversed(state.names)), vocabularies=vocabularies)
    return trained(artefact, other, applications, outcomes, rounds=12)


@pytest.fixture(scope="module")
def recording(artefact: Artefact) -> Iterator[StoredModel]:
    with kept("recording", artefact) as model:
        yield model


@pytest.fixture(scope="module")
def log(
    recording: StoredModel, scorer: Scorer, applications: Columns, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A log of the 400 applications."""
    folder = tmp_path_factory.mktemp("shifts")
    matrix = scorer.transformer.transform(applications)
    worker = Worker(recording, folder / "counts", folder / "log", now=LATER.timestamp())
    worker.record(len(matrix), matrix)
    worker.recorder.close()
    return folder / "log"


RULES = settings()
NO_KEYS = PairKeys(None, frozenset())
BY_REQUEST = PairKeys(AMOUNT, frozenset({"request_id"}))


def paired(log: Path, tag: str, keys: PairKeys = NO_KEYS) -> PairedDecisions:
    """The decisions of a log beside those of a model in the store."""
    return decided_again(DecisionLogReader(log), OtherModel.stored(tag), keys)


def expected(name: str, before: Scores, after: Scores, amount: Matrix, rows: NDArray[np.bool_]) -> BandShift:
    """The shifts of some applications, from the scores of both models on their raw columns."""
    shift = (after.probability - before.probability)[rows]
    few = RULES.comparison.min_people
    low, high = np.quantile(shift, (0.05, 0.95), method="inverted_cdf").tolist()
    low, high = (low, high) if len(shift) >= few else (math.nan, math.nan)
    was, now = before.decision[rows], after.decision[rows]
    flips = []
    for one, other in [(one, other) for one in DecisionKind for other in DecisionKind if one != other]:
        changed = (was == one) & (now == other)
        sums = pytest.approx(float(amount[rows][changed].sum()))
        count = int(np.count_nonzero(changed))
        flips.append(Flip(one, other, count, None if 0 < count < few else sums))
    reasons = zip(before.reasons[rows].tolist(), after.reasons[rows].tolist(), strict=True)
    both = [([each.code for each in one], [each.code for each in other]) for one, other in reasons if one and other]
    first = sum(one[0] != other[0] for one, other in both)
    sets = sum(set(one) != set(other) for one, other in both)
    low_pd, high_pd = (0.0, 1.1) if name == "all" else map(float, name.split(" to "))
    challengers = int(np.count_nonzero((after.probability >= low_pd) & (after.probability < high_pd)))
    mean = pytest.approx(float(shift.mean()), abs=1e-12) if len(shift) >= few else math.nan
    return BandShift(name, int(rows.sum()), challengers, mean, low, high, tuple(flips), len(both), first, sets)


def test_the_shifts_are_those_of_both_models_on_the_raw_applications(
    log: Path, scorer: Scorer, reordered: Artefact, applications: Columns, model_matrix: Matrix
) -> None:
    with kept("other", reordered) as other:
        found = paired(log, "other", BY_REQUEST)
        before, after = scorer.score(applications), other.scorer.score(applications)
    compared = comparison(found, RULES, amount=AMOUNT)
    assert (compared.tag, compared.decisions, compared.compared) == (f"other:{other.version}", 400, 400)
    assert (found.left_out, found.at_bounds, found.unplayed, compared.notes) == (0, 0, Counter(), ())
    *bands, whole = compared.bands
    amount = model_matrix[:, scorer.features.index(AMOUNT)]
    assert whole == expected("all", before, after, amount, np.ones(400, dtype=np.bool_))
    assert compared.flips > 10
    assert whole.declines > whole.reason_set_changes >= whole.first_reason_changes > 0
    assert sum(band.decisions for band in bands) == sum(band.challengers for band in bands) == 400
    for band in bands:
        low, high = map(float, band.name.split(" to "))
        rows = (before.probability >= low) & (before.probability < high)
        assert band == expected(band.name, before, after, amount, rows)


def test_codes_that_are_gained_and_lost_are_those_of_declines_by_both(
    log: Path, scorer: Scorer, reordered: Artefact, applications: Columns
) -> None:
    with kept("other", reordered) as other:
        compared = comparison(paired(log, "other"), RULES)
        pairs = zip(scorer.score(applications).reasons, other.scorer.score(applications).reasons, strict=True)
    gained: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    for one, two in pairs:
        if one and two:
            was, now = ({each.code for each in side} for side in (one, two))
            gained.update(now - was)
            lost.update(was - now)
    assert {one.code: (one.gained, one.lost) for one in compared.codes} == {
        code: (gained[code], lost[code]) for code in gained | lost
    }
    assert [one.gained + one.lost for one in compared.codes] == sorted((gained + lost).values(), reverse=True)


def test_a_model_compared_with_itself_changes_nothing(log: Path, recording: StoredModel) -> None:
    compared = comparison(paired(log, f"recording:{recording.version}", BY_REQUEST), RULES)
    whole = compared.bands[-1]
    assert (whole.mean, whole.low, whole.high, compared.flips) == (0.0, 0.0, 0.0, 0)
    assert (whole.declines > 0, whole.reason_set_changes, compared.codes) == (True, 0, ())
    for one in compared.estimated:
        assert (one.champion, one.approved) == (one.challenger, sum_approved(log))
        assert (one.difference.low, one.difference.high) == (0.0, 0.0)


def sum_approved(log: Path) -> int:
    tables = DecisionLogReader(log).tables(["decision"])
    return sum(table["decision"].to_pylist().count(str(DecisionKind.APPROVE)) for table in tables)


def test_decisions_of_a_model_with_other_features_are_named(
    log: Path, artefact: Artefact, applications: Columns, outcomes: Matrix, recording: StoredModel
) -> None:
    state = artefact.features
    fewer = replace(state, names=tuple(name for name in state.names if name != AMOUNT))
    with kept("other", trained(artefact, fewer, applications, outcomes, rounds=3)) as other:
        found = paired(log, "other")
    reason = f"the other model does not read all features of these rows: {AMOUNT}"
    assert found.unplayed == Counter({UnplayedModel(f"recording:{recording.version}", reason): 400})
    with pytest.raises(SourceError, match=f"^no decision can be compared with other:{other.version}; not replayable: "):
        comparison(found, RULES)


def test_a_model_that_needs_more_than_is_recorded_is_named(artefact: Artefact, scorer: Scorer) -> None:
    state = artefact.features
    fewer = replace(state, names=state.names[2:])
    first, second = state.names[:2]
    with pytest.raises(ColumnsError, match=f"reads features that these rows lack: {first}, {second}"):
        Translation(fewer, scorer)


def test_a_feature_of_another_formula_is_named(artefact: Artefact, scorer: Scorer) -> None:
    state = artefact.features
    name = next(one for one in state.names if state.portfolio.features[one].expression is not None)
    other = replace(state.portfolio.features[name], expression=None)
    portfolio = replace(state.portfolio)
    portfolio.__dict__["features"] = {**state.portfolio.features, name: other}
    with pytest.raises(ColumnsError, match=f"the two models compute features otherwise: {name}"):
        Translation(replace(state, portfolio=portfolio), scorer)


def test_a_level_that_only_the_other_model_may_know_is_left_out(artefact: Artefact, scorer: Scorer) -> None:
    state = artefact.features
    levels = state.vocabularies[CATEGORY]
    source = replace(state, vocabularies={**state.vocabularies, CATEGORY: levels[1:]})
    column = state.names.index(CATEGORY)
    rows = np.zeros((4, len(state.names)))
    rows[:, column] = [0.0, len(levels) - 1, np.nan, 1.0]
    translated = Translation(source, scorer).of(rows)
    assert translated.kept.tolist() == [True, False, True, True]
    assert translated.matrix[:, column].tolist() == pytest.approx([1.0, np.nan, 2.0], nan_ok=True)
    back = Translation(state, Scorer(with_conformance(replace(scorer.artefact, features=source))))
    # A level that the other model does not know has its code of the unknown.
    assert back.of(rows).matrix[:, column].tolist() == pytest.approx(
        [len(levels) - 1, len(levels) - 2, np.nan, 0.0], nan_ok=True
    )


def test_values_where_the_models_clip_differently_are_counted(artefact: Artefact, scorer: Scorer) -> None:
    state = artefact.features
    low, high = state.clip[AMOUNT]
    source = replace(state, clip={**state.clip, AMOUNT: (low, high - 1.0)})
    rows = np.zeros((5, len(state.names)))
    rows[:, state.names.index(AMOUNT)] = [low + 1, low, high - 2.0, high - 1.0, np.nan]
    assert Translation(source, scorer).of(rows).at_bounds.tolist() == [False, True, False, True, False]
    assert Translation(state, scorer).of(rows).at_bounds.tolist() == [False] * 5


def test_decisions_of_a_model_that_is_gone_cannot_be_translated(
    small: StoredModel, reordered: Artefact, tmp_path: Path
) -> None:
    worker = Worker(small, tmp_path / "counts", tmp_path / "log", now=LATER.timestamp())
    worker.record(5)
    worker.recorder.close()
    with kept("other", reordered):
        found = paired(tmp_path / "log", "other")
    ((unplayed, count),) = found.unplayed.items()
    assert (unplayed.tag, count, found.blocks) == (f"small:{small.version}", 5, [])


def test_parts_of_a_log_add_up(log: Path, reordered: Artefact) -> None:
    with kept("other", reordered) as other:
        one, two = paired(log, "other"), PairedDecisions(f"other:{other.version}")
    two.include(one)
    two.include(one)
    single, double = (comparison(each, RULES).bands[-1] for each in (one, two))
    assert (double.decisions, double.mean, double.low) == (800, pytest.approx(single.mean), single.low)
    assert [flip.decisions for flip in double.flips] == [2 * flip.decisions for flip in single.flips]


def test_several_processes_find_what_one_does(
    log: Path, reordered: Artefact, recording: StoredModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reordered.write(tmp_path / "artefact")
    model = OtherModel("other:2", reordered.digest, tmp_path / "artefact")
    with kept("other", reordered):
        alone = comparison(paired(log, "other"), RULES)
    monkeypatch.setattr(replay, "_FEW_BYTES", 0)
    (tmp_path / "log").mkdir()
    found = decided_again(DecisionLogReader(log), model, NO_KEYS)
    assert comparison(found, RULES).bands == alone.bands


def shadow_of(challenger: StoredModel, matrix: Matrix, folder: Path) -> Path:
    """A log of what a shadow decided on the same requests."""
    worker = Worker(challenger, folder / "counts", folder / "log", now=LATER.timestamp() + 1)
    worker.record(len(matrix), matrix)
    worker.recorder.close()
    return folder / "log"


def test_what_a_shadow_recorded_is_what_is_computed(
    log: Path, artefact: Artefact, applications: Columns, outcomes: Matrix, model_matrix: Matrix, tmp_path: Path
) -> None:
    challenger = trained(artefact, artefact.features, applications, outcomes, rounds=9)
    with kept("other", challenger) as other:
        computed = comparison(paired(log, "other", BY_REQUEST), RULES, amount=AMOUNT)
        shadow = ShadowDecisions.read(DecisionLogReader(shadow_of(other, model_matrix, tmp_path)))
        joined = comparison(shadow_joined(DecisionLogReader(log), shadow, BY_REQUEST), RULES, amount=AMOUNT)
    assert computed.flips > 5
    assert joined == computed


def test_decisions_that_no_shadow_saw_or_that_it_doubts_are_left_out(
    log: Path, reordered: Artefact, tmp_path: Path
) -> None:
    with kept("other", reordered) as other:
        matrix = np.zeros((300, len(other.scorer.features)))
        folder = shadow_of(other, matrix, tmp_path)
        again = Worker(other, tmp_path / "counts2", folder, now=LATER.timestamp() + 2)
        again.record(2, np.full((2, matrix.shape[1]), 1e9))
        again.record(2, matrix[:2])
        again.recorder.close()
    shadow = ShadowDecisions.read(DecisionLogReader(folder))
    found = shadow_joined(DecisionLogReader(log), shadow, NO_KEYS)
    assert (found.decisions, found.unshadowed, len(found.pairs())) == (400, 102, 298)
    assert list(found.notes()) == ["102 decisions left out: the shadow has no record of them, or several that differ"]


def test_decisions_of_another_variant_are_left_out(log: Path, reordered: Artefact, tmp_path: Path) -> None:
    folder = shutil.copytree(log, tmp_path / "log")
    (segment,) = Listing.of(folder).open
    content = segment.read_bytes().rstrip(b"\0").splitlines(keepends=True)
    content[5] = content[5].replace(b'"variant":"champion"', b'"variant":"challenger"')
    segment.write_bytes(b"".join(content))
    with kept("other", reordered):
        found = paired(folder, "other")
    assert (found.decisions, found.of_others, len(found.pairs())) == (400, 1, 399)


def side_file(path: Path, rows: Iterable[tuple[object, ...]], *names: str) -> Path:
    path.write_text("\n".join([",".join(names), *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


def test_groups_have_approvals_and_impact_ratios_before_and_after(
    log: Path, scorer: Scorer, reordered: Artefact, applications: Columns, tmp_path: Path
) -> None:
    names = ["few" if row < 9 else "odd" if row % 2 else "even" for row in range(400)]
    rows = [("request-0", row, name, "x") for row, name in enumerate(names)]
    protected = read_protected(side_file(tmp_path / "g.csv", rows, "request_id", "index", "side", "more"), None)
    with kept("other", reordered) as other:
        found = paired(log, "other", BY_REQUEST)
        before, after = (model.score(applications).decision == DecisionKind.APPROVE for model in (scorer, other.scorer))
    compared = comparison(found, RULES, protected=protected.only(["side"]))
    assert list(compared.groups) == ["side"]
    few, even, odd = sorted(compared.groups["side"], key=lambda one: ("few", "even", "odd").index(one.name))
    assert few == GroupShift("few")
    member = np.array(names)
    shares = {}
    for group in (even, odd):
        mine = member == group.name
        assert group.rows == np.count_nonzero(mine)
        assert group.before == share_estimate(int(before[mine].sum()), int(mine.sum()), 0.95)
        assert group.after == share_estimate(int(after[mine].sum()), int(mine.sum()), 0.95)
        flips = [int((after & ~before & mine).sum()), int((before & ~after & mine).sum())]
        assert [group.to_approval, group.from_approval] == [None if 0 < one < 10 else one for one in flips]
        shares[group.name] = (group.before.value, group.after.value)
    for at, name in ((0, "impact_before"), (1, "impact_after")):
        low, high = sorted((even, odd), key=lambda one: shares[one.name][at])
        assert getattr(high, name) is None
        assert getattr(low, name).value == pytest.approx(shares[low.name][at] / shares[high.name][at])


def test_clients_are_found_by_the_key_of_the_log(log: Path, recording: StoredModel, tmp_path: Path) -> None:
    file = side_file(tmp_path / "g.csv", [("client-0", "a"), ("client-9", "b")], "client_id", "side")
    found = paired(log, f"recording:{recording.version}", PairKeys(None, frozenset({"client_id"})))
    protected = read_protected(file, ClientHash(bytes.fromhex(KEY)))
    # All decisions are of one person, so the group is too small however many they are.
    assert comparison(found, RULES, protected=protected).groups == {"side": (GroupShift("a"),)}
    with pytest.raises(SourceError, match="is DECISION_LOG_KEY the key that the log was written with"):
        comparison(found, RULES, protected=read_protected(file, ClientHash(b"k" * 32)))
    with pytest.raises(SourceError, match=r"^the file of protected attributes lacks age$"):
        protected.only(["age"])


@pytest.fixture(scope="module")
def many(recording: StoredModel, model_matrix: Matrix, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Matrix]:
    """A log of 8,000 decisions, each application twenty times."""
    folder = tmp_path_factory.mktemp("many")
    matrix = np.tile(model_matrix, (20, 1))
    worker = Worker(recording, folder / "counts", folder / "log", now=LATER.timestamp())
    worker.record(len(matrix), matrix)
    worker.recorder.close()
    return folder / "log", matrix


def test_a_planted_better_and_a_planted_worse_challenger_are_told_apart(
    many: tuple[Path, Matrix], artefact: Artefact, applications: Columns, outcomes: Matrix, tmp_path: Path
) -> None:
    log, matrix = many
    random = np.random.default_rng(20261128)
    better = trained(artefact, artefact.features, applications, outcomes, rounds=40)
    worse = trained(artefact, artefact.features, applications, random.permutation(outcomes), rounds=10)
    # The PDs of the better one are the truth, and outcomes are drawn from them.
    truth = Scorer(better).score_matrix(matrix).probability
    champion = Scorer(artefact).score_matrix(matrix)
    approved = champion.decision == DecisionKind.APPROVE
    count = int(approved.sum())
    rows = [("request-0", row, int(bad)) for row, bad in enumerate(random.random(len(truth)) < truth)]
    known = read_outcomes(side_file(tmp_path / "outcomes.csv", rows, "request_id", "index", "outcome"), None)
    for model, sign in ((better, -1), (worse, 1)):
        with kept("other", model) as other:
            compared = comparison(paired(log, "other", BY_REQUEST), RULES, outcomes=known)
            chosen = np.argsort(other.scorer.score_matrix(matrix).probability, kind="stable")[:count]
        difference = truth[chosen].mean() - truth[approved].mean()
        assert compared.realised is not None
        first = compared.realised.equal[0]
        assert (first.judged_by, first.rows, first.approved) == ("outcomes", 8000, count)
        assert first.difference.low <= difference <= first.difference.high
        assert sign * first.difference.value > 0
        assert sign * first.difference.low > 0
        assert sign * first.difference.high > 0
        assert sign * compared.realised.auc.value < 0
        assert compared.realised.auc.low * compared.realised.auc.high > 0
        assert not compared.realised.accepted_only
    assert [one.approved for one in compared.realised.equal[1:]] == [round(s * count) for s in (0.9, 0.75, 0.5)]


def test_outcomes_of_approvals_alone_compare_at_fewer_approvals(
    log: Path, scorer: Scorer, reordered: Artefact, applications: Columns, outcomes: Matrix, tmp_path: Path
) -> None:
    approved = scorer.score(applications).decision == DecisionKind.APPROVE
    rows = [("request-0", row, int(outcomes[row])) for row in np.flatnonzero(approved)]
    known = read_outcomes(side_file(tmp_path / "outcomes.csv", rows, "request_id", "index", "outcome"), None)
    with kept("other", reordered):
        compared = comparison(paired(log, "other", BY_REQUEST), RULES, outcomes=known)
    found = compared.realised
    assert found is not None
    count = int(approved.sum())
    assert found.accepted_only
    assert {str(one.decision): one.known for one in found.coverage} == {"approve": count, "refer": 0, "decline": 0}
    assert [one.approved for one in found.equal] == [round(share * count) for share in (0.9, 0.75, 0.5)]


def test_a_page_has_every_figure_and_no_script(log: Path, reordered: Artefact) -> None:
    with kept("other", reordered):
        compared = comparison(paired(log, "other", BY_REQUEST), RULES, amount=AMOUNT)
    page = comparison_report("Decisions in a log", compared)
    assert compared.summary in page
    assert f"<td>{compared.bands[-1].mean:+.4f}</td>" in page
    assert "<script" not in page
    assert page.count("<svg") == 2
    told = list(comparison_lines(compared))
    assert told[-1] == compared.summary
    assert f"Sums of {AMOUNT}" in told
    assert json.loads(json.dumps(compared.to_dict(), allow_nan=False))["flips"] == compared.flips


@pytest.mark.parametrize(("shares", "top"), [([0.0, 0.0], 1.0), ([0.0, 0.25], 0.25), ([], 1.0)])
def test_an_axis_ends_at_the_largest_share_and_at_1_where_there_is_none(shares: list[float], top: float) -> None:
    chart = BarChart.of_shares("share that changes", [f"band {i}" for i in range(len(shares))], shares, shares)
    assert chart.top == top
    assert [bar.height for bar in chart.bars[-1:]] == [122.0 * (shares[-1] > 0) for _ in shares[-1:]]


def test_a_model_that_is_not_in_the_store_is_an_error(log: Path, reordered: Artefact, tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="nobody: not in the BentoML model store"):
        paired(log, "nobody")
    with kept("other", reordered), pytest.raises(SourceError, match="no decision log"):
        paired(tmp_path, "other")


def test_a_shadow_of_several_models_needs_a_version(
    recording: StoredModel, small: StoredModel, model_matrix: Matrix, tmp_path: Path
) -> None:
    for number, model in enumerate((recording, small)):
        worker = Worker(model, tmp_path / f"counts{number}", tmp_path / "log", now=LATER.timestamp())
        worker.record(3, model_matrix[:3])
        worker.recorder.close()
    with pytest.raises(SourceError, match=r"records of several models, give --version: recording:.*, small:"):
        ShadowDecisions.read(DecisionLogReader(tmp_path / "log"))
    with pytest.raises(SourceError, match="no decision of this model and time"):
        ShadowDecisions.read(DecisionLogReader(tmp_path / "log", digest="0" * 64))
