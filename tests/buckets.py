"""An S3-compatible server of the tests' own: on loopback, in memory, stopped at the end."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import s3fs

from jobs.destination import file_system
from tests.server import free_port

_SECONDS = 60
ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "tests", "AWS_DEFAULT_REGION": "us-east-1"}


@contextmanager
def running() -> Iterator[str]:
    """The address of a server without buckets, for the variable AWS_ENDPOINT_URL_S3."""
    port = free_port()
    program = Path(sys.executable).parent / "moto_server"
    command = [str(program), "-H", "127.0.0.1", "-p", str(port)]
    environment = os.environ | ENVIRONMENT
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment) as server:
        try:
            _await(port, server)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


@contextmanager
def empty(name: str) -> Iterator[str]:
    """The address of an empty bucket on a server that this process reaches during the block."""
    with running() as server, pytest.MonkeyPatch.context() as patch:
        for variable, value in {**ENVIRONMENT, "AWS_ENDPOINT_URL_S3": server}.items():
            patch.setenv(variable, value)
        s3fs.S3FileSystem.clear_instance_cache()  # another test's server had another address
        file_system(f"s3://{name}")[0].mkdir(name)
        yield f"s3://{name}"
    s3fs.S3FileSystem.clear_instance_cache()


def _await(port: int, server: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + _SECONDS
    while time.monotonic() < end and server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError("moto_server has not started")
