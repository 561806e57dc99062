"""The prose of the documentation: sentences that are read once, and links that lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path
from statistics import median

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    path
    for path in [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "benchmarks/README.md",
        *ROOT.glob("docs/**/*.md"),
    ]
    if path.exists()
)
LONGEST, LONGEST_EXCEPTION, MEDIAN = 25, 30, 15
EXCEPTIONS: frozenset[str] = frozenset()
"""Sentences of up to 30 words that no rewriting makes clearer."""

NO_PROSE = r"```.*?```|<!--.*?-->|<pre>.*?</pre>"
NO_PROSE_LINES = r"^[ \t]*\|[^\n]*$|^    [^\n]*$|`[^`\n]*`|^#+ [^\n]*$|^!\[[^\n]*$"
BREAKS = r"(?<=[.!?:;])[*_)\"]*\s+|\n\s*\n|\n\s*(?:[-*#]|\d+\.)\s"

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def sentences(text: str) -> list[str]:
    """The sentences of Markdown: no code, tables, headings or pictures; a list item is a sentence of its own."""
    text = re.sub(NO_PROSE, "\n\n", text, flags=re.DOTALL)
    text = re.sub(NO_PROSE_LINES, " ", text, flags=re.MULTILINE)
    text = re.sub(r"\]\([^)\s]*\)", "]", text)
    return [" ".join(part.split()) for part in re.split(BREAKS, text) if len(part.split()) > 2]


def length(sentence: str) -> int:
    return len(sentence.split())


@every_page
def test_no_sentence_is_too_long(page: Path) -> None:
    limits = [(LONGEST_EXCEPTION if one in EXCEPTIONS else LONGEST, one) for one in sentences(page.read_text())]
    assert [f"{length(one)}: {one}" for limit, one in limits if length(one) > limit] == []


def test_half_of_the_sentences_are_short() -> None:
    assert median(length(one) for page in PAGES for one in sentences(page.read_text())) <= MEDIAN


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("One two three. Four five six!", ["One two three.", "Four five six!"]),
        ("One two three: four five six", ["One two three:", "four five six"]),
        ("One two\nthree four\n\nfive six seven", ["One two three four", "five six seven"]),
        ("- one two three\n- four five six", ["- one two three", "four five six"]),
        ("# A title of words\n\none two three", ["one two three"]),
        ("one two three\n| a b c | d |\nfour five six", ["one two three", "four five six"]),
        ("one two three\n\n    make all of this\n\nfour five six", ["one two three", "four five six"]),
        ("```sh\none two three four\n```\nfive six seven", ["five six seven"]),
        ("one [two](a.md#b) `code of words` three", ["one [two] three"]),
        ("too short", []),
        ("**One two three.** Four five six", ["**One two three.", "Four five six"]),
    ],
)
def test_sentences_are_found(text: str, found: list[str]) -> None:
    assert sentences(text) == found
