"""The page of a search for less discriminatory alternatives, and its chapter in the report of a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure

from jobs.output import templates, write_text
from monitoring.measures import Estimate
from training.report import figures
from training.report.figures import NOTHING, ReportTable, Row, decimal, percent, plain_axes, signed, svg
from training.search.frontier import ANY, AlternativePoint, FoundAlternatives, RatioPrice, SearchedFigures, pareto_front

RESULT, PAGE = "alternatives.json", "alternatives.html"
_TRIAL, _FREE, _READING, _GUIDE = "#b5bdc6", "#2166ac", "#b2182b", "#999999"


def write_result(folder: Path, found: FoundAlternatives) -> None:
    """Write the result as JSON and as a page."""
    write_text(folder / RESULT, found.text())
    environment = templates("training.report")
    environment.filters |= {"count": figures.count, "percent": figures.percent}
    write_text(folder / PAGE, environment.get_template("alternatives.html").render(chapter=chapter(found)))


def chapter(found: FoundAlternatives) -> dict[str, Any]:
    """What the templates show of a result: the result itself, its tables and its figures."""
    return {
        "found": found,
        "interval": f"{100 * found.confidence:g} %",
        "tables": {
            "prices": _price_table(found),
            "points": _point_table(found),
            "settings": _settings_table(found),
            "groups": {attribute: _group_table(found, attribute) for attribute in found.attributes},
            "proxies": _proxy_table(found),
        },
        "fronts": {attribute: _front_svg(found, attribute) for attribute in found.attributes},
    }


def result_lines(found: FoundAlternatives) -> Iterator[str]:
    """Format what was searched and the prices, line by line."""
    yield f"{found.trials:,} trials on {found.rows:,} applications; confirmed on {found.held_out:,} that chose nothing:"
    yield f"  baseline    AUC {found.baseline.confirmed.auc}, {_ratios(found.baseline)}"
    for point in found.points:
        reading = f"; reads {', '.join(point.reads)}" if point.reads else ""
        yield f"  {point.name}    AUC {point.confirmed.auc_change.value:+.4f}, {_ratios(point)} ({point.rule}{reading})"
    for price in found.prices:
        yield f"  {_named(price.attribute)} {price.ratio:g}, {price.how}: {_price_words(price)}"


def _ratios(point: AlternativePoint) -> str:
    return ", ".join(f"{_named(name)} {one.value:.3f}" for name, one in point.confirmed.ratios.items())


def _price_words(price: RatioPrice) -> str:
    if price.auc is None or price.cost is None:
        return f"not found; the highest is {price.reached:.3f}"
    return f"{price.reached:.3f} by {price.point}, AUC {_change(price.auc)}, cost {_change(price.cost)}"


def _named(attribute: str) -> str:
    return attribute.replace("_", " ")


def _change(estimate: Estimate) -> str:
    return f"{signed(estimate.value)} ({signed(estimate.low)} to {signed(estimate.high)})"


def _price_table(found: FoundAlternatives) -> ReportTable:
    head = ("attribute", "ratio", "how", "point", "confirmed", "AUC", "cost per applicant")
    return ReportTable.of("lrllrrr", head, map(_price_row, found.prices))


def _price_row(price: RatioPrice) -> Row:
    known = (_named(price.attribute), f"{price.ratio:g}", price.how)
    if price.point is None or price.auc is None or price.cost is None:
        return *known, "not found", f"at most {price.reached:.3f}", NOTHING, NOTHING
    return *known, price.point, f"{price.reached:.3f}", _change(price.auc), _change(price.cost)


def _point_table(found: FoundAlternatives) -> ReportTable:
    head = ("point", "AUC searched", "AUC confirmed", "against the baseline", "cost", "approved")
    ratios = [text for name in found.attributes for text in (f"{_named(name)}, searched", "confirmed")]
    align = "l" + "r" * (len(head) - 1 + len(ratios))
    return ReportTable.of(align, (*head, *ratios), (_point_row(point) for point in (found.baseline, *found.points)))


def _point_row(point: AlternativePoint) -> Row:
    own = point.confirmed
    change = NOTHING if point.name == "baseline" else _change(own.auc_change)
    first = (point.name, decimal(point.searched.auc), decimal(own.auc.value), change)
    ratios = [
        text
        for name, ratio in own.ratios.items()
        for text in (f"{point.searched.ratios[name]:.3f}", f"{ratio.value:.3f} ({ratio.low:.3f} to {ratio.high:.3f})")
    ]
    return *first, decimal(own.cost.value), percent(own.approved.value), *ratios


def _settings_table(found: FoundAlternatives) -> ReportTable:
    head = ("point", "what differs from the settings", "cut-off", "which is", "the fit reads")
    rows = (
        (
            point.file,
            "; ".join(point.changes) or "nothing",
            decimal(point.cutoff),
            point.rule,
            ", ".join(map(_named, point.reads)) or "no attribute",
        )
        for point in (found.baseline, *found.points)
    )
    return ReportTable.of("llrll", head, rows)


def _group_table(found: FoundAlternatives, attribute: str) -> ReportTable:
    groups = found.attributes[attribute]
    rows = (
        (point.name, *(percent(point.confirmed.shares[attribute][group]) for group in groups))
        for point in (found.baseline, *found.points)
    )
    return ReportTable.of("l" + "r" * len(groups), ("approved", *groups), rows)


def _proxy_table(found: FoundAlternatives) -> ReportTable:
    head = ("column", "attribute", "ranks a group with AUC", "adds to the gap in log-odds")
    rows = ((one.column, _named(one.attribute), f"{one.tells:.3f}", f"{one.carries:+.3f}") for one in found.proxies)
    return ReportTable.of("llrr", head, rows)


def _front_svg(found: FoundAlternatives, attribute: str) -> Markup:
    return svg(f"front-{attribute}", front_figure(found, attribute))


def front_figure(found: FoundAlternatives, attribute: str) -> Figure:
    """Draw AUC against the impact ratio of an attribute: every trial, their front, and the confirmed points."""
    title = f"AUC against the impact ratio by {_named(attribute)}"
    figure, axes = plain_axes(title, "impact ratio, with as many approvals as the baseline", "AUC")
    cloud = dict(enumerate(found.cloud))
    _draw(axes, list(found.cloud), attribute, color=_TRIAL, s=10, label="trials, out of fold")
    front = [cloud[number] for number in pareto_front(cloud, attribute)]
    axes.plot([one.ratios[attribute] for one in front], [one.auc for one in front], color=_GUIDE, linewidth=1)
    same = [point for point in found.points if point.rule != ANY]
    for reading, colour, label in ((False, _FREE, "confirmed"), (True, _READING, "confirmed; the fit reads a group")):
        shown = [point for point in same if bool(point.reads) == reading]
        if shown:
            _draw(axes, [_confirmed(point) for point in shown], attribute, color=colour, s=28, label=label, zorder=3)
    _draw(axes, [_confirmed(found.baseline)], attribute, color="black", s=45, marker="D", label="baseline", zorder=4)
    for ratio in sorted({price.ratio for price in found.prices}):
        axes.axvline(ratio, color=_GUIDE, linestyle=":", linewidth=0.8)
    axes.legend(loc="lower left", frameon=False, fontsize=8)
    return figure


def _confirmed(point: AlternativePoint) -> SearchedFigures:
    own = point.confirmed
    ratios: Mapping[str, float] = {name: one.value for name, one in own.ratios.items()}
    return SearchedFigures(auc=own.auc.value, cost=own.cost.value, approved=own.approved.value, ratios=dict(ratios))


def _draw(axes: Any, shown: list[SearchedFigures], attribute: str, **style: Any) -> None:
    axes.scatter([one.ratios[attribute] for one in shown], [one.auc for one in shown], **style)
