"""The monitoring report: one self-contained HTML page, and the frame that other pages may use."""

from __future__ import annotations

from .page import bullets, charts, heading, paragraph, table, verdict, whole_page
from .sections import drift_section, fairness_section, performance_section

__all__ = [
    "bullets",
    "charts",
    "drift_section",
    "fairness_section",
    "heading",
    "paragraph",
    "performance_section",
    "table",
    "verdict",
    "whole_page",
]
