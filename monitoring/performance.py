"""The performance of a model's decisions: estimated always, realised where outcomes are known."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import numpy as np
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from decision_log.errors import SourceError, UnmatchedError
from decision_log.reader import DecisionLogReader
from jobs.commandline import table
from jobs.output import write_bytes
from monitoring.measures import Estimate
from monitoring.outcomes import Outcomes, match
from monitoring.realised import ASSUMPTIONS, Estimated, Part, Realised, estimate, realise
from monitoring.reject_inference import WEIGHTED, RejectInference, declined_probabilities, infer
from monitoring.settings import PerformanceSettings
from scoring.policy import DecisionPolicy


@dataclass(frozen=True, slots=True)
class Performance:
    """The performance of a model's decisions.

    Attributes
    ----------
    estimated : of all decisions, from their PDs alone
    realised : of decisions with a known outcome; None without outcomes
    counts : numbers of matched and unmatched rows, by their names in the report
    reasons : why the alarm is raised; empty if it is not
    inference : figures for approved and declined together; None where outcomes are not those of the approved alone
    """

    confidence: float
    floor: float
    estimated: Estimated
    realised: Realised | None
    counts: dict[str, int]
    reasons: tuple[str, ...]
    inference: RejectInference | None = None

    @property
    def alarm(self) -> bool:
        """Whether somebody must look."""
        return bool(self.reasons)


def perform(
    log: DecisionLogReader,
    outcomes: Outcomes | None,
    policy: DecisionPolicy,
    settings: PerformanceSettings,
    progress: Callable[[int], object] = lambda _: None,
) -> Performance:
    """Measure the decisions of the log; SourceError if it has none, or no outcome belongs to one of them."""
    realised, inference, counts = None, None, {}
    if outcomes is not None:
        matched = match(log, outcomes, progress)
        if matched.explored.all():
            raise UnmatchedError(
                f"{log.directory}: only explored decisions have an outcome, so there is nothing to compare"
            )
        realised = realise(matched, policy, settings)
        if realised.accepted_only or matched.explored.any():
            inference = infer(matched, declined_probabilities(log), policy.explore, settings)
        counts = {
            "outcome rows": outcomes.rows,
            "not matured yet": outcomes.immature,
            "doubled or contradictory": outcomes.doubled,
            "of no decision in the log": matched.unknown,
            "of several decisions under one request_id": matched.ambiguous,
            "decisions without a known outcome": matched.unmatched,
            "earlier decisions of the same client": matched.repeated,
        }
        del matched, outcomes  # as large as the log
    estimated = estimate(_probabilities(log), settings)
    reasons = [*_reasons(realised, settings)] if realised else [*_estimated_reasons(estimated, settings)]
    reasons += [] if inference is None else _weighted_reasons(inference, settings)
    return Performance(settings.confidence, settings.min_auc, estimated, realised, counts, tuple(reasons), inference)


def _probabilities(log: DecisionLogReader) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    blocks = [table["probability"].to_numpy() for table in log.tables(["probability"])]
    if not blocks:
        raise SourceError(f"{log.directory}: no decision of this model and time")
    return np.concatenate(blocks)


def _reasons(realised: Realised, settings: PerformanceSettings) -> list[str]:
    """Why the realised AUC raises the alarm; of accepted applications alone it must be below the implied AUC too."""
    # The accepted differ less from each other than all applicants do, so their AUC is lower for the same model.
    auc = realised.estimates["auc"]
    if not _below(auc, settings):
        return []
    if not realised.accepted_only:
        return [f"AUC {auc} is below {settings.min_auc:g}"]
    implied = f"{realised.expected_auc:.4f}, which their PDs imply"
    below = auc.high < realised.expected_auc
    return [f"AUC {auc} of the accepted is below {settings.min_auc:g} and below {implied}"] if below else []


def _weighted_reasons(inference: RejectInference, settings: PerformanceSettings) -> list[str]:
    """Why the AUC that explored applications stand for others in raises the alarm: it has no bias to allow for."""
    auc = inference.figures[WEIGHTED]["AUC"] if WEIGHTED in inference.figures else None
    if auc is None or not _below(auc, settings):
        return []
    return [f"AUC {auc} of approved and declined, weighted by exploration, is below {settings.min_auc:g}"]


def _estimated_reasons(estimated: Estimated, settings: PerformanceSettings) -> list[str]:
    if not _below(estimated.auc, settings):
        return []
    return [f"estimated AUC {estimated.auc} is below {settings.min_auc:g}"]


def _below(auc: Estimate, settings: PerformanceSettings) -> bool:
    """Whether the whole interval lies below the floor."""
    # the value alone would raise the alarm every other time for a model that is just at the floor
    return bool(auc.high < settings.min_auc)


ACCEPTED_ONLY = (
    "outcomes are known of hardly any declined application: these figures are of the accepted ones alone, among whom "
    "a model discriminates worse than among all applicants"
)


def performance_lines(performance: Performance) -> Iterator[str]:
    """The performance as lines of text: verdict, realised figures, and the estimate with its assumptions."""
    yield f"ALARM: {'; '.join(performance.reasons)}" if performance.alarm else "no alarm"
    yield f"floor of the AUC {performance.floor:g}; intervals {performance.confidence:.0%}"
    if performance.realised:
        yield from _realised(performance.realised)
        yield from (f"  {name}: {count:,}" for name, count in performance.counts.items())
    if performance.inference:
        yield from performance.inference.lines()
    estimated = performance.estimated
    yield f"estimated from the PDs of {estimated.rows:,} decisions alone (CBPE), assuming that"
    yield from (f"  - {assumption}" for assumption in ASSUMPTIONS)
    yield f"  {'auc':24} {estimated.auc}"
    yield f"  {'default_rate':24} {estimated.default_rate}"


def _realised(realised: Realised) -> Iterator[str]:
    yield f"{realised.rows:,} decisions with a known outcome, {realised.defaults:,} defaults"
    yield from (f"  {name:24} {estimate}" for name, estimate in realised.estimates.items())
    yield from _parts("risk level", realised.levels)
    yield from _parts("month", realised.months)
    for each in realised.coverage:
        yield f"  outcomes known of {each.decision}: {each.known:,} of {each.rows:,}"
    if realised.accepted_only:
        yield f"  ACCEPT-ONLY BIAS: {ACCEPTED_ONLY}; their PDs imply an AUC of {realised.expected_auc:.4f}"


def _parts(title: str, parts: Sequence[Part]) -> Iterator[str]:
    cells = [
        (part.name, f"{part.rows:,}", f"{part.mean_probability:.4f}", str(part.default_rate), str(part.auc))
        for part in parts
    ]
    head = (title, "rows", "mean PD", "default rate", "AUC")
    yield from (f"  {line}" for line in table([head, *cells], right={1, 2, 3, 4}))


def performance_json(performance: Performance) -> dict[str, Any]:
    """The performance in JSON-ready form; figures that cannot be measured are null."""
    values = {"alarm": performance.alarm, **asdict(performance), "assumptions": list(ASSUMPTIONS)}
    plain: dict[str, Any] = without_nan(values)
    return plain


def without_nan(value: Any) -> Any:
    """Return the value in JSON-ready form: null in the place of numbers that JSON has not."""
    if isinstance(value, dict):
        return {key: without_nan(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@dataclass(frozen=True)
class Rates:
    """Default rates of the same decisions: expected (the mean PD) and observed."""

    expected: float
    observed: float


@dataclass(frozen=True)
class Figures:
    """The figures on matured outcomes that become metrics.

    Attributes
    ----------
    at : time of the measurement
    auc, lower, upper : AUC and the ends of its interval
    """

    digest: str
    at: datetime
    auc: float
    lower: float
    upper: float
    rates: Rates
    levels: Mapping[str, Rates]
    """By risk level."""

    @classmethod
    def of(cls, realised: Realised, digest: str, at: datetime) -> Self:
        """Take the figures from the realised performance of the model with the digest."""
        auc = realised.estimates["auc"]
        levels = {part.name: Rates(part.mean_probability, part.default_rate.value) for part in realised.levels}
        return cls(digest, at, auc.value, auc.low, auc.high, _all(realised.levels), levels)

    def write(self, path: Path) -> None:
        """Write the metrics into a file that appears whole; OutputError if it cannot be written."""
        # node_exporter reads the file at any moment: the job itself has ended when Prometheus scrapes
        write_bytes(path, generate_latest(self._registry()))

    def _registry(self) -> CollectorRegistry:
        registry = CollectorRegistry()
        self._single(registry)
        rate = _gauge(registry, "default_rate", "Default rate of matured decisions", "kind")
        by_level = _gauge(registry, "level_default_rate", "The same, by risk level", "risk_level", "kind")
        for kind in ("expected", "observed"):
            rate.labels(self.digest, kind).set(getattr(self.rates, kind))
            for level, rates in self.levels.items():
                by_level.labels(self.digest, level, kind).set(getattr(rates, kind))
        return registry

    def _single(self, registry: CollectorRegistry) -> None:
        for name, text, value in (
            ("auc", "AUC on matured outcomes", self.auc),
            ("auc_lower", "Lower end of its interval", self.lower),
            ("auc_upper", "Upper end of its interval", self.upper),
            ("timestamp_seconds", "When performance was measured", self.at.timestamp()),
        ):
            _gauge(registry, name, text).labels(self.digest).set(value)


def _all(parts: Sequence[Part]) -> Rates:
    rows = sum(part.rows for part in parts)
    expected = sum(part.rows * part.mean_probability for part in parts) / rows
    return Rates(expected, sum(part.rows * part.default_rate.value for part in parts) / rows)


def _gauge(registry: CollectorRegistry, name: str, text: str, *labels: str) -> Gauge:
    return Gauge(f"credit_scoring_performance_{name}", text, ("digest", *labels), registry=registry)
