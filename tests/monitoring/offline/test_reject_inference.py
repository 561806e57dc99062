"""Figures for approved and declined together: weighted ones cover the truth, those of the approved alone do not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from decision_log.errors import SourceError
from decision_log.format import Caller
from decision_log.reader import DecisionLogReader
from features.files import open_file
from features.transformer import Columns, concatenate
from monitoring.measures import Estimate
from monitoring.outcomes import Matched, match, read_outcomes
from monitoring.performance import perform, performance_json, performance_lines
from monitoring.reject_inference import (
    APPROVED,
    PARCELLED,
    WEIGHTED,
    RejectInference,
    declined_probabilities,
    infer,
)
from monitoring.settings import PerformanceSettings
from scoring.policy import ExploreRule
from scoring.scorer import Scorer, with_conformance
from scoring.store import StoredModel
from tests.home_credit import PORTFOLIO
from tests.monitoring.recording import Worker
from tests.monitoring.test_decision_log import client_hash

Floats = NDArray[np.float64]
SETTINGS = PerformanceSettings(
    min_auc=0.6, confidence=0.95, resamples=200, groups=100, calibration_bins=4, f_beta=2.0, lift_share=0.2, seed=5
)
RULE = ExploreRule(0.05, 0.5)
REFER_FROM, REFER_TO = 0.08, 0.1
ROWS = 40_000


def simulated(
    seed: int, truth: Callable[[Floats], Floats], rule: ExploreRule | None = RULE
) -> tuple[RejectInference, dict[str, float]]:
    """What is inferred from a book whose true default probabilities are `truth` of the PDs, and what is true of it."""
    random = np.random.default_rng(seed)
    pds = 1 / (1 + np.exp(-random.normal(-2.2, 1.0, ROWS)))
    outcome = (random.random(ROWS) < truth(pds)).astype(np.int8)
    approved, declined = pds < REFER_FROM, (pds >= REFER_TO) & (pds <= 0.5)
    explored = declined & (random.random(ROWS) < (0.0 if rule is None else rule.share))
    known = (approved & (random.random(ROWS) < 0.8)) | (explored & (random.random(ROWS) < 0.8))
    matched = Matched(
        outcome=outcome[known],
        probability=pds[known],
        month=np.zeros(int(known.sum()), dtype=np.int32),
        decision=np.where(explored, 2, 0).astype(np.int8)[known],
        explored=explored[known],
        decisions=np.array([approved.sum(), 0, declined.sum()]),
        unmatched=0,
        repeated=0,
        unknown=0,
    )
    # Of the explored 80 % are known too, so their weight is relative to the approved that are known.
    found = infer(matched, pds[declined], rule, SETTINGS)
    assert found is not None
    book = approved | declined
    return found, _true(pds[book], outcome[book])


def _true(pds: Floats, outcome: NDArray[np.int8]) -> dict[str, float]:
    ranks = np.argsort(np.argsort(pds)) + 1
    bad = int(outcome.sum())
    auc = (ranks[outcome == 1].sum() - bad * (bad + 1) / 2) / (bad * (len(pds) - bad))
    return {
        "AUC": float(auc),
        "default rate": bad / len(pds),
        "observed over expected": float(outcome.sum() / pds.sum()),
    }


def covers(estimate: Estimate, value: float) -> bool:
    return estimate.low <= value <= estimate.high


def worse_than_believed(pds: Floats) -> Floats:
    """Calibrated among the approved; the declined default half as often again as their PDs say."""
    return np.where(pds < REFER_TO, pds, np.minimum(1.5 * pds, 0.95))


def test_weighted_figures_cover_the_truth_and_those_of_the_approved_alone_do_not() -> None:
    runs = [simulated(seed, worse_than_believed) for seed in range(5_000, 5_060)]
    for name in ("AUC", "default rate", "observed over expected"):
        weighted = [covers(found.figures[WEIGHTED][name], truth[name]) for found, truth in runs]
        alone = [covers(found.figures[APPROVED][name], truth[name]) for found, truth in runs]
        assert sum(weighted) >= 52
        assert not any(alone)
    # Guesses repeat the model's belief: in the middle they are calibrated, as the declined are not.
    guessed = [found.figures[PARCELLED]["observed over expected"].value for found, _ in runs]
    assert abs(float(np.mean(guessed)) - 1) < 0.1
    assert min(truth["observed over expected"] for _, truth in runs) > 1.3


def test_the_verdict_says_whether_guesses_come_nearer() -> None:
    calibrated, _ = simulated(1, lambda pds: pds)
    assert calibrated.nearer["AUC"].low > 0
    assert "AUC: parcelling moves towards the truth (nearer by " in "\n".join(calibrated.verdicts())
    # Among the declined the PDs tell nothing, and they default as rarely as the approved do.
    blind, _ = simulated(1, lambda pds: np.where(pds < REFER_TO, pds, 0.05))
    assert blind.nearer["AUC"].high < 0
    assert "AUC: parcelling moves away from the truth (nearer by -" in "\n".join(blind.verdicts())


def test_without_exploration_nothing_tells_whether_guesses_help() -> None:
    found, _ = simulated(1, worse_than_believed, rule=None)
    assert (found.share, found.explored, dict(found.nearer)) == (None, 0, {})
    assert [*found.figures] == [APPROVED, PARCELLED]
    assert [*found.verdicts()] == [
        "too few outcomes of explored applications (0): nothing tells whether parcelling helps"
    ]


def test_nothing_is_inferred_where_the_approved_have_one_outcome_only() -> None:
    none = np.zeros(3, dtype=np.int8)
    flags = np.zeros(3, dtype=np.bool_)
    matched = Matched(none, np.full(3, 0.05), none.astype(np.int32), none, flags, np.array([3, 0, 0]), 0, 0, 0)
    assert infer(matched, np.array([0.3]), RULE, SETTINGS) is None


@pytest.fixture(scope="module")
def applications(generated: Path) -> Columns:
    return concatenate(
        [batch.columns for batch in open_file(generated / "application_train.csv", PORTFOLIO).batches(4_000)]
    )


def test_a_log_with_explored_applications_is_judged_with_and_without_them(
    scorer: Scorer, applications: Columns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = ExploreRule(share=0.4, up_to=0.9)
    policy = replace(
        scorer.artefact.policy, refer_from=0.06, cutoff=0.07, refer_to=0.08, completeness=None, explore=rule
    )
    model = StoredModel("m", "1-abc", Scorer(with_conformance(replace(scorer.artefact, policy=policy))))
    matrix = model.scorer.transformer.transform(applications)
    scores = model.scorer.score_matrix(matrix)
    worker = Worker(model, tmp_path / "counts", tmp_path / "log")
    asked = [Caller(f"r-{row}", f"c-{row}") for row in range(len(matrix))]
    decided = worker.recorder.record("/predict", asked, matrix, scores).decision
    worker.recorder.close()
    outcome = np.random.default_rng(3).random(len(matrix)) < scores.probability
    given = [f"c-{row},{int(outcome[row])}" for row in range(len(matrix)) if decided[row] == "approve"]
    (tmp_path / "outcomes.csv").write_text("\n".join(["client_id,outcome", *given, ""]))
    log = DecisionLogReader(tmp_path / "log", digest=model.scorer.artefact.digest)
    outcomes = read_outcomes(tmp_path / "outcomes.csv", client_hash({"DECISION_LOG_KEY": "0123456789abcdef" * 4}))
    matched = match(log, outcomes)
    first, explored = (scores.decision == "approve", (scores.decision == "decline") & (decided == "approve"))
    assert (len(matched.outcome), int(matched.explored.sum())) == (len(given), int(explored.sum()))
    assert sorted(declined_probabilities(log)) == sorted(scores.probability[scores.decision == "decline"])
    found = perform(log, outcomes, policy, SETTINGS)
    assert found.realised is not None
    assert found.realised.rows == int(first.sum())
    assert [(each.decision, each.known) for each in found.realised.coverage] == [
        ("approve", int(first.sum())), ("refer", 0), ("decline", int(explored.sum())),
    ]  # fmt: skip
    assert found.inference is not None
    assert (found.inference.approved, found.inference.explored) == (int(first.sum()), int(explored.sum()))
    assert any(line.startswith("reject inference: ") for line in performance_lines(found))
    assert performance_json(found)["inference"]["share"] == 0.4
    auc = found.inference.figures[WEIGHTED]["AUC"]
    assert not found.alarm
    said = f"AUC {auc} of approved and declined, weighted by exploration, is below 0.99"
    assert said in perform(log, outcomes, policy, SETTINGS.model_copy(update={"min_auc": 0.99})).reasons
    drawn = ["client_id,outcome", *(f"c-{row},0" for row in np.flatnonzero(explored)), ""]
    (tmp_path / "explored.csv").write_text("\n".join(drawn))
    only = read_outcomes(tmp_path / "explored.csv", client_hash({"DECISION_LOG_KEY": "0123456789abcdef" * 4}))
    with pytest.raises(SourceError, match=f"^{log.directory}: only explored decisions have an outcome"):
        perform(log, only, policy, SETTINGS)
