"""The sections of the monitoring report."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from monitoring.drift import Judgement, Level, Shift, Window, ordered, unjudged
from monitoring.fairness import SIGNAL, Screening
from monitoring.measures import Estimate
from monitoring.performance import ACCEPTED_ONLY, ASSUMPTIONS, Part, Performance
from scoring import Bins, DriftReference

from .chart import pair_of_bars, points_with_intervals
from .page import bullets, charts, heading, paragraph, table, verdict

_CHARTED = 6
_LISTED = 25


def drift_section(
    judgement: Judgement, model: DriftReference, window: Window, levels: Mapping[str, Sequence[str]]
) -> Iterator[str]:
    """The verdict, the culprits, the score, and the features that moved most; `levels` names those of categories."""
    yield heading("Drift")
    yield verdict("; ".join(judgement.reasons) or "No alarm.", alarm=judgement.alarm)
    yield paragraph(
        f"{judgement.rows:,} applications against {judgement.reference_rows:,} of the reference. Without any drift, at "
        f"most {judgement.false_alarm_rate:.1%} of windows raise an alarm.",
        soft=True,
    )
    if judgement.culprits:
        yield table(
            ("look at first", "materiality x importance", "drifting features charged to it"),
            [(each.name, f"{each.weight:.4f}", str(len(each.features))) for each in judgement.culprits[:8]],
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
    """Realised figures where outcomes are known, and what the PDs alone say."""
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


def fairness_section(screenings: Sequence[Screening]) -> Iterator[str]:
    """Rates by group, and what stands out."""
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


def _row(shift: Shift) -> tuple[str, ...]:
    return (
        shift.name,
        "" if shift.level is Level.STABLE else shift.level.name.lower(),
        f"{shift.psi:.4f}",
        f"{shift.excess:.4f}",
        f"{shift.adjusted:.1e}",
        "" if math.isnan(shift.ks) else f"{shift.ks:.3f}",
        f"{shift.jensen_shannon:.3f}",
        f"{shift.missing:.1%}",
        f"{shift.missing_shift:+.1%}",
        f"{shift.unseen:.1%}",
        f"{shift.importance:.1%}",
    )


def _drift_charts(
    judgement: Judgement, model: DriftReference, window: Window, levels: Mapping[str, Sequence[str]]
) -> Iterator[tuple[str, str]]:
    base = Window.reference(model)
    yield _bars(model.probability, (), base.probability, window.probability), judgement.score.name
    names = list(model.features)
    chosen = [each.name for each in judgement.culprits] + [shift.name for shift in ordered(judgement)]
    for name in list(dict.fromkeys(chosen))[: _CHARTED - 1]:
        row, bins = names.index(name), model.features[name]
        counts = (each.features[row, : bins.size] for each in (base, window))
        yield _bars(bins, levels.get(name, ()), *counts), name


def _bars(bins: Bins, levels: Sequence[str], reference: Iterable[int], window: Iterable[int]) -> str:
    counts = [np.array(each, dtype=np.float64) for each in (list(reference), list(window))]
    shares = [each / max(each.sum(), 1) for each in counts]
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
