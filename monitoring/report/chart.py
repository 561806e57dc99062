"""Charts as SVG text, without a library or a script."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

_WIDTH, _HEIGHT = 300, 170
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 6, 18, 30
_REFERENCE, _WINDOW = "#9fb3c8", "#b2182b"


def pair_of_bars(
    labels: Sequence[str], reference: Sequence[float], window: Sequence[float], *, width: int = _WIDTH
) -> str:
    """Shares of the reference and of the window in the same bins, side by side."""
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
        f'<text x="{x}" y="{_HEIGHT - 14}" text-anchor="{anchor}">{escape(label)}</text>' for x, anchor, label in ends
    )
    legend = (
        f'<text x="{_LEFT}" y="11"><tspan fill="{_REFERENCE}">■</tspan> reference '
        f'<tspan fill="{_WINDOW}">■</tspan> window</text>'
    )
    return _svg(f"{_axis(top, width)}{''.join(bars)}{ticks}{legend}", width)


def points_with_intervals(
    points: Sequence[tuple[float, float, float, float]], *, diagonal: bool, width: int = _WIDTH
) -> str:
    """Points (x, y, low, high); with the `diagonal` where x = y."""
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
