"""The Grafana dashboard, made from the settings."""

from __future__ import annotations

from .document import dashboard, datasource, provider

__all__ = ["dashboard", "datasource", "provider"]
