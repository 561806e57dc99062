"""Figures as files and as a part of a page, the same bytes every time."""

from __future__ import annotations

import io
import re
from pathlib import Path

from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.figure import Figure

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
