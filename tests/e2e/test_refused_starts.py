"""What the service cannot start with, said in one line before any worker is started."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.server import ROOT, unmeasured


def start(*options: str, **variables: str) -> tuple[int, str]:
    """Exit code and standard error of a `bentoml serve` that ends by itself."""
    command = [str(Path(sys.executable).with_name("bentoml")), "serve", ".", "--host", "127.0.0.1", *options]
    environment = {**unmeasured(), **variables}
    ended = subprocess.run(
        command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True, timeout=600
    )  # fmt: skip
    return ended.returncode, ended.stderr


@pytest.mark.parametrize(
    ("variable", "content", "said"),
    [
        ("CREDIT_SCORING_SETTINGS", None, "cannot be read (No such file or directory)"),
        ("CREDIT_SCORING_SETTINGS", "boundary: [", "not YAML"),
        ("CREDIT_SCORING_MONITORING", "recordings: {}", "recordings"),
    ],
)
def test_settings_that_are_not(tmp_path: Path, variable: str, content: str | None, said: str) -> None:
    path = tmp_path / "settings.yaml"
    if content is not None:
        path.write_text(content)
    code, errors = start(**{variable: str(path)})
    assert (code, "Traceback" in errors) == (1, False)
    assert errors.splitlines()[-1].startswith(f"Error: [serve] `serve` failed: {path}: ")
    assert said in errors


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, errors = start("--port", str(port))
    assert (code, "Traceback" in errors) == (1, False)
    assert errors.splitlines()[-1].endswith(f"cannot listen at 127.0.0.1, port {port}: Address already in use")


def test_a_port_that_is_none() -> None:
    code, errors = start("--port", "99999")
    assert (code, "Traceback" in errors) == (1, False)
    assert "cannot listen at 127.0.0.1, port 99999: " in errors.splitlines()[-1]
