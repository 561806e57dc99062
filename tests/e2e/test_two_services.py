"""Several services of one user, in one BentoML home: what one does leaves the metrics and counts of another whole."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.home_credit import EXAMPLE
from tests.server import ROOT, Server, free_port, serve_with
from training.run import Delivered

ASKED = 3


@pytest.fixture(scope="module")
def first(delivered: Delivered, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serve_with(tmp_path_factory.mktemp("first"), {"model": delivered.tag}) as running:
        for _ in range(ASKED):
            assert httpx.post(f"{running.url}/predict", json=EXAMPLE).status_code == 200
        yield running


def decided(server: Server) -> int:
    """How many decisions the metrics of a service tell of."""
    answer = httpx.get(f"{server.url}/metrics")
    assert answer.status_code == 200
    told = re.findall(r"^credit_scoring_decisions_total{.*} (\S+)$", answer.text, re.MULTILINE)
    return round(sum(map(float, told)))


def whole(server: Server, expected: int) -> None:
    """The service tells of all that it has decided, and is ready."""
    assert decided(server) == expected
    drift = httpx.get(f"{server.url}/drift")
    assert (drift.status_code, drift.json()["rows"]) == (200, expected)
    assert httpx.get(f"{server.url}/readyz").status_code == 200


def folders(home: Path) -> list[Path]:
    return sorted((home / "credit_scoring_services").iterdir())


def own(home: Path, server: Server) -> list[Path]:
    return [folder for folder in folders(home) if folder.name.startswith(f"{server.pid}-")]


def test_a_service_that_is_refused_leaves_another_whole(first: Server, home: Path) -> None:
    before = folders(home)
    command = [str(Path(sys.executable).with_name("bentoml")), "serve", ".", "--host", "0.0.0.0"]  # noqa: S104 - it is refused
    refused = subprocess.run(
        [*command, "--port", str(free_port())], cwd=ROOT, check=False, capture_output=True, text=True, timeout=60
    )
    assert refused.returncode == 1
    assert "listens on loopback only" in refused.stderr
    whole(first, ASKED)
    assert folders(home) == before


def test_a_service_that_starts_and_stops_leaves_another_whole(
    first: Server, delivered: Delivered, home: Path, tmp_path: Path
) -> None:
    with serve_with(tmp_path, {"model": delivered.tag}) as second:
        httpx.post(f"{second.url}/predict", json=EXAMPLE)
        whole(second, 1)
        whole(first, ASKED)
        assert len(own(home, second)) == 1
    assert own(home, second) == []
    whole(first, ASKED)


def test_a_service_that_is_killed_leaves_another_whole_and_is_cleaned_up_after(
    first: Server, delivered: Delivered, home: Path, tmp_path: Path
) -> None:
    with serve_with(tmp_path, {"model": delivered.tag}) as second:
        (left,) = own(home, second)
        children = subprocess.run(["pgrep", "-P", str(second.pid)], check=True, capture_output=True, text=True).stdout
        for pid in (second.pid, *map(int, children.split())):
            os.kill(pid, signal.SIGKILL)
        second.process.wait(30)
    whole(first, ASKED)
    assert left.exists()
    third_folder = tmp_path / "third"
    third_folder.mkdir()
    with serve_with(third_folder, {"model": delivered.tag}):
        assert not left.exists()
        whole(first, ASKED)


def test_workers_keep_their_folder_when_their_parent_is_killed(
    delivered: Delivered, home: Path, tmp_path: Path
) -> None:
    """They go on answering on the port: another service must not take their metrics from them."""
    with serve_with(tmp_path, {"model": delivered.tag}) as orphaned:
        (folder,) = own(home, orphaned)
        children = subprocess.run(["pgrep", "-P", str(orphaned.pid)], check=True, capture_output=True, text=True).stdout
        os.kill(orphaned.pid, signal.SIGKILL)
        orphaned.process.wait(30)
        try:
            other = tmp_path / "other"
            other.mkdir()
            with serve_with(other, {"model": delivered.tag}):
                assert folder.exists()
                whole(orphaned, 0)
        finally:
            for pid in map(int, children.split()):
                os.kill(pid, signal.SIGKILL)


def test_what_empties_bentomls_folder_does_not_concern_the_service(first: Server, home: Path) -> None:
    from bentoml.serving import ensure_prometheus_dir

    ensure_prometheus_dir(str(home / "prometheus_multiproc_dir"))
    whole(first, ASKED)


def test_a_file_that_is_none_does_not_hide_what_the_others_hold(first: Server, home: Path) -> None:
    (folder,) = own(home, first)
    (folder / "counter_foreign.db").write_bytes(b"\xff" * 4096)
    (folder / "gauge_livesum_foreign.db").mkdir()
    (counts,) = folder.glob("counts-*")
    (counts / "foreign.counts").write_bytes(b"none")
    (counts / "window.json").write_text("{")
    whole(first, ASKED)
    told = httpx.get(f"{first.url}/metrics").text
    (failures,) = re.findall(r'^credit_scoring_thread_failures_total{thread="metrics"} (\S+)$', told, re.MULTILINE)
    assert float(failures) > 0
    assert "credit_scoring_model_info{" in told


def test_a_service_whose_metrics_are_gone_says_that_it_is_not_ready(
    delivered: Delivered, home: Path, tmp_path: Path
) -> None:
    with serve_with(tmp_path, {"model": delivered.tag}) as blinded:
        (folder,) = own(home, blinded)
        folder.rename(away := folder.with_name("away"))
        answer = httpx.get(f"{blinded.url}/readyz")
        assert (answer.status_code, answer.json()["detail"]) == (
            503,
            "The service is not ready: the files of its metrics are gone.",
        )
        assert httpx.get(f"{blinded.url}/livez").status_code == 200
        away.rename(folder)
        assert httpx.get(f"{blinded.url}/readyz").status_code == 200
