"""The wheel of the scorer, installed with only what it depends on."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

import numpy as np

from deploy.wheel import build_wheel
from features.transformer import Columns
from scoring.cluster import NOT_ON_EXECUTORS, PACKAGES
from scoring.store import StoredModel
from tests.server import ROOT

MODULES = sorted(
    name
    for package in PACKAGES
    for name in (file.relative_to(ROOT).as_posix() for file in (ROOT / package).glob("*.py"))
    if name not in NOT_ON_EXECUTORS
)
SCORE = """
import sys
import numpy as np
from pathlib import Path
from features.files import open_file
from scoring.store import load_folder

folder, applications, probabilities = sys.argv[1:]
model = load_folder(Path(folder))
portfolio = model.scorer.artefact.portfolio
scores = [model.scorer.score(batch.columns) for batch in open_file(Path(applications), portfolio).batches(150)]
np.save(probabilities, np.concatenate([one.probability for one in scores]))
print(model.version, *sorted({name.partition(".")[0] for name in sys.modules}))
"""


def run(python: Path, script: str, *words: str | Path, cwd: Path) -> list[str]:
    """What a script prints, run outside the checkout and without what the tests' environment variables name."""
    done = subprocess.run(
        [python, "-W", "error", "-c", script, *words],
        cwd=cwd,
        env={"LANG": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_the_same_sources_give_the_same_bytes(wheel: Path, tmp_path: Path) -> None:
    assert build_wheel(tmp_path).read_bytes() == wheel.read_bytes()


def test_it_holds_the_modules_that_score_and_no_others(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = sorted(name for name in archive.namelist() if name.endswith(".py"))
    assert held == MODULES
    assert all((ROOT / name).is_file() for name in NOT_ON_EXECUTORS)


def test_every_module_of_it_is_loaded_with_what_it_depends_on_alone(executor: Path, tmp_path: Path) -> None:
    names = [name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in MODULES]
    script = "import importlib, sys; print(*(importlib.import_module(name).__name__ for name in sys.argv[1:]))"
    assert run(executor, script, *names, cwd=tmp_path) == names


def test_it_scores_with_the_bits_of_the_checkout(
    executor: Path, folder: Path, labelled_csv: Path, applications: Columns, small: StoredModel, tmp_path: Path
) -> None:
    version, *loaded = run(executor, SCORE, folder, labelled_csv, tmp_path / "found.npy", cwd=tmp_path)
    found = np.load(tmp_path / "found.npy")
    assert version == small.version
    assert found.tobytes() == small.scorer.score(applications).probability.tobytes()
    assert not {"scipy", "pandas", "bentoml", "click", "lightgbm"} & set(loaded)
