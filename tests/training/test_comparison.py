"""The command that compares recorded decisions with those of a registered version, or of a shadow."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from features.drawing import draw_legal
from scoring.store import StoredModel
from tests.monitoring.recording import Worker
from tests.monitoring.test_closing import LATER
from training.cli import main
from training.run import Delivered
from training.settings import TrainingSettings

ROWS = 40


@pytest.fixture(scope="module")
def log(stored: StoredModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of 40 decisions, and the same in its folder of shadows."""
    folder = tmp_path_factory.mktemp("compared")
    scorer = stored.scorer
    matrix = scorer.transformer.transform(draw_legal(scorer.artefact.portfolio, ROWS, seed=3))
    for number, place in enumerate((folder / "log", folder / "log" / "shadow")):
        worker = Worker(stored, folder / f"counts{number}", place, now=LATER.timestamp())
        worker.record(ROWS, matrix)
        worker.recorder.close()
    return folder / "log"


@pytest.fixture
def words(log: Path, settings: TrainingSettings, tmp_path: Path) -> list[str]:
    path = tmp_path / "training.yaml"
    path.write_text(yaml.safe_dump(settings.model_dump(mode="json")))
    # MLflow keeps the tracking of the last test in the environment, where the command would find it.
    return ["compare", "--log", str(log), "--settings", str(path), "--tracking-uri", settings.tracking.uri]


def test_a_version_of_the_registry_is_compared_as_that_of_the_store(
    words: list[str], delivered: Delivered, stored: StoredModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tag = f"{stored.name}:{stored.version}"
    for number, version in enumerate((delivered.registered.version, "@champion", tag)):
        assert main([*words, "--version", version, "--output", str(tmp_path / f"found{number}")]) == 0
        told = capsys.readouterr().out.splitlines()
        assert told[-1] == f"{ROWS} of {ROWS} decisions compared with {tag}; 0 change"
    first, *others = (json.loads((tmp_path / f"found{number}" / "comparison.json").read_text()) for number in range(3))
    assert others == [first, first]
    assert (first["amount"], first["bands"][-1]["mean"]) == ("AMT_CREDIT", 0.0)
    assert "<svg" in (tmp_path / "found0" / "comparison.html").read_text()


def test_a_shadow_is_joined_with_and_without_a_version(
    words: list[str], log: Path, delivered: Delivered, stored: StoredModel, capsys: pytest.CaptureFixture[str]
) -> None:
    for version in ([], ["--version", delivered.registered.version]):
        assert main([*words, "--shadow", str(log / "shadow"), *version]) == 0
        told = capsys.readouterr().out.splitlines()
        assert told[-1] == f"{ROWS} of {ROWS} decisions compared with {stored.name}:{stored.version}; 0 change"


def test_wrong_input_is_one_line_and_leaves_nothing(
    words: list[str], delivered: Delivered, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    version, output = ["--version", delivered.registered.version], tmp_path / "found"
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    for arguments, code, said in (
        ([], 2, "one of --version and --shadow is required"),
        ([*version, "--amount", "nothing"], 1, "--amount nothing: no recorded vector has this feature"),
        ([*version, "--groups", str(tmp_path / "no.csv")], 1, "no.csv: "),
        (["--version", "99"], 1, "99: not in the registry (RESOURCE_DOES_NOT_EXIST)"),
        ([*version, "--until", "2000-01-01"], 1, "no decision of this time"),
    ):
        assert main([*words, *arguments, "--output", str(output)]) == code
        assert said in capsys.readouterr().err.splitlines()[-1]
        assert not output.exists()
    assert main([*words, *version, "--output", str(tmp_path / "full")]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == f"error: {tmp_path / 'full'}: exists already"
