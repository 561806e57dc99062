"""Lets mkdocstrings show doctests and aligned lists as they stand. MkDocs loads it in an environment of its own."""

from __future__ import annotations

import re
from typing import Any

import griffe

_ALIGNED = re.compile(r"^\S.*?\S {2,}\S", flags=re.MULTILINE)


class AsTheyStand(griffe.Extension):
    """Fences the paragraphs of a docstring that are no running text."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of one object."""
        if obj.docstring:
            obj.docstring.value = "\n\n".join(map(_fenced, obj.docstring.value.split("\n\n")))


def _fenced(paragraph: str) -> str:
    if paragraph.lstrip().startswith(">>> "):
        return f"```pycon\n{paragraph}\n```"
    return f"```text\n{paragraph}\n```" if len(_ALIGNED.findall(paragraph)) > 1 else paragraph
