"""Running the service for tests: a real `bentoml serve` on loopback, stopped by its pid."""

from __future__ import annotations

import os
import re
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import httpx
import yaml

ROOT = Path(__file__).resolve().parent.parent
_ATTEMPTS = 3
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 8
_FIRST_PORT, _RANGE = 20_000 + 1_000 * _WORKER, 1_000
_PORTS = cycle(_FIRST_PORT + (os.getpid() + i) % _RANGE for i in range(_RANGE))
_START_SECONDS = 600
_STOP_SECONDS = 600
_FAILED = re.compile(r"^[\w.]+Error: .*$", re.MULTILINE)  # the last line of a traceback


@dataclass(frozen=True)
class Server:
    """A service that is ready."""

    url: str
    log: Path
    process: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        """Of the parent of the workers."""
        return self.process.pid

    @property
    def logged(self) -> str:
        """Everything that it has written so far."""
        return self.log.read_text()


@dataclass(frozen=True)
class Tls:
    """A certificate for 127.0.0.1 that is its own authority, and its key."""

    certificate: Path
    key: Path

    def trusted(self) -> ssl.SSLContext:
        """What a caller needs to believe it."""
        return ssl.create_default_context(cafile=str(self.certificate))


@contextmanager
def serve(
    target: str,
    *,
    cwd: Path,
    log: Path,
    bentoml: Path | None = None,
    environment: Mapping[str, str] | None = None,
    tls: Tls | None = None,
) -> Iterator[Server]:
    """`bentoml serve TARGET`, from start until ready, and to its end."""
    executable = bentoml or Path(sys.executable).with_name("bentoml")
    process, url = _started([str(executable), "serve", target], cwd, log, environment or {}, tls)
    try:
        yield Server(url, log, process)
    finally:
        _stop(process)


@contextmanager
def serve_with(
    folder: Path,
    changes: Mapping[str, Any],
    environment: Mapping[str, str] | None = None,
    tls: Tls | None = None,
) -> Iterator[Server]:
    """The service of the checkout with some of its settings changed; `folder` takes the settings and the output."""
    settings = yaml.safe_load((ROOT / "configs" / "serving.yaml").read_text())
    settings["limits"]["timeout_seconds"] = 300  # a busy machine is no fault
    settings["changes"]["milliseconds"] = 60_000
    settings["bentoml"]["traffic"]["timeout"] = 600
    for section, values in changes.items():
        settings[section] = {**settings[section], **values} if isinstance(values, dict) else values
    (folder / "serving.yaml").write_text(yaml.safe_dump(settings))
    variables = {**(environment or {}), "CREDIT_SCORING_SETTINGS": str(folder / "serving.yaml")}
    with serve(".", cwd=ROOT, log=folder / "output", environment=variables, tls=tls) as running:
        yield running


def _started(
    command: list[str], cwd: Path, log: Path, environment: Mapping[str, str], tls: Tls | None
) -> tuple[subprocess.Popen[bytes], str]:
    """The service once it is ready. BentoML takes ports of its own, which another server may take first: try again."""
    options = [] if tls is None else ["--ssl-certfile", str(tls.certificate), "--ssl-keyfile", str(tls.key)]
    scheme, verify = ("http", None) if tls is None else ("https", tls.trusted())
    for attempt in range(_ATTEMPTS):
        port = free_port()
        with log.open("w") as output:
            process = subprocess.Popen(
                [*command, "--host", "127.0.0.1", "--port", str(port), *options],
                cwd=cwd, stdout=output, stderr=output, env={**os.environ, **environment},
            )  # fmt: skip
        try:
            _wait_until_ready(f"{scheme}://127.0.0.1:{port}", process, log, verify)
        except RuntimeError as error:
            _stop(process)
            if attempt + 1 == _ATTEMPTS or "Address already in use" not in str(error):
                raise
        else:
            break
    return process, f"{scheme}://127.0.0.1:{port}"


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(_STOP_SECONDS)


def unmeasured() -> dict[str, str]:
    """The environment without what makes a command measure its coverage, for commands that can write no file."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on, below those that the system gives to callers.

    Processes that share the tests have ranges of their own, and none is handed out again soon: until a server listens
    there, nobody else takes it.
    """
    for port in _PORTS:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise AssertionError("cycle() does not end")


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path, verify: ssl.SSLContext | None) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None or _FAILED.search(log.read_text()):
            raise RuntimeError(f"the service failed:\n{log.read_text()}")
        try:
            if httpx.get(f"{url}/readyz", timeout=60, verify=verify or True).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise RuntimeError(f"the service is not ready:\n{log.read_text()}")
