"""The frame of a page: one self-contained HTML file, light, readable on a laptop and on paper."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

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
.charts { display: flex; flex-wrap: wrap; gap: 1rem; } figure { margin: 0; break-inside: avoid; }
figcaption { font-size: .85rem; color: var(--soft); } svg { display: block; max-width: 100%; height: auto; }
svg text { font: 11px system-ui, sans-serif; fill: var(--soft); }
@media print { body { margin: 0; max-width: none; font-size: 11px; } h2 { break-after: avoid; }
  tr { break-inside: avoid; } table { font-size: 9px; } th, td { padding: .15rem .4rem; } }
"""


def whole_page(title: str, parts: Iterable[str]) -> str:
    """The whole file; `parts` are HTML."""
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
    """What the section comes to."""
    return f'<div class="verdict{" alarm" if alarm else ""}">{escape(text)}</div>\n'


def bullets(items: Iterable[str]) -> str:
    """A list."""
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
