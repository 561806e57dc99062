"""Running the service for tests: a real `bentoml serve` on loopback, stopped by its pid."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

_START_SECONDS = 120
_STOP_SECONDS = 30
_FAILED = re.compile(r"^[\w.]+Error: .*$", re.MULTILINE)  # the last line of a traceback


@dataclass(frozen=True)
class Server:
    """A service that is ready."""

    url: str
    log: Path
    pid: int

    @property
    def logged(self) -> str:
        """Everything that it has written so far."""
        return self.log.read_text()


@contextmanager
def serve(
    target: str,
    *,
    cwd: Path,
    log: Path,
    bentoml: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """`bentoml serve TARGET`, from start until ready, and to its end."""
    executable = bentoml or Path(sys.executable).with_name("bentoml")
    port = free_port()
    command = [str(executable), "serve", target, "--host", "127.0.0.1", "--port", str(port)]
    with log.open("w") as output:
        process = subprocess.Popen(
            command, cwd=cwd, stdout=output, stderr=output, env={**os.environ, **(environment or {})}
        )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_until_ready(url, process, log)
        yield Server(url, log, process.pid)
    finally:
        process.terminate()
        process.wait(_STOP_SECONDS)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None or _FAILED.search(log.read_text()):
            raise RuntimeError(f"the service failed:\n{log.read_text()}")
        try:
            if httpx.get(f"{url}/readyz", timeout=5).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise RuntimeError(f"the service is not ready:\n{log.read_text()}")
