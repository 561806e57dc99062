"""What `python -m training run` prints at its end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from .gates import Gate
from .trainer import TrainedModel

if TYPE_CHECKING:
    from .delivery import Delivered

_SHOWN = (
    "auc", "gini", "ks", "average_precision", "brier", "log_loss", "ece", "calibration_slope", "lift", "precision",
    "recall", "f1", "f_beta", "declined_share", "cost_per_applicant", "cost_approve_all",
)  # fmt: skip


def lines(delivered: Delivered) -> Iterator[str]:
    """The report, line by line."""
    yield from measured(delivered.trained, delivered.gates)
    yield f"registered {delivered.registered.uri}, promoted to champion"
    yield f"imported   {delivered.tag}"


def measured(trained: TrainedModel, gates: Sequence[Gate]) -> Iterator[str]:
    """What was measured of a model, line by line, whether it passed its gates or not."""
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
    for level in evaluation.levels:
        rate = level.default_rate or "no applications"
        yield f"  {level.level:9} {level.rows:8} applications, default rate {rate}"
    for threshold in evaluation.thresholds:
        yield (
            f"  {threshold.method:12} cut-off {threshold.cutoff:.4f}, cost {threshold.cost_per_applicant:.4f} per "
            f"applicant, F-beta {threshold.f_beta:.4f}"
        )
    yield from (f"  gate: {gate}" for gate in gates)
