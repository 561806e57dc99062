"""Writing comparisons into the page of the benchmarks and the documentation."""

from __future__ import annotations

import json
import os
from pathlib import Path

from benchmarks.bars import book_verdicts, verdicts
from benchmarks.book import BookRecord
from benchmarks.chart import draw
from benchmarks.errors import BenchmarkError
from benchmarks.generators import Generators
from benchmarks.results import Comparison, SoakRecord
from benchmarks.settings import Bars
from benchmarks.table import book, by_cpu, document, generators, look_ups, materialized, variants
from jobs.output import write_text


def report_variants(comparison: Comparison, page: Path) -> str:
    """Put the table of the service's variants between the markers of the page, and return it."""
    text = variants(comparison)
    _write_between(page, "variants", text)
    return text


def report_generators(found: Generators, page: Path) -> str:
    """Put the table of the two load generators between the markers of the page, and return it."""
    text = generators(found)
    _write_between(page, "generators", text)
    return text


def report_book(record: BookRecord, bars: Bars, page: Path) -> str:
    """Put the tables of the whole book between the markers of the page, and return them."""
    text = book(record, book_verdicts(record, bars))
    _write_between(page, "book", text)
    return text


def report_histories(look_up: Path, materialize: Path, page: Path) -> str:
    """Put the tables of look-ups and of rolling up between the markers of the page, those that exist; return them."""
    said = ""
    for name, path, table in (("look-ups", look_up, look_ups), ("materialize", materialize, materialized)):
        if path.exists():
            text = table(json.loads(path.read_text(encoding="utf-8")))
            _write_between(page, name, text)
            said += text
    return said


def report(comparison: Comparison, soak: SoakRecord | None, bars: Bars, *, page: Path, chart: Path) -> str:
    """Draw the chart, put the tables between the markers of the page, and return them.

    BenchmarkError, and nothing changed, where the page has no markers or no peer answered a request.
    """
    _around_markers(page, "benchmarks")
    peers = by_cpu(comparison.peers)
    if not peers:
        raise BenchmarkError("the results have no peer that answers requests")
    long = soak.soak if soak else None
    link = os.path.relpath(chart, page.parent)
    text = document(comparison, long, verdicts(comparison, long, bars), link)
    draw(peers, chart)
    _write_between(page, "benchmarks", text)
    return text


def _write_between(page: Path, name: str, text: str) -> None:
    before, after = _around_markers(page, name)
    write_text(page, f"{before}\n{text}{after}")


def _around_markers(page: Path, name: str) -> tuple[str, str]:
    """What is before and after the place for the text, the markers included."""
    try:
        content = page.read_text(encoding="utf-8")
    except OSError as error:
        raise BenchmarkError(f"{page}: cannot be read ({error.strerror})") from None
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, opened, rest = content.partition(begin)
    _, closed, after = rest.partition(end)
    if not (opened and closed):
        raise BenchmarkError(f"{page}: the markers {begin} and {end} are missing")
    return before + begin, end + after
