"""Small labelled files, and what `python -m training init` drafts of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from training.cli import main

ROWS = 20
# Every second row is bad, so that the even rows hold one outcome only and nothing is ranked by it.
ALTERNATING = [i % 2 for i in range(ROWS)]


def write(path: Path, columns: Mapping[str, Sequence[object]], separator: str = ",") -> Path:
    rows = zip(*columns.values(), strict=True)
    lines = [separator.join(columns), *(separator.join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def init(data: Path, *options: str) -> list[str]:
    """The lines of the draft below its head."""
    output = data.parent / "mine"
    assert main(["init", "--data", str(data), "--output", str(output), *options]) == 0
    lines = (output / "portfolio.yaml").read_text(encoding="utf-8").splitlines()
    assert [line[:2] for line in lines[:2]] == ["# ", "# "]
    return lines[2:]


def column(tmp_path: Path, name: str, values: Sequence[object]) -> list[str]:
    """What is drafted of one column."""
    lines = init(write(tmp_path / "loans.csv", {name: values, "TARGET": ALTERNATING}))
    return [line.strip() for line in lines[lines.index("columns:") + 1 :]]


def spread(*values: object) -> list[object]:
    """Each value in as many rows as the others, neighbours next to each other."""
    return [value for value in values for _ in range(ROWS // len(values))]
