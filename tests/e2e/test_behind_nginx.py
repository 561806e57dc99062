"""Callers who share an nginx, as ingress-nginx configures it, with somebody who hides requests in bodies."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.home_credit import EXAMPLE
from tests.server import Server, free_port, serve_with
from training.run import Delivered

CALLERS, ANSWERS = 4, int(os.environ.get("INNOCENT_ANSWERS", "400"))
RESULTS = os.environ.get("FRAMING_RESULTS")
NGINX = """
{user} daemon off; pid {folder}/pid; error_log {folder}/error.log; worker_processes 1;
events {{ worker_connections 256; }}
http {{
    access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
    upstream service {{ server {service}; keepalive 4; }}
    server {{
        listen 127.0.0.1:{port};
        client_max_body_size 8m; proxy_buffering off; proxy_request_buffering on; proxy_http_version 1.1;
        location / {{
            proxy_set_header Host $host;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
            proxy_next_upstream off;
            proxy_pass http://service;
        }}
    }}
}}
"""


@contextmanager
def nginx(server: Server, folder: Path) -> Iterator[int]:
    """Its port."""
    executable = shutil.which("nginx")
    if executable is None:
        pytest.skip("nginx is not installed")
    port = free_port()
    user = "user root;" if os.geteuid() == 0 else ""  # its worker could not write into the folder of root
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(user=user, folder=folder, port=port, service=urlsplit(server.url).netloc))
    process = subprocess.Popen([executable, "-e", str(folder / "error.log"), "-c", str(config)])
    try:
        with httpx.Client(transport=httpx.HTTPTransport(retries=10)) as client:
            client.get(f"http://localhost:{port}/livez", timeout=60).raise_for_status()
        yield port
    finally:
        process.terminate()
        process.wait(30)


def attack(port: int) -> None:
    """Hide a whole request behind so many blank lines that any cut of the body is before it."""
    inner = json.dumps({**EXAMPLE, "client_id": "ATTACKER"}).encode()
    hidden = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    body = b"\r\n" * 150_000 + hidden + b"Content-Length: %d\r\n\r\n%b" % (len(inner), inner)
    head = "POST /predict/batch HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: foo\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(head.encode() + body)
        assert connection.recv(65_536).startswith(b"HTTP/1.1 4")


def wrong_answers(port: int, name: str, count: int) -> list[str]:
    """What a caller got that was not the answer to its own request."""
    wrong = []
    with httpx.Client(base_url=f"http://localhost:{port}", timeout=60) as client:
        for number in range(count):
            own = f"{name}-{number}"
            answer = client.post("/predict", json={**EXAMPLE, "client_id": own})
            if answer.status_code != 200 or answer.json()["client_id"] != own:
                wrong.append(f"{own}: {answer.status_code}")
    return wrong


def test_every_caller_gets_its_own_answer(delivered: Delivered, tmp_path: Path) -> None:
    with (
        serve_with(tmp_path, {"model": delivered.tag}) as server,
        nginx(server, tmp_path) as port,
        ThreadPoolExecutor(CALLERS + 1) as pool,
    ):
        asked = [pool.submit(wrong_answers, port, f"caller-{n}", ANSWERS // CALLERS) for n in range(CALLERS)]
        attacks = [pool.submit(attack, port) for _ in range(max(10, ANSWERS // 25))]
        for attacked in attacks:
            attacked.result()
        wrong = [answer for caller in asked for answer in caller.result()]
    if RESULTS:
        _write(Path(RESULTS), len(attacks), len(wrong))
    assert wrong == []


def _write(path: Path, attacks: int, wrong: int) -> None:
    kept = json.loads(path.read_text()) if path.exists() else {}
    kept["behind_nginx"] = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": "make fuzz",
        "attacks": attacks,
        "answers": CALLERS * (ANSWERS // CALLERS),
        "wrong": wrong,
    }
    path.write_text(json.dumps(kept, indent=2) + "\n")
