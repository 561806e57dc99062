"""Running the image hardened, as every orchestrator should."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from deploy.command import run
from deploy.errors import DeployError

HARDENED = (
    *("--read-only", "--tmpfs", "/tmp", "--pids-limit", "200"),  # noqa: S108
    *("--cap-drop=ALL", "--security-opt", "no-new-privileges"),
)
_START_SECONDS = 60.0
_STOP_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Container:
    """A hardened container that is ready.

    Attributes
    ----------
    address : host and port at which it answers
    pid : of its first process, on this machine
    start_seconds : from the command that ran it until /readyz answered
    process : of podman, attached to it
    """

    address: tuple[str, int]
    pid: int
    start_seconds: float
    process: subprocess.Popen[bytes]

    def terminate(self) -> None:
        """Send SIGTERM to the first process, as an orchestrator does."""
        os.kill(self.pid, signal.SIGTERM)


@contextmanager
def hardened(image: str, log: Path, *, memory: str) -> Iterator[Container]:
    """A container of the image from its start to its end; what it writes goes to `log`."""
    name, address = f"credit-scoring-{os.getpid()}-{time.monotonic_ns()}", ("127.0.0.1", _free_port())
    host, port = address
    command = ["podman", "run", "--rm", "--name", name, *HARDENED, "--memory", memory, "--network", "host"]
    command += [image, "--host", host, "--port", str(port)]  # on loopback the service asks for no key
    start = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        _wait_until_ready(address, process, log, start + _START_SECONDS)
        seconds = time.monotonic() - start
        pid = int(run("podman", "inspect", "--format", "{{.State.Pid}}", name))
        yield Container(address, pid, seconds, process)
    finally:
        if process.poll() is None:
            run("podman", "stop", "--time", str(_STOP_SECONDS), name)
        process.wait(_STOP_SECONDS)


def _wait_until_ready(address: tuple[str, int], process: subprocess.Popen[bytes], log: Path, deadline: float) -> None:
    host, port = address
    with httpx.Client(base_url=f"http://{host}:{port}", timeout=5, trust_env=False) as http:
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise DeployError(f"the container ended with {process.returncode}: {_last_line(log)}")
            if _is_ready(http):
                return
            time.sleep(0.05)
    raise DeployError(f"the container is not ready after {_START_SECONDS:g} s: {_last_line(log)}")


def _is_ready(http: httpx.Client) -> bool:
    try:
        return http.get("/readyz").is_success
    except httpx.RequestError:
        return False


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it has written nothing"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
