"""Writing a comparison into the README."""

from __future__ import annotations

import os
from pathlib import Path

from .bars import verdicts
from .chart import draw
from .errors import BenchmarkError
from .results import Comparison, SoakRecord
from .settings import BenchmarkSettings
from .table import by_cpu, document

_BEGIN, _END = "<!-- benchmarks -->", "<!-- /benchmarks -->"


def report(comparison: Comparison, soak: SoakRecord | None, *, readme: Path, chart: Path) -> str:
    """Draw the chart, put the tables between the markers of the README, and return them.

    BenchmarkError, and nothing changed, where the README has no markers or no peer answered a request.
    """
    before, after = _around_markers(readme)
    peers = by_cpu(comparison.peers)
    if not peers:
        raise BenchmarkError("the results have no peer that answers requests")
    bars = BenchmarkSettings.model_validate(comparison.settings).bars
    long = soak.soak if soak else None
    link = os.path.relpath(chart, readme.parent)
    text = document(comparison, long, verdicts(comparison, long, bars), link)
    draw(peers, chart)
    readme.write_text(f"{before}{_BEGIN}\n{text}{_END}{after}", encoding="utf-8")
    return text


def _around_markers(readme: Path) -> tuple[str, str]:
    """What is before and after the markers."""
    try:
        text = readme.read_text(encoding="utf-8")
    except OSError as error:
        raise BenchmarkError(f"{readme}: cannot be read ({error.strerror})") from None
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not (begin and end):
        raise BenchmarkError(f"{readme}: the markers {_BEGIN} and {_END} are missing")
    return before, after
