"""Load that counts what became of every request."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from deploy.load import Load, Outcome, counted, request
from tests.server import free_port

ANSWERS = {"/well": (200, {"model_version": "3-abc"}), "/full": (503, {})}


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/cut":
            self.close_connection = True
            return
        status, document = ANSWERS[self.path]
        content = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
        pass


@pytest.fixture(scope="module")
def address() -> Iterator[tuple[str, int]]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield ("127.0.0.1", server.server_port)
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("path", "result", "version"),
    [("/well", "200", "3-abc"), ("/full", "503", None), ("/cut", "RemoteDisconnected", None)],
)
def test_a_request_ends_in_one_way(address: tuple[str, int], path: str, result: str, version: str | None) -> None:
    outcome = request(address, path, b"{}")
    assert (outcome.result, outcome.version, outcome.answered) == (result, version, result == "200")
    assert outcome.connected is not None
    assert outcome.sent is not None


def test_a_refused_connection_is_counted_as_not_sent() -> None:
    outcome = request(("127.0.0.1", free_port()), "/well", b"{}")
    assert (outcome.result, outcome.connected, outcome.sent) == ("ConnectionRefusedError", None, None)


def test_load_leaves_nothing_out(address: tuple[str, int]) -> None:
    enough = threading.Event()
    with Load(address, "/well", b"{}", threads=3, per_second=300) as load:
        while len(load.outcomes) < 30:
            enough.wait(0.01)
    assert counted(load.outcomes) == {"200": len(load.outcomes)}


def test_outcomes_are_counted_by_their_result() -> None:
    outcomes = [Outcome(result, 0.0, 0.0, 1.0) for result in ("503", "200", "503")]
    assert counted(outcomes) == {"200": 1, "503": 2}
