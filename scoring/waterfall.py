"""A waterfall shows one decision as SVG: how the reasons lead from the mean that it is compared with to its margin.

The picture stands alone, in light and dark: it holds no script and asks for no font and no other resource. Bars that
raise the risk and bars that lower it differ in colour, filling, direction and sign.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from textwrap import wrap

import numpy as np

from features.reasons import Reason
from scoring.model import Calibration
from scoring.policy import DecisionKind, DecisionPolicy
from scoring.reasons import Explanation

MOST_BARS = 12
"""Beyond them a reader compares nothing; the other reasons are one bar together."""
_LEAST = 0.005
"""Log-odds below which a bar would be written as 0.00."""
PROTECTED = "Features of protected attributes"

LIGHT = """
.waterfall { font: 12px system-ui, -apple-system, "Segoe UI", Roboto, Arial, "DejaVu Sans", sans-serif; }
.waterfall text { fill: #1c2733; paint-order: stroke; stroke: #ffffff; stroke-width: 3px; }
.waterfall .title { font-size: 16px; font-weight: 600; }
.waterfall .soft { fill: #55626f; }
.waterfall .value { font-weight: 600; }
.waterfall .end { text-anchor: end; } .waterfall .middle { text-anchor: middle; }
.waterfall .paper { fill: #ffffff; }
.waterfall .band { fill: #f3e9cf; }
.waterfall .limit { stroke: #8a6100; stroke-dasharray: 4 3; }
.waterfall .axis, .waterfall .link { stroke: #55626f; }
.waterfall .link { stroke-dasharray: 1 2; }
.waterfall .raised { fill: #b2182b; stroke: #b2182b; }
.waterfall .lowered { stroke: #2166ac; }
.waterfall .line { stroke: #2166ac; stroke-width: 2px; }
.waterfall .mark { fill: #1c2733; }
"""
"""The style of the picture on a page that is light in any case."""
STYLE = f"""{LIGHT}@media (prefers-color-scheme: dark) {{
.waterfall text, .waterfall .mark {{ fill: #e8ecf0; }} .waterfall text {{ stroke: #161b21; }}
.waterfall .soft {{ fill: #a9b4be; }}
.waterfall .paper {{ fill: #161b21; }}
.waterfall .band {{ fill: #3a3115; }}
.waterfall .limit {{ stroke: #d9ae4a; }}
.waterfall .axis, .waterfall .link {{ stroke: #a9b4be; }}
.waterfall .raised {{ fill: #f28b82; stroke: #f28b82; }}
.waterfall .lowered, .waterfall .line {{ stroke: #8ab4f8; }}
}}
"""
"""The style of the picture. It is the same in each, so that a page can allow it by its hash."""

_WIDTH, _LEFT, _RIGHT = 360, 12, 348
_SHOWN = 480
"""Width where nothing else says how large the picture shall be."""
_LINE, _BAR, _GAP = 15, 12, 9
"""Heights in pixels: of a line of words, of a bar, and below a bar."""
_LETTERS = 52
"""Of a line: the widest common letters of these sizes still fit into the picture."""
_STEPS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
_MOST_TICKS = 6


@dataclass(frozen=True, slots=True)
class WaterfallBar:
    """A bar of a waterfall: its words, and the margins before and after it."""

    words: str
    start: float
    end: float

    @property
    def raised(self) -> bool:
        """Whether it raised the risk."""
        return self.end >= self.start


@dataclass(frozen=True, slots=True)
class Waterfall:
    """Draws the waterfalls of one model.

    Attributes
    ----------
    language : of the reasons, one of those that the portfolio has words in
    """

    policy: DecisionPolicy
    calibration: Calibration
    language: str

    def svg(
        self,
        explanation: Explanation,
        margin: float,
        decision: DecisionKind,
        *,
        name: str = "waterfall",
        metadata: str = "",
        subject: str = "This application",
        style: str = STYLE,
    ) -> str:
        """The picture of a decision.

        Parameters
        ----------
        margin : raw log-odds of default, to which base and contributions add up
        name : begins all ids, so that two pictures of one page share none
        metadata : a text that the picture carries unseen, such as the answer that it draws
        subject : whose margin it is
        style : LIGHT on a page that has no dark colours
        """
        bars = bars_of(explanation, self.language)
        limits = self._limits()
        scale = _Scale.over([explanation.base, margin, *limits, *(bar.end for bar in bars)])
        top = 104
        rows, bottom = _rows(bars, scale, top, name)
        height = bottom + 66
        head = [
            f"<metadata>{escape(metadata)}</metadata>" if metadata else "",
            f"<style>{style}</style>{_hatch(name)}",
            f'<rect class="paper" width="{_WIDTH}" height="{height}"/>',
            *self._titles(margin, decision, self._description(explanation, bars, margin, subject), name),
        ]
        drawn = [
            *_band(limits, scale, top, bottom),
            *self._axis(scale, top),
            *self._first(explanation.base, scale, top),
            *rows,
            *self._total(f"{subject}: {number(margin)}, PD {self._pd(margin)}", scale.x(margin), bottom, name),
        ]
        named = f'role="img" aria-labelledby="{name}-title {name}-desc"'
        size = f'viewBox="0 0 {_WIDTH} {height}" width="{_SHOWN}" height="{round(height * _SHOWN / _WIDTH)}"'
        return f'<svg xmlns="http://www.w3.org/2000/svg" class="waterfall" {size} {named}>{"".join(head + drawn)}</svg>'

    def _titles(self, margin: float, decision: DecisionKind, description: str, name: str) -> Iterator[str]:
        title = escape(f"{decision.capitalize()}: PD {self._pd(margin)}")
        yield f'<title id="{name}-title">{title}</title><desc id="{name}-desc">{escape(description)}</desc>'
        yield f'<text class="title" x="{_LEFT}" y="24">{title}</text>'
        yield f'<text class="soft" x="{_LEFT}" y="43">{escape(self._subtitle(margin, decision))}</text>'

    def _limits(self) -> tuple[float, float]:
        """The margins between which a person decides; infinite where no PD is beyond."""
        return self._limit(self.policy.refer_from), self._limit(self.policy.refer_to)

    def _limit(self, probability: float) -> float:
        inside = 0 < probability < 1
        return self.calibration.margin(probability) if inside else math.copysign(math.inf, probability - 0.5)

    def _pd(self, margin: float) -> str:
        return percent(float(self.calibration.probabilities(np.array([margin]))[0]))

    def _subtitle(self, margin: float, decision: DecisionKind) -> str:
        by_pd = self.policy.outcomes(self.calibration.probabilities(np.array([margin])))[0]
        if decision != by_pd:
            return "Approval is withheld: too little is known for it."
        low, high = percent(self.policy.refer_from), percent(self.policy.refer_to)
        if low == high:
            return f"Declined from a PD of {high} on."
        return f"A person decides from PD {low} to {high} (shaded)."

    def _description(self, explanation: Explanation, bars: Sequence[WaterfallBar], margin: float, subject: str) -> str:
        start = f"The mean that it is compared with has the log-odds {number(explanation.base)}"
        told = [f"{bar.words}: {number(bar.end - bar.start, sign=True)}." for bar in bars]
        end = f"{subject} has {number(margin)}, a PD of {self._pd(margin)}."
        return " ".join([f"{start}, a PD of {self._pd(explanation.base)}.", *told, end])

    def _axis(self, scale: _Scale, top: int) -> Iterator[str]:
        yield f'<text class="soft" x="{_LEFT}" y="60">log-odds of default, and the PD that they stand for</text>'
        yield f'<line class="axis" x1="{_LEFT}" x2="{_RIGHT}" y1="{top}" y2="{top}"/>'
        for tick in scale.ticks():
            x = scale.x(tick)
            yield f'<line class="axis" x1="{x}" x2="{x}" y1="{top - 4}" y2="{top}"/>'
            yield f'<text class="middle" x="{x}" y="{top - 22}">{number(tick, places=1)}</text>'
            yield f'<text class="soft middle" x="{x}" y="{top - 8}">{self._pd(tick)}</text>'

    def _first(self, base: float, scale: _Scale, top: int) -> Iterator[str]:
        words = f"Mean that it is compared with: {number(base)}, PD {self._pd(base)}"
        yield f'<text x="{_LEFT}" y="{top + 18}">{escape(words)}</text>'
        yield _mark(scale.x(base), top + 25)

    def _total(self, words: str, x: float, bottom: int, name: str) -> Iterator[str]:
        yield _mark(x, bottom + 4)
        yield f'<text class="value" x="{_LEFT}" y="{bottom + 30}">{escape(words)}</text>'
        for bar, meaning, left in (
            (WaterfallBar("", 0, 1), "raised the risk", _LEFT),
            (WaterfallBar("", 1, 0), "lowered it", _LEFT + 130),
        ):
            yield _arrow(bar, left + 24 * bar.start, left + 24 * bar.end, bottom + 42, name)
            yield f'<text class="soft" x="{left + 30}" y="{bottom + 52}">{meaning}</text>'


def bars_of(explanation: Explanation, language: str) -> list[WaterfallBar]:
    """The bars of an explanation: at most 12, in its order, and then the sum of all others, the smallest ones.

    What is written as 0.00 has no bar of its own. Features of protected attributes always have one.
    """
    ranked = sorted(explanation.contributions, key=lambda one: (one[0] is not None, -abs(one[1])))
    kept = [one for one in ranked[:MOST_BARS] if one[0] is None or abs(one[1]) >= _LEAST]
    shown = [(_words(*one, language), one[1]) for one in explanation.contributions if one in kept]
    if rest := ranked[len(kept) :]:
        words = "One other reason" if len(rest) == 1 else f"{len(rest)} other reasons together"
        shown.append((words, sum(added for _, added in rest)))
    bars, at = [], explanation.base
    for words, added in shown:
        bars.append(WaterfallBar(words, at, at + added))
        at += added
    return bars


def _words(reason: Reason | None, added: float, language: str) -> str:
    """The words of a bar. A reason is worded for those who are declined: where it lowered the risk, that is said."""
    if reason is None:
        return PROTECTED
    return reason.text(language) if added >= 0 else f"Not a reason: {reason.text(language)}"


@dataclass(frozen=True, slots=True)
class _Scale:
    """Places margins from `low` to `high` across the picture."""

    low: float
    high: float

    @classmethod
    def over(cls, margins: Sequence[float]) -> _Scale:
        finite = [margin for margin in margins if math.isfinite(margin)]
        low, high = min(finite), max(finite)
        room = 0.06 * (high - low) or 1.0
        return cls(low - room, high + room)

    def x(self, margin: float) -> float:
        """The place of a margin; infinite ones are at the edges."""
        if math.isinf(margin):
            return _LEFT if margin < 0 else _RIGHT
        return round(_LEFT + (_RIGHT - _LEFT) * (margin - self.low) / (self.high - self.low), 1)

    def ticks(self) -> list[float]:
        span = self.high - self.low
        step = next((step for step in _STEPS if span / step <= _MOST_TICKS), span / _MOST_TICKS)
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [step * i for i in range(first, last + 1) if _LEFT + 14 <= self.x(step * i) <= _RIGHT - 14]


def _rows(bars: Sequence[WaterfallBar], scale: _Scale, top: int, name: str) -> tuple[list[str], int]:
    """The bars with their words, each below the one before, and the height that the last one reaches."""
    drawn, y, above = [], top + 45, top + 25 + _BAR
    for bar in bars:
        start, end = scale.x(bar.start), scale.x(bar.end)
        lines = wrap(bar.words, _LETTERS) or [""]
        words = [f'<text x="{_LEFT}" y="{y + _LINE * i}">{escape(line)}</text>' for i, line in enumerate(lines)]
        at = y + _LINE * (len(lines) - 1) + 6
        drawn.append(f'<line class="link" x1="{start}" x2="{start}" y1="{above}" y2="{at}"/>')
        drawn += [*words, _arrow(bar, start, end, at, name), _value(bar, start, end, at + _BAR - 2)]
        above, y = at + _BAR, at + _BAR + _GAP + _LINE - 3
    return drawn, above + 4


def _arrow(bar: WaterfallBar, start: float, end: float, y: int, name: str) -> str:
    head = math.copysign(min(6.0, abs(end - start)), end - start)
    neck = round(end - head, 1)
    points = f"{start},{y} {neck},{y} {end},{y + _BAR / 2:g} {neck},{y + _BAR} {start},{y + _BAR}"
    fill = "" if bar.raised else f' fill="url(#{name}-hatch)"'
    return f'<polygon class="{"raised" if bar.raised else "lowered"}"{fill} points="{points}"/>'


def _value(bar: WaterfallBar, start: float, end: float, y: int) -> str:
    """The contribution, beside the bar where there is room."""
    right = max(start, end) + 5
    left, kind = (right, "value") if right <= _RIGHT - 36 else (min(start, end) - 5, "value end")
    return f'<text class="{kind}" x="{left:g}" y="{y}">{number(bar.end - bar.start, sign=True)}</text>'


def _band(limits: tuple[float, float], scale: _Scale, top: int, bottom: int) -> Iterator[str]:
    left, right = map(scale.x, limits)
    if left < right:
        yield f'<rect class="band" x="{left}" y="{top}" width="{right - left:g}" height="{bottom - top}"/>'
    for x in dict.fromkeys(scale.x(limit) for limit in limits if math.isfinite(limit)):
        yield f'<line class="limit" x1="{x}" x2="{x}" y1="{top}" y2="{bottom}"/>'


def _hatch(name: str) -> str:
    return (
        f'<defs><pattern id="{name}-hatch" width="5" height="5" patternUnits="userSpaceOnUse"'
        ' patternTransform="rotate(45)"><line class="line" x1="0" x2="0" y1="0" y2="5"/></pattern></defs>'
    )


def _mark(x: float, y: int) -> str:
    """A diamond for a margin."""
    points = f"{x},{y} {x + 6:g},{y + 6} {x},{y + _BAR} {x - 6:g},{y + 6}"
    return f'<polygon class="mark" points="{points}"/>'


def number(value: float, *, places: int = 2, sign: bool = False) -> str:
    r"""A number with a real minus sign; with `sign` a plus sign too.

    >>> number(0.256, sign=True), number(-0.5) == "\N{MINUS SIGN}0.50", number(-0.001)
    ('+0.26', True, '0.00')
    """
    rounded = round(value, places) + 0.0  # -0.0 becomes 0.0
    return f"{rounded:{'+' if sign else ''}.{places}f}".replace("-", "\N{MINUS SIGN}")


def percent(share: float) -> str:
    """A PD in per cent, with three digits.

    >>> [percent(share) for share in (0.0324, 0.5, 0.000_000_2)]
    ['3.24 %', '50 %', 'below 0.001 %']
    """
    return "below 0.001 %" if share < 1e-5 else f"{100 * share:.3g} %"
