"""A fitted model outlives the tracking server that was to take it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import mlflow
import pytest
import yaml

from tests.home_credit import PORTFOLIO
from tests.server import free_port
from training.cli import main
from training.dataset import load_dataset
from training.errors import RegistryError, TrackingError
from training.registry.fitted import place_of_fitted, run_of_fitted
from training.registry.registry import OUT_OF_FOLD, find
from training.registry.tracking import tracked_run
from training.run import Delivered, track
from training.settings import TrainingSettings

_DEADLINE = 600


@pytest.fixture(autouse=True)
def _same_tracking(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The tests' own tracking is back afterwards, and nothing is asked again and again."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    before = mlflow.get_tracking_uri()
    yield
    mlflow.set_tracking_uri(before)
    mlflow.set_registry_uri(before)


@contextmanager
def tracking_server(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """MLflow's own server, which keeps everything in a folder."""
    command = [sys.executable, "-m", "mlflow", "server", "--host=127.0.0.1", f"--port={port}", "--workers=1"]
    command += [f"--backend-store-uri=sqlite:///{folder}/mlflow.db", f"--artifacts-destination={folder}/artifacts"]
    with (folder / "log").open("a") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + _DEADLINE
        while not _answers(port):
            assert time.monotonic() < deadline
            assert process.poll() is None, (folder / "log").read_text()
            time.sleep(0.1)
        yield process
    finally:
        process.terminate()
        process.wait(_DEADLINE)


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health", timeout=_DEADLINE).is_success
    except httpx.TransportError:
        return False


def test_a_server_that_dies_at_the_end_takes_no_model_with_it(
    generated: Path,
    delivered: Delivered,
    settings: TrainingSettings,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    port, dataset = free_port(), load_dataset(generated, PORTFOLIO)
    tracking = settings.tracking.model_copy(update={"uri": f"http://127.0.0.1:{port}", "model": "late_model"})
    own = settings.model_copy(update={"tracking": tracking})
    file = tmp_path / "training.yaml"
    file.write_text(yaml.safe_dump(own.model_dump(mode="json")))
    runs: list[str] = []

    def train_while_the_server_dies() -> None:
        with tracking_server(tmp_path, port) as server, tracked_run(tracking, name="late") as run:
            runs.append(run)
            server.terminate()
            server.wait(_DEADLINE)
            track(dataset, delivered.trained, own, run_id=run)

    with pytest.raises(TrackingError) as lost:
        train_while_the_server_dies()
    (run,) = runs
    folder = place_of_fitted() / run
    assert str(lost.value).startswith("the model is fitted, but was not registered (API request to ")
    assert str(lost.value).endswith(f"): `python -m training register {folder}` does it")
    assert (folder.stat().st_mode & 0o077, folder.parent.stat().st_mode & 0o077) == (0, 0)
    command = ["register", str(folder), "--settings", str(file)]
    assert main(command) == 1
    assert "no MLflow tracking there" in capsys.readouterr().err
    with tracking_server(tmp_path, port):
        assert main(command) == 0
        assert capsys.readouterr().out.endswith("late_model version 1 is challenger\n")  # after MLflow's own links
        registered = find("late_model", "@challenger")
        kept = mlflow.MlflowClient()
        assert (registered.run_id, kept.get_run(run).info.status) == (run, "FINISHED")
        assert kept.get_run(run).data.metrics["auc"] == pytest.approx(delivered.trained.evaluation["auc"].value)
        assert {file.path for file in kept.list_artifacts(run)} >= {"report.html", "figures", "settings.json"}
        assert [file.path for file in kept.list_artifacts(run, "evaluation")] == [OUT_OF_FOLD]
    assert not folder.exists()
    assert main(command) == 1
    said = f"error: {folder}: holds no fitted model that `python -m training run` left there\n"
    assert capsys.readouterr().err == said


def test_what_cannot_be_logged_is_kept_and_an_altered_one_refused(
    generated: Path, delivered: Delivered, settings: TrainingSettings, tmp_path: Path
) -> None:
    """The folder of the run's files has become a file."""
    tracking = settings.tracking.model_copy(update={"uri": f"sqlite:///{tmp_path}/kept/mlflow.db", "model": "m"})
    own = settings.model_copy(update={"tracking": tracking})
    with tracked_run(tracking, name="full") as run:
        (tmp_path / "kept" / "artifacts").write_text("")
        with pytest.raises(TrackingError, match=r"^the model is fitted, but was not registered \("):
            track(load_dataset(generated, PORTFOLIO), delivered.trained, own, run_id=run)
    folder = place_of_fitted() / run
    assert run_of_fitted(folder) == run
    (folder / "artefact" / "policy.json").write_text("{}")
    with pytest.raises(RegistryError, match="altered since it was written"):
        run_of_fitted(folder)


@pytest.mark.parametrize("content", [None, "", "[]", "{", '{"run_id": "1"}', "[" * 100_000])
def test_a_folder_that_holds_no_fitted_model_is_named(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(RegistryError, match=f"^{tmp_path}: holds no fitted model that "):
        run_of_fitted(tmp_path)
