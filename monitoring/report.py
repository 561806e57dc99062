"""The reports of monitoring and of a challenger: HTML pages with tables and SVG charts, from the templates here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from jobs.commandline import table
from jobs.output import templates
from monitoring.comparison import ChallengerComparison
from monitoring.drift import DriftLevel, Judgement, Shift, ordered, shown, unavailable_lines, unjudged
from monitoring.fairness import SIGNAL, FairnessScreening, GroupShift
from monitoring.measures import Estimate
from monitoring.performance import ACCEPTED_ONLY, Performance
from monitoring.realised import ASSUMPTIONS, ChallengerOutcomes, EqualApprovals, Part, Realised
from monitoring.reject_inference import FIGURES, RejectInference
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
    environment.filters |= {"count": "{:,}".format, "percent": "{:.1%}".format, "px": "{:.1f}".format, "plain": _plain}
    environment.globals["area"] = _AREA
    return environment.get_template("report.html").render(
        line=line,
        judgement=judgement,
        unjudged=unjudged(judgement),
        unavailable=[*unavailable_lines(judgement)],
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
            [_row(shift) for shift in shown(judgement, _LISTED)],
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
    inferred = {} if performance.inference is None else {"inferred": _inferred_table(performance.inference)}
    return {**known, **inferred, "estimated": _Table(("estimated", "value", "from", "to"), ends)}


def _inferred_table(inference: RejectInference) -> _Table:
    return _Table(
        ("approved and declined together", *FIGURES),
        [(method, *(_short(found[name]) for name in FIGURES)) for method, found in inference.figures.items()],
    )


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
    if judgement.score is not None:
        yield BarChart.of(judgement.score.name, model.probability, (), base.probability, window.probability)
    before, now = (model.by_feature(each.features) for each in (base, window))
    chosen = [each.name for each in judgement.drifted_columns] + [shift.name for shift in ordered(judgement)]
    for name in list(dict.fromkeys(chosen))[: _CHARTED - 1]:
        yield BarChart.of(name, model.features[name], levels.get(name, ()), before[name], now[name])


_BOTH = ("champion", "challenger")
_MOST_CODES = 10


def comparison_report(line: str, compared: ChallengerComparison) -> str:
    """Render the page about a challenger on recorded applications; `line` says what it is about."""
    environment = templates("monitoring")
    environment.filters |= {"px": "{:.1f}".format, "plain": _plain}
    environment.globals["area"] = _AREA
    return environment.get_template("comparison.html").render(
        line=line, compared=compared, charts=[*_comparison_charts(compared)], tables=_comparison_tables(compared)
    )


def comparison_lines(compared: ChallengerComparison) -> Iterator[str]:
    """Format a comparison: its tables, its notes, and last its summary."""
    for title, content in _comparison_tables(compared).items():
        yield title
        yield from (f"  {row}" for row in table([content.head, *content.rows], right=range(1, len(content.head))))
        yield ""
    yield from (f"note: {note}" for note in compared.notes)
    yield compared.summary


def _told(value: float | None, form: str) -> str:
    """A value, or that too few people are behind it to be told."""
    return "hidden" if value is None or math.isnan(value) else format(value, form)


def _comparison_tables(compared: ChallengerComparison) -> dict[str, _Table]:
    """The tables of a comparison by their titles; those without a row are left out."""
    changes = ("recorded PD", *(f"{flip.was} to {flip.now}" for flip in compared.bands[-1].flips))
    shift = ("mean shift", "5th percentile", "95th percentile")
    reasons = ("both decline", "other first reason", "other reasons")
    found = {
        "Decisions that change, by recorded PD": _Table(
            changes, [(one.name, *(f"{flip.decisions:,}" for flip in one.flips)) for one in compared.bands]
        ),
        f"Sums of {compared.amount}": _Table(
            changes,
            [(one.name, *(_told(flip.amount, ",.0f") for flip in one.flips)) for one in compared.bands]
            if compared.amount
            else [],
        ),
        "Default rates at equal approvals, estimated": _equal_table(compared.estimated),
        **({} if compared.realised is None else _outcome_tables(compared.realised)),
        "PDs and reasons, by recorded PD": _Table(
            ("recorded PD", "decisions", *shift, *reasons),
            [
                (one.name, f"{one.decisions:,}", *(_told(each, "+.4f") for each in (one.mean, one.low, one.high)),
                 f"{one.declines:,}", f"{one.first_reason_changes:,}", f"{one.reason_set_changes:,}")
                for one in compared.bands
            ],
        ),
        "Reason codes of declines by both": _Table(
            ("code", "gained", "lost"),
            [(one.code, f"{one.gained:,}", f"{one.lost:,}") for one in compared.codes[:_MOST_CODES]],
        ),
        **{f"Approvals by {name}": _shift_table(name, groups) for name, groups in compared.groups.items()},
    }  # fmt: skip
    return {title: content for title, content in found.items() if content.rows}


def _outcome_tables(realised: ChallengerOutcomes) -> dict[str, _Table]:
    coverage = [(str(one.decision), f"{one.rows:,}", f"{one.known:,}") for one in realised.coverage]
    return {
        "Default rates at equal approvals, by outcomes": _equal_table(realised.equal),
        "Ranking, by outcomes": _Table(("", "challenger less champion"), [("AUC, paired", _signed(realised.auc))]),
        "Known outcomes": _Table(("recorded decision", "decisions", "known"), coverage),
    }


def _shift_table(attribute: str, groups: Sequence[GroupShift]) -> _Table:
    head = (attribute, "decisions", "approved", "by challenger", "impact ratio", "by challenger", "gained", "lost")

    def row(group: GroupShift) -> Row:
        if group.rows is None:
            return group.name, "few people", *("" for _ in head[2:])
        shares = map(_short, (group.before, group.after, group.impact_before, group.impact_after))
        flips = ("few" if one is None else f"{one:,}" for one in (group.to_approval, group.from_approval))
        return group.name, f"{group.rows:,}", *shares, *flips

    return _Table(head, [row(group) for group in groups])


def _equal_table(equal: Sequence[EqualApprovals]) -> _Table:
    return _Table(
        ("judged by", "applications", "approved", "swapped", *_BOTH, "difference"),
        [
            (one.judged_by, f"{one.rows:,}", f"{one.approved:,}", f"{one.swapped:,}",
             f"{one.champion:.4f}", f"{one.challenger:.4f}", _signed(one.difference))
            for one in equal
        ],
    )  # fmt: skip


def _signed(difference: Estimate) -> str:
    return f"{difference.value:+.4f} [{difference.low:+.4f}, {difference.high:+.4f}]"


def _comparison_charts(compared: ChallengerComparison) -> Iterator[BarChart]:
    *bands, _ = compared.bands
    labels = [one.name for one in bands]
    before = [one.decisions / compared.compared for one in bands]
    after = [one.challengers / compared.compared for one in bands]
    yield BarChart.of_shares("share of the decisions, by PD", labels, before, after, _BOTH)
    gained, lost = ([share / one.decisions for one, share in zip(bands, counts, strict=True)]
                    for counts in zip(*(one.approvals_changed for one in bands), strict=True))  # fmt: skip
    yield BarChart.of_shares("share that changes, by recorded PD", labels, gained, lost, ("gains", "loses approval"))
    for name, groups in compared.groups.items():
        shown = [(one.name, one.before.value, one.after.value) for one in groups if one.before and one.after]
        if shown:
            names, was, now = zip(*shown, strict=True)
            yield BarChart.of_shares(f"approved, by {name}: {', '.join(names)}", names, was, now, _BOTH)


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
_WHOLE = 1.0
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
    """Two shares in the same bins, such as those of the reference and of the window, side by side.

    Attributes
    ----------
    top : the share at the end of the axis
    ends : the labels of the first and of the last bin
    names : what the two bars of a bin stand for
    """

    caption: str
    bars: tuple[Bar, ...]
    top: float
    ends: Row
    names: Row = ("reference", "window")

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
        return cls.of_shares(caption, labels, before, now)

    @classmethod
    def of_shares(
        cls,
        caption: str,
        labels: Sequence[str],
        before: Sequence[float],
        now: Sequence[float],
        names: Row = ("reference", "window"),
    ) -> Self:
        """The chart of two shares for each label."""
        top = max([*before, *now], default=0.0) or _WHOLE
        return cls(caption, tuple(_bars(labels, before, now, top)), top, (*labels[:1], *labels[-1:]), names)


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
    first = [f"≤ {_plain(edge, 4)}" for edge in bins.edges]
    return [*first, f"> {_plain(bins.edges[-1], 4)}" if bins.edges else "all", "unseen", "missing"]


def _plain(value: float, digits: int = 2) -> str:
    """A number with so many significant digits, never with a power of ten.

    >>> [_plain(value) for value in (1.0, 0.0784, 0.00003, 1_350_000)]
    ['1', '0.078', '0.00003', '1400000']
    """
    return np.format_float_positional(value, precision=digits, fractional=False, trim="-")


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
        end = 1.05 * (max((part.mean_probability for part in parts), default=0.0) or _WHOLE)
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
