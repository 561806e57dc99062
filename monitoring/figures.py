"""What a performance report found, as metrics that Prometheus reads from a file.

The job that makes the report is over long before it is scraped. It leaves a file in the folder that node_exporter's
text file collector looks into.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Self

from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

from .errors import ReportError

if TYPE_CHECKING:
    from .performance import Part, Realised


@dataclass(frozen=True)
class Rates:
    """Default rates of the same decisions: the mean PD, and what became of them."""

    expected: float
    observed: float


@dataclass(frozen=True)
class Figures:
    """Performance on matured outcomes.

    Attributes
    ----------
    at : when it was measured
    auc, lower, upper : with the ends of its interval
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
        """The figures of what became of the decisions of the model with the digest."""
        auc = realised.estimates["auc"]
        levels = {part.name: Rates(part.mean_probability, part.default_rate.value) for part in realised.levels}
        return cls(digest, at, auc.value, auc.low, auc.high, _all(realised.levels), levels)

    def write(self, path: Path) -> None:
        """Write the metrics into a file that appears whole; ReportError if it cannot be written."""
        try:
            write_to_textfile(str(path), self._registry())
        except OSError as error:
            raise ReportError(f"{path}: cannot be written ({error.strerror})") from None

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
