"""`python -m training` where something is in its way: one line, an exit code, nothing left behind."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from tests.features.examples import ROOT
from tests.server import unmeasured
from training.cli import main
from training.errors import TrackingError
from training.registry import commands
from training.registry.tracking import commit, connect, scratch, tracked_run
from training.search_settings import secrets_of, without_credentials
from training.settings import TrackingSettings

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


def test_a_database_in_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    address = f"sqlite:///{tmp_path}/file/mlflow.db"
    with pytest.raises(TrackingError) as refused:
        connect(TrackingSettings(uri=address, experiment="e", model="m"), make=True)
    said = f"{address}: no MLflow tracking there ([Errno 17] File exists: '{tmp_path / 'file'}')"
    assert str(refused.value) == said


@pytest.mark.parametrize("command", [["list"], ["rollback"], ["import"], ["promote"], ["report", "--output", "r.html"]])
def test_a_command_that_reads_makes_no_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    address = f"sqlite:///{tmp_path}/typo/mlflow.db"
    assert main([*command, "--tracking-uri", address]) == 1
    assert capsys.readouterr().err == f"error: {address}: no such database; `python -m training run` makes one\n"
    assert list(tmp_path.iterdir()) == []


def test_a_registry_without_a_model_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    address = ["--tracking-uri", f"sqlite:///{tmp_path}/mlflow.db"]
    connect(TrackingSettings(uri=address[1], experiment="e", model="m"), make=True)
    assert main(["list", *address]) == 0
    assert capsys.readouterr().out == "credit_scoring_production_model: nothing is registered\n"
    for command in ("rollback", "import"):
        assert main([command, *address]) == 1
        assert capsys.readouterr().err == "error: credit_scoring_production_model: no version was promoted\n"


def test_an_address_that_sqlalchemy_does_not_know_is_corrected(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--tracking-uri", "postgres://me:hunter2@host/mlflow"]) == 1
    assert capsys.readouterr().err == "error: postgres://host/mlflow: write postgresql:// for PostgreSQL\n"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://bob:hunter2@host/db", "postgresql://host/db"),
        ("postgresql://bob:hunt@er2@host/db", "postgresql://host/db"),
        ("postgresql://bob:hunt/er2@host/db", "postgresql://host/db"),
        ("postgresql://bob:hunt://er2@host/db", "postgresql://host/db"),
        ("postgresql://bob:hunt;er2@host/db", "postgresql://..."),
        ("postgresql://bob:hunt?er2@host/db", "postgresql://..."),
        ("postgresql://bob:hunt#er2@host/db", "postgresql://..."),
        ("postgresql://bob:hunt&er2@host/db", "postgresql://..."),
        ("postgresql://host/db?user=bob&password=hunt@er2", "postgresql://..."),
        ("postgresql://host/db?password=hunter2", "postgresql://host/db"),
        ("https://hunter2@host", "https://host"),
        ("https://host/p;token=hunter2", "https://host/p"),
        ("https://host/#token=hunter2", "https://host/"),
        ("sqlite:///a#b;c/mlflow.db", "sqlite:///a#b;c/mlflow.db"),
        ("mlruns", "mlruns"),
    ],
)
def test_an_address_is_shown_without_any_part_of_a_secret(address: str, shown: str) -> None:
    assert without_credentials(address) == shown


@pytest.mark.parametrize(
    ("address", "secret"),
    [
        ("postgresql://bob:hunter2@host/db", "hunter2"),
        ("postgresql://bob:p%40ss@host/db", "p@ss"),
        ("https://hunter2@host", "hunter2"),
        ("https://host/?token=hunter2", "hunter2"),
        ("https://host/#token=hunter2", "hunter2"),
        ("postgresql://bob:hunt?er2@host/db", "er2"),
        ("postgresql://bob:hunt?er2@host/db", "hunt"),
    ],
)
def test_every_form_of_a_secret_is_known(address: str, secret: str) -> None:
    assert secret in secrets_of(address)


def test_the_storage_of_trials_may_be_told_without_the_list_of_processes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CREDIT_SCORING_TUNING_STORAGE", "postgres://me:hunter2@host/trials")
    assert main(["tune"]) == 1
    assert capsys.readouterr().err == "error: --storage: Value error, write postgresql:// for PostgreSQL\n"


@pytest.mark.parametrize(
    ("address", "quoted"),
    [
        ("postgresql://bob:a@b@127.0.0.1:1/mlflow", "a@b@"),
        ("http://127.0.0.1:1/?token=hunter2", "hunter2"),
        ("postgresql://bob:hunter2?b@127.0.0.1:1/mlflow", "hunter2"),
        ("http://hunter2@127.0.0.1:1", "hunter2"),
        ("postgresql://127.0.0.1:1/mlflow?password=hunter2", "hunter2"),
    ],
)
def test_no_part_of_a_secret_is_quoted(address: str, quoted: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--tracking-uri", address]) == 1
    said = capsys.readouterr().err
    assert ("no MLflow tracking there" in said, quoted in said, "b@" in said) == (True, False, False)


def test_a_server_that_is_gone_in_the_middle_is_told_without_its_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(commands, "connect", lambda settings: mlflow.set_registry_uri(settings.uri))
    for address in ("http://me:hunter2@127.0.0.1:1", "http://127.0.0.1:1/?token=hunter2"):
        mlflow.set_tracking_uri(address)
        assert main(["list", "--tracking-uri", address]) == 1
        said = capsys.readouterr().err
        assert (said.startswith("error: MLflow: "), said.count("\n"), "hunter2" in said) == (True, 1, False)


def test_an_old_database_is_told_with_the_remedy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    address = f"sqlite:///{tmp_path}/mlflow.db"
    connect(TrackingSettings(uri=address, experiment="e", model="m"), make=True)
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")
    _forget_stores()
    assert main(["list", "--tracking-uri", address]) == 1
    assert "then run `mlflow db upgrade` with its address" in capsys.readouterr().err


def _forget_stores() -> None:
    """MLflow checks a database once in a process."""
    SqlAlchemyStore._engine_map.clear()
    mlflow.tracking._tracking_service.utils._tracking_store_registry._get_store_with_resolved_uri.cache_clear()
    mlflow.tracking._model_registry.utils._get_store_registry()._get_store_with_resolved_uri.cache_clear()


def test_without_git_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commit() is None


def test_a_project_that_was_moved_is_told_before_anything_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    with tracked_run(TrackingSettings(uri=f"sqlite:///{before}/mlflow.db", experiment="credit", model="m"), "first"):
        mlflow.log_text("kept", "kept.txt")
    before.rename(after)
    moved = TrackingSettings(uri=f"sqlite:///{after}/mlflow.db", experiment="credit", model="m")
    with (
        pytest.raises(TrackingError, match=f"in {before}/artifacts, which is not there: was the project moved"),
        tracked_run(moved, "second"),
    ):
        pytest.fail("it must not come so far")
    assert not before.exists()


def test_what_a_killed_training_leaves_is_ended_and_removed_by_the_next_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracking = TrackingSettings(uri=f"sqlite:///{tmp_path}/mlflow.db", experiment="credit", model="m")
    scratches = tmp_path / "a folder"
    scratches.mkdir()
    script = (
        "import sys, tempfile\n"
        "from training.registry.tracking import tracked_run\n"
        "from training.registry.tracking import scratch\n"
        "from training.settings import TrackingSettings\n"
        "settings = TrackingSettings(uri=sys.argv[1], experiment='credit', model='m')\n"
        "with scratch(), tracked_run(settings, 'killed') as run:\n"
        "    tempfile.mkdtemp()\n"
        "    print(run, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", script, tracking.uri]
    with subprocess.Popen(
        command, cwd=ROOT, env=unmeasured() | {"TMPDIR": str(scratches)}, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        run = process.stdout.readline().strip()
        (left,) = scratches.iterdir()
        monkeypatch.setattr(tempfile, "tempdir", str(scratches))
        with scratch() as own, tracked_run(tracking, "beside it"):
            assert sorted(scratches.iterdir()) == sorted([left, own])
        assert mlflow.get_run(run).info.status == "RUNNING"
        process.kill()
    assert list(scratches.iterdir()) == [left]
    with scratch() as own, tracked_run(tracking, "after it") as after:
        assert list(scratches.iterdir()) == [own]
        assert [mlflow.get_run(one).info.status for one in (run, after)] == ["KILLED", "RUNNING"]
    assert list(scratches.iterdir()) == []
    assert mlflow.get_run(after).info.status == "FINISHED"


def test_another_machine_s_run_is_not_ended(tmp_path: Path) -> None:
    tracking = TrackingSettings(uri=f"sqlite:///{tmp_path}/mlflow.db", experiment="credit", model="m")
    with tracked_run(tracking, "first") as first:
        pass
    for other in ("elsewhere mnt:[1] /gone", "/gone", ""):
        run = MlflowClient().create_run(mlflow.get_run(first).info.experiment_id, tags={"process": other})
        with tracked_run(tracking, "next"):
            assert mlflow.get_run(run.info.run_id).info.status == "RUNNING"


@pytest.mark.parametrize("option", [["--trials", "0"], ["--study", ""]])
def test_a_wrong_option_is_blamed_and_not_the_file(option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", *option]) == 1
    assert capsys.readouterr().err.startswith(f"error: {option[0]}: ")


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
