"""Labelled data whose column `code` tells the sex of applicants and, beside it, a little about default."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit

from tests.features.examples import ROOT
from training.dataset import Dataset, load_dataset
from training.settings import TrainingSettings

_PORTFOLIO = """name: planted
identity: {column: id, kind: whole}
outcome: {column: bad, bad: ["1"], good: ["0"]}
files: {train: planted}
columns:
  sex: {kind: category, levels: [F, M], protected: sex}
  burden: {kind: number, low: -10, high: 10}
  strain: {kind: number, low: -10, high: 10}
  code: {kind: number, low: -10, high: 10}
features:
  derived:
    code_twice: {is: "code * 2", description: "Twice the code"}
training:
  policy: {cost_fn: 3.0, cost_fp: 1.0, refer_band: 0.0}
"""


def planted(folder: Path, *, clients: int) -> tuple[Dataset, TrainingSettings]:
    """Data of so many clients, half of them F, whom `code` gives away; the data lie in `folder`."""
    random = np.random.default_rng(4)
    female = np.arange(clients) % 2 == 0
    burden, strain = random.normal(size=clients), random.normal(size=clients)
    code = female + random.normal(scale=0.25, size=clients)
    bad = random.random(clients) < expit(-1.5 + 1.1 * burden + 1.1 * strain + 1.2 * female)
    rows = [
        f"{i},{'F' if female[i] else 'M'},{burden[i]:.4f},{strain[i]:.4f},{code[i]:.4f},{int(bad[i])}"
        for i in range(clients)
    ]
    (folder / "planted.csv").write_text("\n".join(["id,sex,burden,strain,code,bad", *rows]) + "\n")
    (folder / "portfolio.yaml").write_text(_PORTFOLIO)
    loaded = TrainingSettings.load(ROOT / "configs" / "training.yaml", folder)
    levers = {"seeds": 2, "proxies": 2, "monotone": 0, "parameters": False, "reweighing": False}
    settings = settings_of(
        loaded,
        model={
            "folds": 3,
            "max_trees": 150,
            "early_stopping": {"share": 0.2, "rounds": 20},
            "parameters": {"learning_rate": 0.1},
        },
        alternatives={"trials": 4, "resamples": 50, "points": 4, "processes": 1, "ratios": [0.9], "levers": levers},
        evaluation={"resamples": 20},
        tracking={"uri": f"sqlite:///{folder}/mlflow.db"},
    )
    return load_dataset(folder, settings.declared), settings


def settings_of(settings: TrainingSettings, **changes: dict[str, Any]) -> TrainingSettings:
    """The settings with some values of some parts changed."""
    values = settings.model_dump(mode="json")
    for part, changed in changes.items():
        values[part] |= changed
    return TrainingSettings.checked(values, Path("training.yaml"))
