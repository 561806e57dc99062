"""The monitoring report: one HTML page with tables and SVG charts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape

import numpy as np

from monitoring.drift import DriftLevel, Judgement, Shift, ordered, unjudged
from monitoring.fairness import SIGNAL, FairnessScreening
from monitoring.measures import Estimate
from monitoring.performance import ACCEPTED_ONLY, Performance
from monitoring.realised import ASSUMPTIONS, Part
from scoring.drift_reference import Bins, DriftReference, Window

# The page has no script, font or picture of its own and needs no library of charts: so it opens as an attachment and
# under any content security policy. Every text is escaped, since names of categories come from data.

_CHARTED = 6
_LISTED = 25


def drift_section(
    judgement: Judgement, model: DriftReference, window: Window, levels: Mapping[str, Sequence[str]]
) -> Iterator[str]:
    """The section on drift: verdict, drifted columns, score, most drifted features; `levels` names categories."""
    yield heading("Drift")
    yield verdict("; ".join(judgement.reasons) or "No alarm.", alarm=judgement.alarm)
    yield paragraph(
        f"{judgement.rows:,} applications against {judgement.reference_rows:,} of the reference. Without any drift, at "
        f"most {judgement.false_alarm_rate:.1%} of windows raise an alarm.",
        soft=True,
    )
    if judgement.drifted_columns:
        yield table(
            ("look at first", "materiality x importance", "drifting features charged to it"),
            [(each.name, f"{each.weight:.4f}", str(len(each.features))) for each in judgement.drifted_columns[:8]],
        )
    yield charts(_drift_charts(judgement, model, window, levels))
    yield table(_TITLES, [_row(shift) for shift in (judgement.score, *ordered(judgement)[:_LISTED])])
    if partial := unjudged(judgement):
        yield paragraph(f"Not judged by their values, since no whole days or weeks are covered: {partial}.", soft=True)
    yield paragraph(
        "PSI beyond chance is the PSI less its mean for two samples of one population at these sizes. p is adjusted "
        "for the number of features.",
        soft=True,
    )


def performance_section(performance: Performance) -> Iterator[str]:
    """The section on performance: realised figures if outcomes are known, and the estimate from PDs."""
    yield heading("Performance")
    yield verdict("; ".join(performance.reasons) or "No alarm.", alarm=performance.alarm)
    if performance.realised:
        realised = performance.realised
        yield paragraph(f"{realised.rows:,} decisions with a known outcome, of which {realised.defaults:,} defaulted.")
        if realised.accepted_only:
            yield verdict(
                f"Accept-only bias: {ACCEPTED_ONLY}; their PDs imply {realised.expected_auc:.4f}.", alarm=True
            )
        names = (f"{performance.confidence:.0%} interval", "value", "from", "to")
        yield table(names, [(name, *_ends(each)) for name, each in realised.estimates.items()])
        points = [(part.mean_probability, *_numbers(part.default_rate)) for part in realised.bins]
        yield charts(
            [(points_with_intervals(points, diagonal=True), "default rate against mean PD, tenths of the PDs")]
        )
        for title, parts in (("risk level", realised.levels), ("month", realised.months)):
            yield table((title, "decisions", "mean PD", "default rate", "AUC"), map(_part, parts))
        yield table(("outcomes", ""), [(name, f"{count:,}") for name, count in performance.counts.items()])
    estimated = performance.estimated
    yield paragraph(f"Estimated from the PDs of {estimated.rows:,} decisions alone (CBPE), assuming that")
    yield bullets(ASSUMPTIONS)
    yield table(
        ("estimated", "value", "from", "to"),
        [("AUC", *_ends(estimated.auc)), ("default rate", *_ends(estimated.default_rate))],
    )


def fairness_section(screenings: Sequence[FairnessScreening]) -> Iterator[str]:
    """The section on fairness: rates by group, and signals."""
    yield heading("Fairness")
    signals = [signal for screening in screenings for signal in screening.signals]
    yield verdict("; ".join(signals) or "No group stands out.", alarm=bool(signals))
    yield paragraph(f"This is {SIGNAL}.", soft=True)
    for screening in screenings:
        yield table(
            (
                screening.attribute,
                "decisions",
                "approved",
                "impact ratio",
                "known",
                "TPR",
                "FPR",
                "mean PD",
                "default rate",
            ),
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


_TITLES = ("", "drift", "PSI", "beyond chance", "p", "KS", "JS", "missing", "change", "unseen", "gain")


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


def _drift_charts(
    judgement: Judgement, model: DriftReference, window: Window, levels: Mapping[str, Sequence[str]]
) -> Iterator[tuple[str, str]]:
    base = Window.reference(model)
    yield _bars(model.probability, (), base.probability, window.probability), judgement.score.name
    before, now = (model.by_feature(each.features) for each in (base, window))
    chosen = [each.name for each in judgement.drifted_columns] + [shift.name for shift in ordered(judgement)]
    for name in list(dict.fromkeys(chosen))[: _CHARTED - 1]:
        yield _bars(model.features[name], levels.get(name, ()), before[name], now[name]), name


def _bars(bins: Bins, levels: Sequence[str], reference: Iterable[int], window: Iterable[int]) -> str:
    counts = [np.array(each, dtype=np.float64) for each in (list(reference), list(window))]
    shares = [each / max(each.sum(), 1) for each in counts]
    # empty bins of unseen and missing values are left out, since they would only make the others narrow
    kept = [i for i in range(bins.size) if i < bins.size - 2 or counts[0][i] + counts[1][i]]
    labels = _labels(bins, levels)
    return pair_of_bars([labels[i] for i in kept], *([float(each[i]) for i in kept] for each in shares))


def _labels(bins: Bins, levels: Sequence[str]) -> list[str]:
    if bins.kind == "category":
        return [*(levels[int(code)] for code in bins.edges), "unseen", "missing"]
    first = [f"≤ {edge:.4g}" for edge in bins.edges]
    return [*first, f"> {bins.edges[-1]:.4g}" if bins.edges else "all", "unseen", "missing"]


def _part(part: Part) -> tuple[str, ...]:
    return part.name, f"{part.rows:,}", f"{part.mean_probability:.4f}", _short(part.default_rate), _short(part.auc)


def _numbers(estimate: Estimate) -> tuple[float, float, float]:
    return estimate.value, estimate.low, estimate.high


def _ends(estimate: Estimate) -> tuple[str, str, str]:
    value, low, high = (f"{each:.4f}" if math.isfinite(each) else "" for each in _numbers(estimate))
    return value, low, high


def _short(estimate: Estimate | None) -> str:
    if estimate is None or not math.isfinite(estimate.value):
        return ""
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


_STYLE = """
:root { color-scheme: light; --ink: #1d2733; --soft: #5d6b7a; --line: #d9dfe5; --good: #2166ac; --bad: #b2182b; }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); max-width: 74rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin: 0; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .4rem; }
p { margin: .4rem 0; } .soft { color: var(--soft); } .scroll { overflow-x: auto; }
.verdict { border-left: .4rem solid var(--good); padding: .5rem 1rem; background: #f4f7fa; margin: 1rem 0; }
.verdict.alarm { border-color: var(--bad); background: #fbf2f2; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; margin: .5rem 0; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th { color: var(--soft); font-weight: 600; } th:first-child, td:first-child { text-align: left; }
.charts { display: flex; flex-wrap: wrap; gap: 1rem; }
figure { margin: 0; break-inside: avoid; display: flex; flex-direction: column-reverse; }
figcaption { font-size: .85rem; color: var(--soft); } svg { display: block; max-width: 100%; height: auto; }
svg text { font: 11px system-ui, sans-serif; fill: var(--soft); }
@media print { body { margin: 0; max-width: none; font-size: 11px; } h2 { break-after: avoid; }
  tr { break-inside: avoid; } table { font-size: 9px; } th, td { padding: .15rem .4rem; } }
"""


def whole_page(title: str, parts: Iterable[str]) -> str:
    """The whole HTML file; `parts` are HTML."""
    return (
        f'<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head>\n<body>\n<h1>{escape(title)}</h1>\n{''.join(parts)}</body>\n</html>\n"
    )


def heading(text: str) -> str:
    """A section's heading."""
    return f"<h2>{escape(text)}</h2>\n"


def paragraph(text: str, *, soft: bool = False) -> str:
    """A paragraph; a `soft` one is a remark."""
    return f"<p{' class=soft' if soft else ''}>{escape(text)}</p>\n"


def verdict(text: str, *, alarm: bool) -> str:
    """The result of a section, in a box."""
    return f'<div class="verdict{" alarm" if alarm else ""}">{escape(text)}</div>\n'


def bullets(items: Iterable[str]) -> str:
    """A list with bullets."""
    return f"<ul>{''.join(f'<li>{escape(item)}</li>' for item in items)}</ul>\n"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; the first column is text, the others are figures."""
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>\n" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>\n'


def charts(figures: Iterable[tuple[str, str]]) -> str:
    """SVG charts side by side, each with its caption."""
    drawn = "".join(f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>\n" for svg, caption in figures)
    return f'<div class="charts">{drawn}</div>\n'


_WIDTH, _HEIGHT = 300, 170
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 6, 18, 30
_REFERENCE, _WINDOW = "#9fb3c8", "#b2182b"


def pair_of_bars(
    labels: Sequence[str], reference: Sequence[float], window: Sequence[float], *, width: int = _WIDTH
) -> str:
    """A bar chart: the shares of the reference and of the window in the same bins, side by side."""
    top = max([*reference, *window, 1e-9])
    step = (width - _LEFT - _RIGHT) / max(len(labels), 1)
    bars = []
    for i, (label, first, second) in enumerate(zip(labels, reference, window, strict=True)):
        x = _LEFT + i * step
        for offset, share, colour in ((0.12, first, _REFERENCE), (0.5, second, _WINDOW)):
            height = (_HEIGHT - _TOP - _BOTTOM) * share / top
            bars.append(
                f'<rect x="{x + offset * step:.1f}" y="{_HEIGHT - _BOTTOM - height:.1f}" width="{0.36 * step:.1f}" '
                f'height="{height:.1f}" fill="{colour}"><title>{escape(label)}: {share:.1%}</title></rect>'
            )
    ends = [(_LEFT, "start", labels[0]), (width - _RIGHT, "end", labels[-1])] if labels else []
    ticks = "".join(
        f'<text x="{x}" y="{_HEIGHT - 14}" text-anchor="{align}">{escape(label)}</text>' for x, align, label in ends
    )
    legend = (
        f'<text x="{_LEFT}" y="11"><tspan fill="{_REFERENCE}">■</tspan> reference '
        f'<tspan fill="{_WINDOW}">■</tspan> window</text>'
    )
    return _svg(f"{_axis(top, width)}{''.join(bars)}{ticks}{legend}", width)


def points_with_intervals(
    points: Sequence[tuple[float, float, float, float]], *, diagonal: bool, width: int = _WIDTH
) -> str:
    """A chart of points (x, y, low, high) with their intervals; `diagonal` adds the line x = y."""
    most_x = max([x for x, *_ in points] + [1e-9]) * 1.05
    most_y = max([high for *_, high in points] + [most_x if diagonal else 1e-9])

    def at(x: float, y: float) -> tuple[float, float]:
        across = _LEFT + (width - _LEFT - _RIGHT) * x / most_x
        return across, _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * y / most_y

    shapes = []
    if diagonal:
        (x1, y1), (x2, y2) = at(0, 0), at(min(most_x, most_y), min(most_x, most_y))
        shapes.append(f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" stroke="{_REFERENCE}" stroke-dasharray="3"/>')
    for x, y, low, high in points:
        (across, up), (_, bottom), (_, top) = at(x, y), at(x, low), at(x, high)
        shapes.append(f'<path d="M{across:.1f} {bottom:.1f}V{top:.1f}" stroke="{_WINDOW}"/>')
        shapes.append(f'<circle cx="{across:.1f}" cy="{up:.1f}" r="3" fill="{_WINDOW}"/>')
    end = f'<text x="{width - _RIGHT}" y="{_HEIGHT - 14}" text-anchor="end">{most_x:.2g}</text>'
    return _svg(f"{_axis(most_y, width)}{''.join(shapes)}{end}", width)


def _axis(top: float, width: int) -> str:
    bottom = _HEIGHT - _BOTTOM
    return (
        f'<path d="M{_LEFT} {_TOP}V{bottom}H{width - _RIGHT}" fill="none" stroke="#d9dfe5"/>'
        f'<text x="{_LEFT - 4}" y="{_TOP + 4}" text-anchor="end">{top:.2g}</text>'
        f'<text x="{_LEFT - 4}" y="{bottom}" text-anchor="end">0</text>'
    )


def _svg(content: str, width: int) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{_HEIGHT}" '
        f'viewBox="0 0 {width} {_HEIGHT}" role="img">{content}</svg>'
    )
