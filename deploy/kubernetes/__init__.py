"""The manifests of Kubernetes: `python -m deploy.kubernetes rules|check`."""

from __future__ import annotations

from .check import OVERLAYS, check, render
from .rules import prometheus_rule

__all__ = ["OVERLAYS", "check", "prometheus_rule", "render"]
