"""The monitoring report: one HTML page with tables and SVG charts, made from the templates beside this file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from jobs.output import templates
from monitoring.drift import DriftLevel, Judgement, Shift, ordered, unjudged
from monitoring.fairness import SIGNAL, FairnessScreening
from monitoring.measures import Estimate
from monitoring.performance import ACCEPTED_ONLY, Performance
from monitoring.realised import ASSUMPTIONS, Part, Realised
from scoring.drift_reference import Bins, DriftReference, Window

# The page has no script, font or picture of its own and needs no library of charts: so it opens as an attachment and
# under any content security policy.

_CHARTED = 6
_LISTED = 25
_BLAMED = 8

Row = tuple[str, ...]


def monitoring_report(
    line: str,
    judgement: Judgement,
    charts: Sequence[BarChart],
    performance: Performance,
    screenings: Sequence[FairnessScreening] | None,
) -> str:
    """Render the page; `line` says what it is about, and there may be no screenings."""
    environment = templates("monitoring")
    environment.filters |= {"count": "{:,}".format, "percent": "{:.1%}".format, "px": "{:.1f}".format}
    environment.globals["area"] = _AREA
    return environment.get_template("report.html").render(
        line=line,
        judgement=judgement,
        unjudged=unjudged(judgement),
        charts=charts,
        performance=performance,
        accepted_only=ACCEPTED_ONLY,
        assumptions=ASSUMPTIONS,
        calibration=None if performance.realised is None else PointChart.of(performance.realised.bins),
        screenings=screenings,
        signal=SIGNAL,
        signals=[signal for screening in screenings or () for signal in screening.signals],
        unscreened=[screening.attribute for screening in screenings or () if not screening.screened],
        tables={
            **_drift_tables(judgement),
            **_performance_tables(performance),
            "groups": [_group_table(screening) for screening in screenings or ()],
        },
    )


@dataclass(frozen=True, slots=True)
class _Table:
    """A table; the first column is text, the others are figures."""

    head: Row
    rows: Sequence[Row]


def _drift_tables(judgement: Judgement) -> dict[str, _Table]:
    blamed = judgement.drifted_columns[:_BLAMED]
    return {
        "drifted_columns": _Table(
            ("look at first", "materiality x importance", "drifting features charged to it"),
            [(each.name, f"{each.weight:.4f}", str(len(each.features))) for each in blamed],
        ),
        "shifts": _Table(
            ("", "drift", "PSI", "beyond chance", "p", "KS", "JS", "missing", "change", "unseen", "gain"),
            [_row(shift) for shift in (judgement.score, *ordered(judgement)[:_LISTED])],
        ),
    }


def p_value(value: float) -> str:
    """Format a p-value for readers.

    >>> p_value(0.8814), p_value(0.0491), p_value(0.0009)
    ('0.881', '0.049', '< 0.001')
    """
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _row(shift: Shift) -> tuple[str, ...]:
    return (
        shift.name,
        "" if shift.level is DriftLevel.STABLE else shift.level.name.lower(),
        f"{shift.psi:.4f}",
        f"{shift.excess:.4f}",
        p_value(shift.adjusted),
        "" if math.isnan(shift.ks) else f"{shift.ks:.3f}",
        f"{shift.jensen_shannon:.3f}",
        f"{shift.missing:.1%}",
        f"{shift.missing_shift:+z.1%}",
        f"{shift.unseen:.1%}",
        f"{shift.importance:.1%}",
    )


def _performance_tables(performance: Performance) -> dict[str, _Table]:
    estimated = performance.estimated
    ends = [("AUC", *_ends(estimated.auc)), ("default rate", *_ends(estimated.default_rate))]
    known = {} if performance.realised is None else _realised_tables(performance.realised, performance)
    return {**known, "estimated": _Table(("estimated", "value", "from", "to"), ends)}


def _realised_tables(realised: Realised, performance: Performance) -> dict[str, _Table]:
    return {
        "realised": _Table(
            (f"{performance.confidence:.0%} interval", "value", "from", "to"),
            [(name, *_ends(each)) for name, each in realised.estimates.items()],
        ),
        "levels": _part_table("risk level", realised.levels),
        "months": _part_table("month", realised.months),
        "outcomes": _Table(("outcomes", ""), [(name, f"{count:,}") for name, count in performance.counts.items()]),
    }


def _part_table(title: str, parts: Iterable[Part]) -> _Table:
    return _Table((title, "decisions", "mean PD", "default rate", "AUC"), [_part(part) for part in parts])


def _part(part: Part) -> tuple[str, ...]:
    return part.name, f"{part.rows:,}", f"{part.mean_probability:.4f}", _short(part.default_rate), _short(part.auc)


def _ends(estimate: Estimate) -> tuple[str, str, str]:
    numbers = (estimate.value, estimate.low, estimate.high)
    value, low, high = (f"{each:.4f}" if math.isfinite(each) else "" for each in numbers)
    return value, low, high


def _short(estimate: Estimate | None) -> str:
    if estimate is None or not math.isfinite(estimate.value):
        return ""
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def _group_table(screening: FairnessScreening) -> _Table:
    rates = ("decisions", "approved", "impact ratio", "known", "TPR", "FPR", "mean PD", "default rate")
    return _Table(
        (screening.attribute, *rates),
        [
            (
                each.name,
                f"{each.rows:,}",
                _short(each.selection),
                _short(each.impact),
                f"{each.known:,}",
                _short(each.true_positive),
                _short(each.false_positive),
                "" if each.mean_probability is None else f"{each.mean_probability:.4f}",
                _short(each.default_rate),
            )
            for each in screening.groups
        ],
    )


def drift_charts(
    judgement: Judgement, model: DriftReference, window: Window, levels: Mapping[str, Sequence[str]]
) -> Iterator[BarChart]:
    """The charts of the score and of the features to look at first; `levels` names the codes of categories."""
    base = Window.reference(model)
    yield BarChart.of(judgement.score.name, model.probability, (), base.probability, window.probability)
    before, now = (model.by_feature(each.features) for each in (base, window))
    chosen = [each.name for each in judgement.drifted_columns] + [shift.name for shift in ordered(judgement)]
    for name in list(dict.fromkeys(chosen))[: _CHARTED - 1]:
        yield BarChart.of(name, model.features[name], levels.get(name, ()), before[name], now[name])


@dataclass(frozen=True, slots=True)
class _Area:
    """Where a chart is drawn, in pixels from its upper left corner, and its colours."""

    width: int = 300
    height: int = 170
    left: int = 40
    right: int = 294
    top: int = 18
    bottom: int = 140
    reference: str = "#9fb3c8"
    window: str = "#b2182b"

    def up(self, share: float) -> float:
        """How high a share of the axis is."""
        return (self.bottom - self.top) * share


_AREA = _Area()
_LEAST = 1e-9
"""The end of an axis on which there is nothing."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar in pixels, and what it says when it is pointed at."""

    x: float
    y: float
    width: float
    height: float
    fill: str
    title: str


