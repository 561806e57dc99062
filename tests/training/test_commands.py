"""`python -m training` where something is in its way: one line, an exit code, nothing left behind."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import pytest

from tests.features.examples import ROOT
from tests.server import unmeasured
from training.cli import main

_DEADLINE = 600


@pytest.fixture(autouse=True)
def _same_tracking(monkeypatch: pytest.MonkeyPatch) -> object:
    """The tests' own tracking is back afterwards."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    before = mlflow.get_tracking_uri()
    yield
    mlflow.set_tracking_uri(before)
    mlflow.set_registry_uri(before)


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("http://127.0.0.1:1", "API request to "),
        ("http://me:hunter2@127.0.0.1:1", "API request to "),
        ("nosuch://server", "Model registry functionality is unavailable; "),
        ("mysql+nodriver://me:hunter2@127.0.0.1:1/mlflow", "Can't load plugin: sqlalchemy.dialects:mysql.nodriver"),
        ("mlruns", "The filesystem tracking backend "),
    ],
)
def test_an_address_without_mlflow_is_named_without_its_password(
    address: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["list", "--tracking-uri", address]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: {address.replace('me:hunter2@', '')}: no MLflow tracking there ({reason}")
    assert (said.count("\n"), "hunter2" in said) == (1, False)


def test_a_database_in_a_folder_that_cannot_be_made_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("mine")
    address = f"sqlite:///{tmp_path}/file/mlflow.db"
    assert main(["list", "--tracking-uri", address]) == 1
    said = capsys.readouterr().err
    assert said == f"error: {address}: no MLflow tracking there ([Errno 17] File exists: '{tmp_path / 'file'}')\n"


def test_a_registry_without_a_model_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    address = ["--tracking-uri", f"sqlite:///{tmp_path}/mlflow.db"]
    assert main(["list", *address]) == 0
    assert capsys.readouterr().out == "credit_scoring_production_model: nothing is registered\n"
    for command, said in (
        (["rollback"], "error: credit_scoring_production_model: no version was promoted\n"),
        (["import"], "error: credit_scoring_production_model: no version was promoted\n"),
    ):
        assert main([*command, *address]) == 1
        assert capsys.readouterr().err == said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_one_line_and_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-m", "training", "synthesize", "--clients", "1000000"]
    command += ["--output", str(tmp_path / "deep" / "data")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wait_for_tables(tmp_path / "deep")
        process.send_signal(number)
        _, said = process.communicate(timeout=_DEADLINE)
    assert process.returncode == 128 + number
    assert said.splitlines() == ["clients ...", f"stopped by {number.name}"]
    assert list(tmp_path.iterdir()) == []


def wait_for_tables(folder: Path) -> None:
    """Until the generator has begun to write."""
    end = time.monotonic() + _DEADLINE
    while not list(folder.glob(".data-*/application_train.csv")):
        assert time.monotonic() < end, "the generator does not begin"
        time.sleep(0.01)


def test_a_disk_that_takes_no_more_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    script = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000));"
        "from training.cli import main; sys.exit(main())"
    )
    output = tmp_path / "data"
    command = [sys.executable, "-B", "-c", script, "synthesize", "--clients", "200", "--output", str(output)]
    answer = subprocess.run(command, cwd=ROOT, env=unmeasured(), check=False, capture_output=True, text=True)
    assert answer.returncode == 1
    assert answer.stderr.splitlines()[-1] == f"error: {output}: cannot be written (File too large)"
    assert list(tmp_path.iterdir()) == []
