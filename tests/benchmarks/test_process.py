"""Process trees: when they are ready, what they use, how they end."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from http.client import HTTPConnection
from pathlib import Path

import psutil
import pytest

from benchmarks.errors import BenchmarkError
from benchmarks.process import HOST, Server, free_port, run_job, serving

# A server whose child does the work: it burns half a second of CPU time when it is asked to.
_CHILD = """
import sys, time
for _ in sys.stdin:
    until = time.process_time() + 0.5
    while time.process_time() < until:
        pass
    print(flush=True)
"""
_HOLDER = """
import time
held = b"x" * 100_000_000
begun = time.process_time()
while time.process_time() < begun + 0.4:
    pass
"""
_ROOT = f"""
import http.server, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {_CHILD!r}], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/burn":
            print(file=child.stdin, flush=True)
            child.stdout.readline()
        self.send_response(200)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def serve(code: str, log: Path, *, start_limit: float = 60) -> AbstractContextManager[Server]:
    port = free_port()
    return serving(
        [sys.executable, "-c", code, str(port)],
        port=port,
        ready="/",
        environment=os.environ,
        cwd=log.parent,
        log=log,
        start_limit=start_limit,
        stop_limit=10,
    )


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serve(_ROOT, tmp_path / "log") as running:
        yield running


def test_the_cpu_time_of_descendants_is_counted(server):
    before = server.cpu_seconds()
    connection = HTTPConnection(HOST, server.port)
    connection.request("GET", "/burn")
    assert connection.getresponse().status == 200
    connection.close()
    assert 0.49 <= server.cpu_seconds() - before < 0.98  # a clock tick less, and what it takes to be asked; not twice


def test_memory_is_that_of_the_tree_and_of_its_largest_process(server):
    held = [process.memory_full_info() for process in server.processes()]
    memory = server.memory()
    smaller, larger = sorted(held, key=lambda process: process.uss)
    assert memory.processes == 2
    # between what is its own and what is resident: pages that others share are shared out among those that run now
    assert 0.5 * larger.uss <= memory.worker * 1e6 <= larger.rss
    assert 0.5 * smaller.uss <= (memory.tree - memory.worker) * 1e6 <= smaller.rss


def test_a_server_that_is_asked_nothing_is_quiet(server):
    server.wait_until_quiet(idle=0, limit=60)  # it may still be starting
    assert server.cores() < 0.05


def test_the_whole_tree_ends_with_the_block(tmp_path):
    with serve(_ROOT, tmp_path / "log") as running:
        processes = running.processes()
    assert len(processes) == 2
    assert not any(map(psutil.Process.is_running, processes))


def test_a_server_that_ends_at_once_is_reported_with_its_last_words(tmp_path):
    with (
        pytest.raises(BenchmarkError, match=r"^the server ended with 3: no model$"),
        serve("import sys; print('no model', flush=True); sys.exit(3)", tmp_path / "log"),
    ):
        pass


def test_a_server_that_does_not_become_ready_is_given_up(tmp_path):
    with (
        pytest.raises(BenchmarkError, match="did not become ready"),
        serve("import threading; threading.Event().wait()", tmp_path / "log", start_limit=0.2),
    ):
        pass


def test_what_a_job_and_its_children_take_is_counted(tmp_path):
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {_HOLDER!r}], check=True)"
    cost = run_job([sys.executable, "-c", parent], environment=os.environ, cwd=tmp_path, log=tmp_path / "log")
    assert cost.cpu_seconds > 0.4
    assert cost.seconds > 0.4
    assert cost.peak_mb > 100


def test_a_job_that_fails_is_an_error_with_its_last_words(tmp_path):
    command = [sys.executable, "-c", "import sys; sys.exit('nothing to do')"]
    with pytest.raises(BenchmarkError, match=r"ended with 1: nothing to do$"):
        run_job(command, environment=os.environ, cwd=tmp_path, log=tmp_path / "log")
