"""Every page of the site in one folder: those written by hand, and those made from what the project is."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from docs.commands import commands_page
from docs.configuration import configuration_page
from docs.http import http_page
from docs.metrics import alerts_page, metrics_page
from docs.python_interface import python_pages

ROOT = Path(__file__).resolve().parent.parent
_HAND_WRITTEN = {".md", ".svg", ".png", ".webp", ".css"}


def write_pages(output: Path) -> None:
    """Empty the folder, copy the pages written by hand into it, and make the others."""
    shutil.rmtree(output, ignore_errors=True)
    for file in sorted((ROOT / "docs").rglob("*")):
        if file.suffix in _HAND_WRITTEN:
            _copy(file, output / file.relative_to(ROOT / "docs"))
    _copy(ROOT / "benchmarks/README.md", output / "benchmarks/README.md")
    _copy(ROOT / "benchmarks/results/comparison.svg", output / "benchmarks/results/comparison.svg")
    for name, text in generated_pages().items():
        page = output / "reference" / name
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(text, encoding="utf-8")


def generated_pages() -> dict[str, str]:
    """The pages below reference/ that are made anew each time, by their names."""
    return {
        "configuration.md": configuration_page(ROOT),
        "http.md": http_page(ROOT),
        "commands.md": commands_page(ROOT),
        "metrics.md": metrics_page(ROOT),
        "alerts.md": alerts_page(ROOT),
        **python_pages(ROOT),
    }


def _copy(source: Path, target: Path) -> None:
    """In the site the benchmarks' page lies within docs/, so links to it go up one folder less."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.suffix != ".md":
        shutil.copyfile(source, target)
        return
    text = source.read_text(encoding="utf-8")
    text = re.sub(r"\]\(\.\./((?:\.\./)*benchmarks/)", r"](\1", text).replace("](../docs/", "](../")
    target.write_text(text, encoding="utf-8")
