"""Prometheus and Alertmanager for tests: real ones on loopback, stopped by their pid."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from deploy.observability.settings import Duration
from tests.server import free_port

_START_SECONDS = 600
_STOP_SECONDS = 600


@dataclass(frozen=True)
class Prometheus:
    """A Prometheus that answers queries."""

    url: str

    def query(self, expr: str) -> list[dict[str, Any]]:
        """The samples of an instant query; AssertionError if it is not PromQL."""
        answer = httpx.post(f"{self.url}/api/v1/query", data={"query": expr}, timeout=30).json()
        assert answer["status"] == "success", f"{expr}: {answer['error']}"
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    def firing(self) -> set[str]:
        """The names of the alerts that fire now."""
        return {sample["metric"]["alertname"] for sample in self.query('ALERTS{alertstate="firing"}')}


@contextmanager
def prometheus(configuration: Path, folder: Path) -> Iterator[Prometheus]:
    """Prometheus with this configuration; `folder` takes its data and log."""
    port = free_port()
    command = [
        "prometheus", f"--config.file={configuration}", f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn",
        "--rules.alert.resend-delay=1s",  # alerts of the first seconds are lost: Alertmanager is not yet discovered
    ]  # fmt: skip
    with _running(command, f"http://127.0.0.1:{port}", folder / "prometheus.log"):
        yield Prometheus(f"http://127.0.0.1:{port}")


@contextmanager
def alertmanager(configuration: Path, folder: Path, address: str) -> Iterator[None]:
    """Alertmanager with this configuration, listening at `address`."""
    command = [
        "prometheus-alertmanager", f"--config.file={configuration}", f"--storage.path={folder / 'alertmanager'}",
        f"--web.listen-address={address}", "--cluster.listen-address=", "--log.level=warn",
    ]  # fmt: skip
    with _running(command, f"http://{address}", folder / "alertmanager.log"):
        yield


@contextmanager
def _running(command: Sequence[str], url: str, log: Path) -> Iterator[None]:
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        _wait_until_ready(url, process, log)
        yield
    finally:
        process.terminate()
        process.wait(_STOP_SECONDS)


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            if httpx.get(f"{url}/-/ready", timeout=5).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise AssertionError(f"{url} is not ready:\n{log.read_text()}")


def faster(value: Any, times: int) -> Any:
    """The settings with every duration so many times shorter."""
    if isinstance(value, dict):
        return {key: faster(part, times) for key, part in value.items()}
    if isinstance(value, list):
        return [faster(part, times) for part in value]
    try:
        return str(Duration.parse(value) / times)
    except ValueError:
        return value
