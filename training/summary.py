"""What the commands of `python -m training` print."""

from __future__ import annotations

from collections.abc import Iterator

from .evaluation import Evaluation, group_lines
from .fitting import TrainedModel
from .promotion import Contender, Verdict

_SHOWN = (
    "auc", "gini", "ks", "average_precision", "brier", "log_loss", "ece", "calibration_slope", "lift", "precision",
    "recall", "f1", "f_beta", "declined_share", "cost_per_applicant", "cost_approve_all",
)  # fmt: skip


def trained_lines(trained: TrainedModel) -> Iterator[str]:
    """What was measured of a model when it was trained."""
    evaluation = trained.evaluation
    yield (
        f"{evaluation.rows} applications, {evaluation.defaults} defaults; "
        f"out of fold, with {evaluation.confidence:.0%} intervals:"
    )
    for name in _SHOWN:
        yield f"  {name:20} {evaluation[name]}"
    yield f"  AUC that the protected attributes would add: {trained.price}"
    if trained.monotone_price is not None:
        yield f"  AUC that features without a direction would add: {trained.monotone_price}"
    if trained.later is not None:
        later = trained.later
        yield f"  {later.rows} later applications, {later.defaults} defaults: AUC {later['auc']}, ECE {later['ece']}"
    yield from _policy_lines(evaluation)


def _policy_lines(evaluation: Evaluation) -> Iterator[str]:
    for level in evaluation.levels:
        rate = level.default_rate or "no applications"
        yield f"  {level.level:9} {level.rows:8} applications, default rate {rate}"
    for threshold in evaluation.thresholds:
        yield (
            f"  {threshold.method:12} cut-off {threshold.cutoff:.4f}, cost {threshold.cost_per_applicant:.4f} per "
            f"applicant, F-beta {threshold.f_beta:.4f}"
        )


def verdict_lines(verdict: Verdict) -> Iterator[str]:
    """Every gate with its figure and its limit, passed or not, and what they were judged on."""
    yield f"gates, judged on {verdict.rows} applications, each by a model that was not fitted on it:"
    yield f"  challenger {_judged(verdict.challenger, verdict.rows)}"
    yield f"  {_champion_line(verdict)}"
    yield from (f"  {gate}" for gate in verdict.gates)
    yield from group_lines(verdict.groups)


def _champion_line(verdict: Verdict) -> str:
    if verdict.champion is not None:
        return f"champion   {_judged(verdict.champion, verdict.rows)}"
    return f"champion   cannot be compared with: {verdict.obstacle}" if verdict.incumbent else "no champion yet"


def _judged(judged: Contender, rows: int) -> str:
    return f"{judged.registered}: {judged.fitted_on} out of fold, {rows - judged.fitted_on} by the registered model"
