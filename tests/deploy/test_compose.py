"""What deploy/compose promises."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import postgres
from tests.server import free_port

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "compose"
COMPOSE: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
HARDENED = {
    "read_only": True,
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges:true"],
    "pids_limit": 200,
    "restart": "unless-stopped",
}
every_service = pytest.mark.parametrize("name", sorted(SERVICES))


@every_service
def test_a_service_is_hardened(name: str) -> None:
    assert {key: SERVICES[name].get(key) for key in HARDENED} == HARDENED
    assert {"mem_limit", "cpus"} <= set(SERVICES[name])
    assert "privileged" not in SERVICES[name]


@every_service
def test_an_image_has_a_version_or_is_made_here(name: str) -> None:
    image = SERVICES[name]["image"]
    made_here = "build" in SERVICES[name] or "credit-scoring:" in image
    assert made_here or re.fullmatch(r"[\w./-]+:v?\d+\.\d+[\w.-]*(@sha256:[0-9a-f]{64})?", image)


@every_service
def test_ports_are_on_loopback(name: str) -> None:
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", []))


@every_service
def test_a_secret_is_a_file_and_never_a_variable(name: str) -> None:
    environment = SERVICES[name].get("environment", {})
    secret = {key: value for key, value in environment.items() if re.search("PASSWORD|_KEY(_|$)|TOKEN", key)}
    assert all(key.endswith("_FILE") for key in secret)
    files = {value for value in environment.values() if str(value).startswith("/run/secrets/")}
    given = {one if isinstance(one, str) else one["source"] for one in SERVICES[name].get("secrets", [])}
    assert {Path(file).name for file in files} <= given <= COMPOSE["secrets"].keys()


def test_the_database_and_the_watchers_have_no_way_out_but_by_published_ports() -> None:
    assert {name for name, network in COMPOSE["networks"].items() if not (network or {}).get("internal")} == {"callers"}
    assert SERVICES["postgres"]["networks"] == ["records"]


def mounted() -> list[str]:
    volumes = [volume.partition(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])]
    return sorted({volume for volume in volumes if volume.startswith(".")})


@pytest.mark.parametrize("path", mounted())
def test_what_is_mounted_exists(path: str) -> None:
    assert (FOLDER / path).exists()


@pytest.mark.parametrize(
    ("own", "original"),
    [
        ("prometheus.yml", "deploy/prometheus/prometheus.yml"),
        ("datasource.yml", "deploy/grafana/provisioning/datasources/prometheus.yml"),
    ],
)
def test_addresses_and_the_key_are_all_that_differs_from_the_original(own: str, original: str) -> None:
    text = (FOLDER / own).read_text()
    for name, port in (("service", 3000), ("alertmanager", 9093), ("prometheus", 9090)):
        text = text.replace(f"{name}:{port}", f"127.0.0.1:{port}")
    content = yaml.safe_load(text)
    for job in content.get("scrape_configs", []):
        assert job.pop("authorization") == {"type": "Bearer", "credentials_file": "/run/secrets/prometheus_key"}
    assert content == yaml.safe_load((ROOT / original).read_text())


PROGRAMS = postgres.installed()


@pytest.mark.skipif(
    PROGRAMS is None or "REHEARSE" not in os.environ,
    reason="`make compose-check` runs it, where PostgreSQL is installed",
)
def test_mlflow_starts_as_it_is_composed_and_answers_to_its_name_alone(tmp_path: Path) -> None:
    assert PROGRAMS is not None
    port = free_port()
    with postgres.running(PROGRAMS) as address:
        command = _composed(address, port, tmp_path)
        with (tmp_path / "log").open("w") as log:
            server = subprocess.Popen(command, cwd=tmp_path, env=os.environ, stdout=log, stderr=log)
        try:
            assert _asked(port, "mlflow:5000", server) == 200
            assert _asked(port, "elsewhere:5000", server) == 403
        finally:
            server.terminate()
            server.wait(600)


def _composed(address: str, port: int, folder: Path) -> list[str]:
    """MLflow's command with this machine's places."""
    own = {
        "--host": "127.0.0.1",
        "--port": str(port),
        "--backend-store-uri": address.replace("postgresql:", "postgresql+psycopg:"),
        "--artifacts-destination": str(folder),
    }
    _, *words = SERVICES["mlflow"]["command"]
    pairs = [word.partition("=") for word in words]
    options = [f"{name}={own[name]}" if name in own else f"{name}{equals}{value}" for name, equals, value in pairs]
    return [sys.executable, "-m", "mlflow", *options, "--workers=1"]


def _asked(port: int, host: str, server: subprocess.Popen[bytes]) -> int:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/get?experiment_id=0")
    request.add_header("Host", host)
    deadline = time.monotonic() + 1200
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(request) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.2)
    raise AssertionError("MLflow does not answer")
