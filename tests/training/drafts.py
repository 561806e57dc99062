"""Small labelled files, and what `python -m training init` drafts of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.features.examples import ROOT
from training.cli import main
from training.settings import TrainingSettings

ROWS = 20
# Every second row is bad, so that the even rows hold one outcome only and nothing is ranked by it.
ALTERNATING = [i % 2 for i in range(ROWS)]

POLICY = TrainingSettings.load(ROOT / "configs" / "training.yaml").policy
RULES = [
    "training:   # laid over configs/training.yaml",
    "  policy:",
    "    # ? what costs a bad application that is approved, and a good one that is declined? these are an example's",
    "    cost_fn: 10",
    "    cost_fp: 1",
    "    # ? from which PDs on is the risk MEDIUM, HIGH, CRITICAL? shown: half, once and twice a default rate of 8 %",
    "    level_bounds: [0.04, 0.08, 0.16]",
]
REQUIRED = "# ? which columns must every application state? write required: true there; none says so yet"
"""The lines that every draft has before its columns."""


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
