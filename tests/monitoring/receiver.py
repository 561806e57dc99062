"""A real HTTP receiver of notifications on loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Posted:
    """A request as it came."""

    path: str
    headers: dict[str, str]
    body: Any


@dataclass
class Receiver:
    """Answers each POST with the next of `answers`, and with 200 when there are none left; None hangs up."""

    answers: list[tuple[int, dict[str, str]] | None] = field(default_factory=list)
    posted: list[Posted] = field(default_factory=list)
    url: str = ""
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def take(self, posted: Posted) -> tuple[int, dict[str, str]] | None:
        """Keep a request, and say what to answer."""
        with self._changed:
            self.posted.append(posted)
            self._changed.notify_all()
            return self.answers.pop(0) if self.answers else (200, {})

    def wait_until(self, arrived: Callable[[list[Posted]], bool], seconds: float) -> None:
        """Return when what was posted so far is enough; AssertionError if that takes too long."""
        with self._changed:
            assert self._changed.wait_for(lambda: arrived(self.posted), seconds), [post.body for post in self.posted]


@contextmanager
def receiving(*answers: tuple[int, dict[str, str]] | None) -> Iterator[Receiver]:
    """A receiver that listens."""
    receiver = Receiver(list(answers))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            answer = receiver.take(Posted(self.path, dict(self.headers), json.loads(body)))
            if answer is None:
                self.close_connection = True
                return
            self.send_response(answer[0])
            for name, value in {"Content-Length": "0", **answer[1]}.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
