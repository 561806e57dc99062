"""An HTML page, read with the standard library's parser."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Self

_HEADINGS = ("h1", "h2", "h3")


@dataclass
class Page:
    """What a test wants to know of a page.

    `headings` pairs levels with texts; `tables` holds, by the id of the section's heading, the cells of each table, row
    by row with the head first; `text` is everything that is shown, the page's own style aside.
    """

    headings: list[tuple[str, str]] = field(default_factory=list)
    tables: dict[str, list[list[list[str]]]] = field(default_factory=lambda: defaultdict(list))
    tags: set[str] = field(default_factory=set)
    given: list[tuple[str, str]] = field(default_factory=list)
    text: str = ""

    @classmethod
    def of(cls, text: str) -> Self:
        page = cls()
        reader = _Reader(page)
        reader.feed(text)
        reader.close()
        return page

    def attributes(self, *names: str) -> list[str]:
        """The values of every attribute of these names."""
        return [value for name, value in self.given if name in names]

    def between(self, start: str, end: str) -> str:
        """The text between two others."""
        return self.text.partition(start)[2].partition(end)[0]


class _Reader(HTMLParser):
    def __init__(self, page: Page) -> None:
        super().__init__()
        self.page, self.open, self.section = page, [""], ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.page.tags.add(tag)
        self.page.given += [(name, value or "") for name, value in attrs]
        self.open.append(tag)
        if tag in _HEADINGS:
            self.section = dict(attrs).get("id") or self.section
            self.page.headings.append((tag, ""))
        if tag == "table":
            self.page.tables[self.section].append([])
        if tag == "tr":
            self.page.tables[self.section][-1].append([])
        if tag in ("td", "th"):
            self.page.tables[self.section][-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        while self.open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        self.page.text += data
        if self.open[-1] in _HEADINGS:
            level, text = self.page.headings[-1]
            self.page.headings[-1] = level, text + data
        if "td" in self.open or "th" in self.open:
            self.page.tables[self.section][-1][-1][-1] += data
