"""The monitoring report: one self-contained HTML page, and the frame that other pages may use."""

from __future__ import annotations

from .page import bullets, charts, heading, page, paragraph, table, verdict
from .sections import drift_section, fairness_section, performance_section

__all__ = [
    "bullets",
    "charts",
    "drift_section",
    "fairness_section",
    "heading",
    "page",
    "paragraph",
    "performance_section",
    "table",
    "verdict",
]
