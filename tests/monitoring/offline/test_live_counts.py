"""The counts of services that run, read over HTTP as `python -m monitoring drift --live` reads them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from decision_log.errors import SourceError
from features.schema import Calendar
from monitoring.errors import WindowError
from monitoring.sources import window_of_services
from scoring.store import StoredModel
from tests.monitoring.recording import Worker


@contextmanager
def answering(drift: Any) -> Iterator[str]:
    """The address of a server that answers GET /drift with this."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/drift" else 404)
            self.end_headers()
            self.wfile.write(json.dumps(drift).encode())

        def log_message(self, *_: object) -> None:
            """Nothing is logged."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def drift(small: StoredModel, tmp_path: Path) -> dict[str, Any]:
    """What a service answers that has scored 50 applications and completed no window."""
    worker = Worker(small, tmp_path / "counts")
    worker.record(50)
    answer: dict[str, Any] = worker.recorder.drift()
    worker.recorder.close()
    return answer


def complete(drift: dict[str, Any], days: float) -> dict[str, Any]:
    counts = {name: drift[name] for name in ("features", "probability")}
    return drift | {"window": counts | {"start": 0.0, "end": days * 86_400.0}}


def test_the_counts_of_services_are_added_up(small: StoredModel, drift: dict[str, Any]) -> None:
    artefact = small.scorer.artefact
    with answering(drift) as one, answering(drift) as other:
        alone, of_one = window_of_services([one], artefact)
        both, of_both = window_of_services([one, f"{other}/"], artefact)
    assert (alone.rows, both.rows, of_one, of_both) == (50, 100, frozenset(), frozenset())
    assert both.features.tolist() == (2 * alone.features).tolist()


def test_a_calendar_is_covered_where_each_of_the_windows_covers_it(small: StoredModel, drift: dict[str, Any]) -> None:
    with answering(complete(drift, 7)) as week, answering(complete(drift, 1)) as day:
        both, covered = window_of_services([week, day], small.scorer.artefact, last=True)
        assert window_of_services([week], small.scorer.artefact, last=True)[1] == {Calendar.DAY, Calendar.WEEK}
    assert (both.rows, covered) == (100, {Calendar.DAY})


@pytest.mark.parametrize(
    ("change", "last", "error", "said"),
    [
        ({}, True, SourceError, "no window is complete yet"),
        ({"digest": "0" * 64}, False, WindowError, "serves the model 000000000000, not "),
        ({"features": 7}, False, SourceError, r"not what GET /drift answers \(TypeError\)$"),
        ({"probability": None}, False, SourceError, r"not what GET /drift answers \(TypeError\)$"),
    ],
)
def test_what_cannot_be_judged_is_said_of_its_service(
    small: StoredModel, drift: dict[str, Any], change: dict[str, Any], last: bool, error: type[Exception], said: str
) -> None:
    with answering(drift | change) as url, pytest.raises(error, match=rf"^{url}: {said}"):
        window_of_services([url], small.scorer.artefact, last=last)
