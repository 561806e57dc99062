"""Numbers as a reader of the report sees them."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.figure import Figure

from monitoring.measures import Estimate

NOTHING = "\N{EN DASH}"
"""Where there is no figure."""


def count(value: int) -> str:
    """A whole number.

    >>> count(35309)
    '35,309'
    """
    return f"{value:,}"


def decimal(value: float | None) -> str:
    """Four decimals; a dash for what is not known."""
    return NOTHING if value is None or math.isnan(value) else f"{value:.4f}"


def signed(value: float) -> str:
    """Four decimals and the sign."""
    return f"{value:+.4f}"


def percent(value: float | None) -> str:
    """A share in per cent; a dash for what is not known.

    >>> percent(0.0784)
    '7.84 %'
    """
    return NOTHING if value is None or math.isnan(value) else f"{100 * value:.2f} %"


def span(estimate: Estimate | None) -> str:
    """The interval."""
    return NOTHING if estimate is None else f"{decimal(estimate.low)} to {decimal(estimate.high)}"


def percent_span(estimate: Estimate | None) -> str:
    """The interval of a share.

    >>> percent_span(Estimate(0.1, 0.05, 0.15))
    '5.00 to 15.00 %'
    """
    return NOTHING if estimate is None else f"{100 * estimate.low:.2f} to {percent(estimate.high)}"


def held(value: float | None, estimate: Estimate | None) -> str:
    """Whether an expected share is inside the interval of the observed one."""
    if value is None or estimate is None:
        return NOTHING
    if value < estimate.low:
        return "too low"
    return "too high" if value > estimate.high else "inside"


Row = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReportTable:
    """Cells under headings; `align` has one letter for each column, `r` for numbers and `l` for words."""

    align: str
    head: Row
    rows: tuple[Row, ...]

    @classmethod
    def of(cls, align: str, head: Row, rows: Iterable[Row]) -> Self:
        """The table of these rows; ValueError unless each has a cell for every column."""
        rows = tuple(rows)
        if any(len(row) != len(align) for row in (head, *rows)):
            raise ValueError(f"a row has not {len(align)} cells")
        return cls(align, head, rows)


_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
_UNNEEDED = re.compile(r' xmlns(?::\w+)?="[^"]*"|<defs>\s*<style.*?</style>\s*</defs>\s*', re.DOTALL)
_REFERENCES = re.compile(r'(\bid="|href="#|url\(#)')


def write_png(figure: Figure, path: Path) -> None:
    """Write a PNG file."""
    figure.savefig(path, dpi=130, metadata={"Software": None})


def svg(name: str, figure: Figure) -> Markup:
    """The figure as an element of an HTML page, its text left as text.

    All ids begin with `name`, because those of two figures of one page would meet. Namespaces are left out: inside
    HTML the parser knows them.
    """
    written = io.StringIO()
    with rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        figure.savefig(written, format="svg", metadata=_NO_METADATA)
    element = written.getvalue()[written.getvalue().index("<svg") :]
    named = _REFERENCES.sub(rf"\g<1>{name}-", _UNNEEDED.sub("", element))
    return Markup(named.replace("<svg", f'<svg role="img" aria-labelledby="{name}"', 1))  # noqa: S704 - matplotlib escapes
