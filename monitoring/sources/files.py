"""Windows of files of raw applications, through the model's own transformer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from features import open_file
from monitoring.drift import Window
from monitoring.errors import SourceError
from scoring import Scorer

_ROWS_PER_BATCH = 20_000


@dataclass(frozen=True, slots=True)
class FileWindow:
    """The window of a file, and how many rows break each declared rule.

    Such rows are counted like the others, although the service would have refused them: they are what a broken feed
    looks like.
    """

    window: Window
    broken_rules: dict[str, int]


def window_of_file(path: Path, scorer: Scorer, progress: Callable[[int], object] = lambda _: None) -> FileWindow:
    """The window of a .csv or .parquet file of raw applications; SourceError if it has no rows."""
    windows = None
    broken: Counter[str] = Counter()
    for batch in open_file(path).batches(_ROWS_PER_BATCH):
        matrix = scorer.transformer.transform(batch.columns)
        window = Window.of(scorer.artefact.reference, matrix, scorer.score_matrix(matrix).probability)
        windows = window if windows is None else windows + window
        for violation in batch.violations:
            broken[f"{violation.column}: {violation.rule}"] += violation.count
        progress(len(batch))
    if windows is None:
        raise SourceError(f"{path}: has no rows")
    return FileWindow(windows, dict(broken.most_common()))
