"""Open questions of a portfolio file: comments that begin with `# ?`, which a person answers and takes away.

`python -m training init` writes one wherever it guessed. Nothing is trained on a file that still has one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import yaml

from features.portfolio import FILE_NAME
from jobs.errors import SettingsError
from jobs.settings import SETTINGS_BYTES, read_regular

MARK = "# ?"
"""The beginning of a comment that asks something."""

_ASKED = re.compile(r"(?<!\S)#[ \t]*\?")


def open_questions(text: str) -> tuple[int, ...]:
    """Return the line, from 1, of each open question in the text of a YAML file that can be read.

    >>> open_questions('a: 1  # ? is it' + chr(10) + 'b: "no # ? question"')
    (1,)
    """
    # The scanner is slow and needed only where the mark stands somewhere: it may stand within a quoted text.
    if not _ASKED.search(text):
        return ()
    return tuple(n for n, line in enumerate(_without_scalars(text).split("\n"), start=1) if _ASKED.search(line))


def _without_scalars(text: str) -> str:
    """The text with a letter in place of each character of a value, so that a mark is left in comments alone."""
    kept, end = [], 0
    for token in yaml.scan(text, Loader=yaml.SafeLoader):
        if isinstance(token, yaml.ScalarToken):
            start, after = token.start_mark.index, token.end_mark.index
            kept += [text[end:start], re.sub(r"[^\n]", "x", text[start:after])]
            end = after
    return "".join([*kept, text[end:]])


def questions_in(portfolio: Path) -> tuple[Path, tuple[int, ...]]:
    """Return the file of a portfolio, given itself or its folder, and the lines of its open questions.

    SettingsError if it cannot be read as YAML.
    """
    file = portfolio / FILE_NAME if portfolio.is_dir() else portfolio
    try:
        return file, open_questions(read_regular(file, SETTINGS_BYTES).decode("utf-8-sig"))
    except OSError as error:
        raise SettingsError(f"{file}: cannot be read ({error.strerror})") from None
    except (UnicodeError, yaml.YAMLError):
        raise SettingsError(f"{file}: not YAML") from None


def refuse_open_questions(portfolio: Path) -> None:
    """SettingsError, with their number and the first line, if the portfolio's file has open questions."""
    file, lines = questions_in(portfolio)
    if lines:
        raise SettingsError(f"{file}: {told(lines)}: answer each and remove its comment")


def told(lines: Sequence[int]) -> str:
    """Return in words how many questions are open, and where the first one stands.

    >>> told((7, 9))
    '2 open questions, the first in line 7'
    """
    return f"{len(lines)} open question{'s' if len(lines) > 1 else ''}, the first in line {lines[0]}"