@dataclass(frozen=True, slots=True)
class BarChart:
    """The shares of the reference and of the window in the same bins, side by side.

    Attributes
    ----------
    top : the share at the end of the axis
    ends : the labels of the first and of the last bin
    """

    caption: str
    bars: tuple[Bar, ...]
    top: float
    ends: Row

    @classmethod
    def of(
        cls,
        caption: str,
        bins: Bins,
        levels: Sequence[str],
        reference: NDArray[np.int64],
        window: NDArray[np.int64],
    ) -> Self:
        """The chart of two sets of counts; `levels` names the codes of a category."""
        # empty bins of unseen and missing values are left out, since they would only make the others narrow
        kept = [i for i in range(bins.size) if i < bins.size - 2 or reference[i] + window[i]]
        names = _labels(bins, levels)
        labels = [names[i] for i in kept]
        before, now = ((counts / max(counts.sum(), 1))[kept].tolist() for counts in (reference, window))
        top = max([*before, *now, _LEAST])
        return cls(caption, tuple(_bars(labels, before, now, top)), top, (*labels[:1], *labels[-1:]))


def _bars(labels: Sequence[str], reference: Sequence[float], window: Sequence[float], top: float) -> Iterator[Bar]:
    step = (_AREA.right - _AREA.left) / max(len(labels), 1)
    for i, (label, *pair) in enumerate(zip(labels, reference, window, strict=True)):
        for share, offset, colour in zip(pair, (0.12, 0.5), (_AREA.reference, _AREA.window), strict=True):
            height = _AREA.up(share / top)
            x = _AREA.left + (i + offset) * step
            yield Bar(x, _AREA.bottom - height, 0.36 * step, height, colour, f"{label}: {share:.1%}")


def _labels(bins: Bins, levels: Sequence[str]) -> list[str]:
    if bins.kind == "category":
        return [*(levels[int(code)] for code in bins.edges), "unseen", "missing"]
    first = [f"≤ {edge:.4g}" for edge in bins.edges]
    return [*first, f"> {bins.edges[-1]:.4g}" if bins.edges else "all", "unseen", "missing"]


@dataclass(frozen=True, slots=True)
class Mark:
    """A point and the ends of its interval, in pixels."""

    x: float
    y: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class PointChart:
    """Default rates with their intervals against mean PDs.

    Attributes
    ----------
    top, end : the values at the ends of the two axes
    diagonal : where the line of equal values ends, in pixels
    """

    points: tuple[Mark, ...]
    top: float
    end: float
    diagonal: tuple[float, float]

    @classmethod
    def of(cls, parts: Sequence[Part]) -> Self:
        """The chart of these parts of the decisions."""
        end = max([*(part.mean_probability for part in parts), _LEAST]) * 1.05
        top = max([*(part.default_rate.high for part in parts), end])

        def across(value: float) -> float:
            return _AREA.left + (_AREA.right - _AREA.left) * value / end

        def down(value: float) -> float:
            return _AREA.bottom - _AREA.up(value / top)

        marks = [
            Mark(across(part.mean_probability), *map(down, (rate.value, rate.low, rate.high)))
            for part, rate in ((part, part.default_rate) for part in parts)
        ]
        return cls(tuple(marks), top, end, (across(end), down(end)))
