"""What `python -m training tune` prints at its end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .search import Tuned


def tuning_lines(tuned: Tuned, written: Path) -> Iterator[str]:
    """The report, line by line; `written` is the file that holds the winner."""
    winner = tuned.parameters.winner
    yield f"{winner.trials} trials; the best has {winner.objective} {winner.value:.4f} on the folds that chose it:"
    for name, value in tuned.parameters.parameters.items():
        yield f"  {name:20} {value:g}"
    if tuned.nested is not None:
        nested = tuned.nested
        yield f"on rows that no trial saw, by the same search within {len(nested.kept)} outer folds:"
        promised, kept = np.mean(nested.promised), np.mean(nested.kept)
        yield f"  {winner.objective:20} {kept:.4f}, where the search promised {promised:.4f}"
        yield f"  {'optimism':20} {nested.optimism:+.4f}"
        yield f"  {'auc':20} {nested.auc}"
        yield f"  {'gain over settings':20} {nested.gain} AUC"
    yield f"written to {written}; use it with: python -m training run --params {written}"
