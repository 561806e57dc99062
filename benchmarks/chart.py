"""A comparison as a picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from .peer import SERVICE
from .results import PeerResult, Round
from .table import number

_OURS, _OTHERS = "#0b6e4f", "#9aa5b1"


def draw(peers: Sequence[PeerResult], path: Path) -> None:
    """CPU per request and throughput of each peer as SVG: medians, with a line from the lowest to the highest round."""
    figure = Figure(figsize=(10, 0.8 + 0.42 * len(peers)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    last = peers[0].rounds[0].closed[-1].connections
    first = peers[0].rounds[0].closed[0].connections
    _bars(left, peers, lambda measured: measured.closed[0].cpu_us)
    left.set_title(f"CPU per request, µs, {first} connection{'s' * (first > 1)} (less is better)", fontsize=9)
    _bars(right, peers, lambda measured: measured.closed[-1].throughput)
    right.set_title(f"requests per second, {last} connections (more is better)", fontsize=9)
    left.set_yticks(range(len(peers)), [peer.title for peer in peers], fontsize=8)
    left.invert_yaxis()
    path.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context({"svg.hashsalt": "benchmarks", "svg.fonttype": "none"}):
        figure.savefig(path, format="svg", metadata={"Date": None})


def _bars(axes: Any, peers: Sequence[PeerResult], value: Callable[[Round], float]) -> None:
    for row, peer in enumerate(peers):
        values = [value(measured) for measured in peer.rounds]
        axes.barh(row, median(values), color=_OURS if peer.name == SERVICE.name else _OTHERS)
        axes.plot([min(values), max(values)], [row, row], color="black", linewidth=1)
        axes.annotate(
            number(median(values)),
            (max(values), row),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    axes.set_xscale("log")
    axes.margins(x=0.15)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
