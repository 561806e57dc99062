"""The performance of a model's decisions: estimated always, realised where outcomes are known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from monitoring.errors import SourceError
from monitoring.measures import Estimate
from monitoring.settings import PerformanceSettings
from monitoring.sources import DecisionLog
from scoring import DecisionPolicy

from .estimated import Estimated, estimate
from .matching import match
from .outcomes import Outcomes
from .realised import Realised, realise


@dataclass(frozen=True, slots=True)
class Performance:
    """What is known of a model's decisions.

    Attributes
    ----------
    estimated : of all decisions, from their PDs alone
    realised : of those whose outcome is known; None without outcomes
    counts : what was matched and what was not
    reasons : why the alarm goes off; empty if it does not
    """

    confidence: float
    floor: float
    estimated: Estimated
    realised: Realised | None
    counts: dict[str, int]
    reasons: tuple[str, ...]

    @property
    def alarm(self) -> bool:
        """Whether somebody must look."""
        return bool(self.reasons)


def perform(
    log: DecisionLog,
    outcomes: Outcomes | None,
    policy: DecisionPolicy,
    settings: PerformanceSettings,
    progress: Callable[[int], object] = lambda _: None,
) -> Performance:
    """The performance of the log's decisions; SourceError if it has none, or no outcome is of one of them."""
    realised, counts = None, {}
    if outcomes is not None:
        matched = match(log, outcomes, progress)
        realised = realise(matched, policy, settings)
        counts = {
            "outcome rows": outcomes.rows,
            "not matured yet": outcomes.immature,
            "doubled or contradictory": outcomes.doubled,
            "of no decision in the log": matched.unknown,
            "of several decisions under one request_id": matched.contested,
            "decisions without a known outcome": matched.unmatched,
            "earlier decisions of the same client": matched.repeated,
        }
        del matched, outcomes  # as large as the log
    estimated = estimate(_probabilities(log), settings)
    reasons = [*_reasons(realised, settings)] if realised else [*_estimated_reasons(estimated, settings)]
    return Performance(settings.confidence, settings.min_auc, estimated, realised, counts, tuple(reasons))


def _probabilities(log: DecisionLog) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    blocks = [table["probability"].to_numpy() for table in log.tables(["probability"])]
    if not blocks:
        raise SourceError(f"{log.directory}: no decision of this model and time")
    return np.concatenate(blocks)


def _reasons(realised: Realised, settings: PerformanceSettings) -> list[str]:
    """Of accepted applications alone the AUC is lower by nature; then it must be lower than their PDs imply as well."""
    auc = realised.estimates["auc"]
    if not _below(auc, settings):
        return []
    if not realised.accepted_only:
        return [f"AUC {auc} is below {settings.min_auc:g}"]
    implied = f"{realised.expected_auc:.4f}, which their PDs imply"
    below = auc.high < realised.expected_auc
    return [f"AUC {auc} of the accepted is below {settings.min_auc:g} and below {implied}"] if below else []


def _estimated_reasons(estimated: Estimated, settings: PerformanceSettings) -> list[str]:
    if not _below(estimated.auc, settings):
        return []
    return [f"estimated AUC {estimated.auc} is below {settings.min_auc:g}"]


def _below(auc: Estimate, settings: PerformanceSettings) -> bool:
    """Whether the whole interval lies below the floor."""
    return bool(auc.high < settings.min_auc)
