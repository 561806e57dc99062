"""What a performance report found, as metrics that Prometheus reads from a file.

The job that makes the report is over long before it is scraped. It leaves a file in the folder that node_exporter's
text file collector looks into.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

from scoring import RiskLevel

from .errors import ReportError


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

    model_version: str
    at: datetime
    auc: float
    lower: float
    upper: float
    rates: Rates
    levels: Mapping[RiskLevel, Rates]

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
            rate.labels(self.model_version, kind).set(getattr(self.rates, kind))
            for level, rates in self.levels.items():
                by_level.labels(self.model_version, level, kind).set(getattr(rates, kind))
        return registry

    def _single(self, registry: CollectorRegistry) -> None:
        for name, text, value in (
            ("auc", "AUC on matured outcomes", self.auc),
            ("auc_lower", "Lower end of its interval", self.lower),
            ("auc_upper", "Upper end of its interval", self.upper),
            ("timestamp_seconds", "When performance was measured", self.at.timestamp()),
        ):
            _gauge(registry, name, text).labels(self.model_version).set(value)


def _gauge(registry: CollectorRegistry, name: str, text: str, *labels: str) -> Gauge:
    return Gauge(f"credit_scoring_performance_{name}", text, ("model_version", *labels), registry=registry)
