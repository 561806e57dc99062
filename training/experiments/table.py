"""The table that an experiment ends with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from training.evaluation import Estimate

from .comparison import Compared

_HEADINGS = ("candidate", "verdict", "AUC", "AUC - best", "AP", "Brier", "ECE", "cost", "cost - best", "seconds")


def rows(compared: Sequence[Compared]) -> Iterator[dict[str, str]]:
    """One row for each candidate, by heading."""
    for one in compared:
        cells = (
            one.candidate.name,
            one.verdict,
            str(one.evaluation["auc"]),
            _signed(one.auc_behind),
            *(f"{one.evaluation[name].value:.4f}" for name in ("average_precision", "brier", "ece")),
            f"{one.evaluation['cost_per_applicant'].value:.4f}",
            _signed(one.cost_behind),
            f"{one.candidate.seconds:.1f}",
        )
        yield dict(zip(_HEADINGS, cells, strict=True))


def table_lines(compared: Sequence[Compared]) -> Iterator[str]:
    """The table, line by line, in columns that are as wide as they need to be."""
    cells = [_HEADINGS, *(tuple(row.values()) for row in rows(compared))]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()


def _signed(difference: Estimate | None) -> str:
    if difference is None:
        return "-"
    return f"{difference.value:+.4f} [{difference.low:+.4f}, {difference.high:+.4f}]"
