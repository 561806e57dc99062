"""A service that decides nothing which it cannot record: it says so, is not ready, and goes on by itself."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from decision_log.segments import Listing, read_lines
from tests.home_credit import EXAMPLE
from tests.server import ROOT, Server, serve_with
from training.run import Delivered

KEY = "0123456789abcdef" * 4


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def environment(tmp_path: Path, log: Path) -> dict[str, str]:
    settings = yaml.safe_load((ROOT / "configs" / "monitoring.yaml").read_text())
    settings["recording"]["log"]["on_failure"] = "refuse"
    (tmp_path / "monitoring.yaml").write_text(yaml.safe_dump(settings))
    return {
        "CREDIT_SCORING_MONITORING": str(tmp_path / "monitoring.yaml"),
        "DECISION_LOG_DIR": str(log),
        "DECISION_LOG_KEY": KEY,
    }


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 600
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def decided(server: Server, name: str) -> int:
    return httpx.post(f"{server.url}/predict", json=EXAMPLE, headers={"X-Request-ID": name}).status_code


def recorded(log: Path) -> set[str]:
    return {line["request_id"] for path in Listing.of(log).open for line in read_lines(path)}


def test_a_service_that_refuses_what_it_cannot_record_is_not_ready_until_it_can(
    delivered: Delivered, tmp_path: Path, log: Path, environment: dict[str, str]
) -> None:
    with serve_with(tmp_path, {"model": delivered.tag}, environment) as server:
        assert decided(server, "before") == 200
        log.rename(tmp_path / "away")
        log.touch()  # a file is in the way of the folder that the service would make
        eventually(lambda: decided(server, "refused") == 503)
        eventually(lambda: httpx.get(f"{server.url}/readyz").status_code == 503)
        answer = httpx.get(f"{server.url}/readyz")
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["detail"] == "The service is not ready: the decision log cannot be written (io)."
        assert httpx.get(f"{server.url}/livez").status_code == 200  # a restart would mend nothing
        log.unlink()
        eventually(lambda: httpx.get(f"{server.url}/readyz").status_code == 200)
        assert decided(server, "after") == 200
        assert "after" in recorded(log)
        server.process.terminate()
        assert server.process.wait(600) == 0


@pytest.fixture
def read_only(log: Path) -> Iterator[Path]:
    """The folder of the log, which can be read only, by root as well."""
    log.mkdir()
    if os.geteuid() != 0:
        log.chmod(0o500)
        yield log
        log.chmod(0o700)
        return
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,size=64k", "tmpfs", str(log)], check=False)
    if mounted.returncode:
        pytest.skip("root may write everywhere, and may not mount here: `docker run --cap-add SYS_ADMIN`")
    yield log
    subprocess.run(["umount", str(log)], check=True)


@pytest.mark.usefixtures("read_only")
def test_a_log_folder_that_can_only_be_read_is_one_line_at_the_start(
    delivered: Delivered, tmp_path: Path, log: Path, environment: dict[str, str]
) -> None:
    with (
        pytest.raises(RuntimeError) as failed,
        serve_with(tmp_path, {"model": delivered.tag}, environment),
    ):
        pass
    said = [line for line in str(failed.value).splitlines() if str(log) in line]
    assert len(said) == 1
    assert "no decision log can be kept there" in said[0]
    assert "Traceback" not in str(failed.value)
