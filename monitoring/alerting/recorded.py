"""The names of the series that the recording rules compute: level:metric:operations."""

from __future__ import annotations

from dataclasses import dataclass

from monitoring.alerting.duration import Duration
from monitoring.alerting.settings import Windows

QUANTILES = (0.5, 0.9, 0.99)
"""Of the time to an answer."""


@dataclass(frozen=True)
class Recorded:
    """The series, over the windows of the settings; every one adds up all pods of a job."""

    windows: Windows

    @property
    def requests(self) -> str:
        """Requests per second, by endpoint and status."""
        return f"job_endpoint_status:credit_scoring_requests:rate{self.windows.rate}"

    @property
    def errors(self) -> str:
        """Share of scoring requests that were answered with 5xx."""
        return f"job:credit_scoring_errors:ratio_rate{self.windows.rate}"

    @property
    def invalid(self) -> str:
        """Share of scoring requests that were answered with 4xx."""
        return f"job:credit_scoring_invalid:ratio_rate{self.windows.rate}"

    @property
    def shed(self) -> str:
        """Share of scoring requests that were refused for want of room."""
        return f"job:credit_scoring_shed:ratio_rate{self.windows.rate}"

    def latency(self, quantile: float) -> str:
        """Quantile of the time to an answer, in seconds, by endpoint."""
        return f"job_endpoint:credit_scoring_response_seconds:p{quantile * 100:g}_rate{self.windows.rate}"

    @property
    def decided(self) -> str:
        """Decisions per second, by outcome and risk level."""
        return f"job_decision_risk_level:credit_scoring_decisions:rate{self.windows.rate}"

    @property
    def decision_count(self) -> str:
        """Recent decisions."""
        return f"job:credit_scoring_decisions:increase{self.windows.recent}"

    @property
    def default_rate(self) -> str:
        """Mean PD of the decisions of the baseline's days."""
        return f"job:credit_scoring_default_rate:mean{self.windows.baseline}"

    def declines(self, window: Duration) -> str:
        """Share of declines among the decisions of the window."""
        return f"job:credit_scoring_declines:ratio_increase{window}"

    def availability_burn(self, window: Duration) -> str:
        """Burn rate of the availability objective."""
        return f"job:credit_scoring_availability:burnrate{window}"

    def latency_burn(self, window: Duration) -> str:
        """Burn rate of the latency objective."""
        return f"job:credit_scoring_latency:burnrate{window}"
