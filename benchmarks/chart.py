"""A comparison as a picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.peer import SERVICE
from benchmarks.results import PeerResult, Round
from benchmarks.table import number

_OURS, _OTHERS = "#0b6e4f", "#7b8794"


def draw(peers: Sequence[PeerResult], path: Path) -> None:
    """CPU per request and throughput of each peer as SVG: medians, with a line from the lowest to the highest round."""
    figure = Figure(figsize=(10, 1 + 0.36 * len(peers)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    first, last = peers[0].rounds[0].closed[0], peers[0].rounds[0].closed[-1]
    _dots(left, peers, lambda measured: measured.closed[0].cpu_us)
    left.set_title(f"µs of CPU per request, {first.connections} connection(s): less is better", fontsize=8)
    _dots(right, peers, lambda measured: measured.closed[-1].throughput)
    right.set_title(f"requests per second, {last.connections} connections: more is better", fontsize=8)
    left.set_yticks(range(len(peers)), [peer.title for peer in peers], fontsize=8)
    left.invert_yaxis()
    path.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context({"svg.hashsalt": "benchmarks", "svg.fonttype": "none"}):
        figure.savefig(path, format="svg", metadata={"Date": None})


def _dots(axes: Any, peers: Sequence[PeerResult], value: Callable[[Round], float]) -> None:
    """A dot for each peer; the scale is logarithmic, where the length of a bar would mean nothing."""
    for row, peer in enumerate(peers):
        values = [value(measured) for measured in peer.rounds]
        colour = _OURS if peer.name == SERVICE.name else _OTHERS
        axes.plot([min(values), max(values)], [row, row], color=colour, linewidth=2)
        axes.plot(median(values), row, "o", color=colour, markersize=7)
        place = {"xytext": (0, 7), "textcoords": "offset points", "ha": "center"}
        axes.annotate(number(median(values)), (median(values), row), fontsize=7, **place)
    axes.set_xscale("log")
    axes.margins(x=0.12, y=0.12)
    axes.grid(axis="x", color="#e4e7eb", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
