"""What became of the model: recording decisions, drift, performance, fairness, reports."""

from __future__ import annotations

from .settings import MonitoringSettings

__all__ = ["MonitoringSettings"]
