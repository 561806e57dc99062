"""The report of a model and its figures, as files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from scoring import REPORT, Artefact
from training.data import Dataset
from training.fitting import TrainedModel
from training.settings import TrainingSettings

from .drawing import write_png
from .figures import model_figures
from .model_report import model_report


def write_report(
    folder: Path, dataset: Dataset, trained: TrainedModel, artefact: Artefact, settings: TrainingSettings
) -> Path:
    """Write the report into `folder`, and its figures as PNG into `figures` in it; the file of the report."""
    drawn = model_figures(dataset.target, trained, settings)
    (folder / "figures").mkdir()
    write_figures(folder / "figures", drawn)
    report = folder / REPORT
    report.write_text(model_report(dataset, trained, artefact, settings, drawn=drawn), encoding="utf-8")
    return report


def write_figures(folder: Path, drawn: Mapping[str, Figure]) -> None:
    """Write each figure as a PNG file of its name."""
    for name, figure in drawn.items():
        write_png(figure, folder / f"{name}.png")
