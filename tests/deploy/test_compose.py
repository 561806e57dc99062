"""What deploy/compose promises."""

from __future__ import annotations

import http.server
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import httpx
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


def test_the_service_reads_the_feature_store_from_the_file_that_the_shell_names_and_else_has_none() -> None:
    environment, secrets = SERVICES["service"]["environment"], SERVICES["service"]["secrets"]
    assert environment["FEATURE_STORE_FILE"] == "${FEATURE_STORE_FILE:+/run/secrets/feature_store}"
    assert "feature_store" in secrets
    assert COMPOSE["secrets"]["feature_store"] == {"file": "${FEATURE_STORE_FILE:-/dev/null}"}
    assert "FEATURE_STORE" not in environment


def test_the_database_and_the_watchers_have_no_way_out_but_by_published_ports() -> None:
    assert {name for name, network in COMPOSE["networks"].items() if not (network or {}).get("internal")} == {"callers"}
    assert SERVICES["postgres"]["networks"] == ["records"]


def test_only_the_proxy_that_asks_for_a_password_reaches_mlflow() -> None:
    beside = {name for name in SERVICES if set(SERVICES[name]["networks"]) & set(SERVICES["mlflow"]["networks"])}
    assert beside == {"mlflow", "postgres", "tracking"}
    assert "ports" not in SERVICES["mlflow"]
    assert COMPOSE["networks"]["tracking"] == {"internal": True}


class _Upstream(http.server.BaseHTTPRequestHandler):
    """In MLflow's place: keeps what reaches it."""

    protocol_version = "HTTP/1.1"
    reached: ClassVar[list[tuple[str | None, str | None, int]]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.reached.append((self.headers["Host"], self.headers["Authorization"], len(body)))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def _proxy(folder: Path, upstream: int) -> Iterator[int]:
    """Compose's nginx with this machine's places; the password is "right"."""
    port = free_port()
    hashed = subprocess.run(["openssl", "passwd", "-6", "right"], check=True, capture_output=True, text=True).stdout
    (folder / "logins").write_text(f"training:{hashed}")
    text = (FOLDER / "tracking.conf").read_text()
    for composed, own in (
        ("/tmp/", f"{folder}/"),  # noqa: S108 - a tmpfs of the container
        ("/run/secrets/tracking_logins", str(folder / "logins")),
        ("listen 5000", f"listen 127.0.0.1:{port}"),
        ("http://mlflow:5000", f"http://127.0.0.1:{upstream}"),
    ):
        assert composed in text
        text = text.replace(composed, own)
    (folder / "nginx.conf").write_text(f"{'user root;' if os.geteuid() == 0 else ''}\n{text}")
    command = ["nginx", "-e", str(folder / "early.log"), "-c", str(folder / "nginx.conf"), "-g", "daemon off;"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        _wait_for(port, process)
        yield port
    finally:
        process.terminate()
        process.wait(600)


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError("nginx does not listen")


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
def test_every_request_to_mlflow_needs_the_password(tmp_path: Path) -> None:
    """A model's file of 20 MB too, which MLflow gets whole and without the password."""
    _Upstream.reached.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Upstream)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with _proxy(tmp_path, server.server_address[1]) as port:
            address = f"http://127.0.0.1:{port}/api/2.0/mlflow-artifacts/artifacts/model.txt"
            for login in (None, ("training", "wrong"), ("training", ""), ("other", "right")):
                for path in (address, f"http://127.0.0.1:{port}/health", f"http://127.0.0.1:{port}//static-files"):
                    assert httpx.post(path, content=b"x", auth=login, timeout=600).status_code == 401
            assert _Upstream.reached == []
            answer = httpx.post(address, content=bytes(20_000_000), auth=("training", "right"), timeout=600)
            assert answer.status_code == 200
            assert _Upstream.reached == [(f"127.0.0.1:{port}", None, 20_000_000)]
    finally:
        server.shutdown()
        server.server_close()


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
            assert _asked(port, "tracking:5000", server) == 200
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
