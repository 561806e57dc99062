"""The counts of services that run, read over HTTP as `python -m monitoring drift --live` reads them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
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
from tests.server import free_port


@contextmanager
def listening(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """The address of a server that answers every GET so."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def log_message(self, *_: object) -> None:
            """Nothing is logged."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def answering(drift: Any, keys: list[str | None] | None = None) -> AbstractContextManager[str]:
    """A server that answers GET /drift with this, and keeps the key that comes with it."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if keys is not None:
            keys.append(handler.headers["Authorization"])
        handler.send_response(200 if handler.path == "/drift" else 404)
        handler.end_headers()
        handler.wfile.write(drift if isinstance(drift, bytes) else json.dumps(drift).encode())

    return listening(answer)


def redirecting(to: str) -> AbstractContextManager[str]:
    """A server that sends its callers elsewhere."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", f"{to}{handler.path}")
        handler.end_headers()

    return listening(answer)


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


def test_the_key_goes_to_the_service_alone_and_to_no_host_that_it_redirects_to(
    small: StoredModel, drift: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDIT_SCORING_API_KEY", "secret")
    keys: list[str | None] = []
    with answering(drift, keys) as service, redirecting(service) as other:
        for url in (service, other):
            assert window_of_services([url], small.scorer.artefact)[0].rows == 50
    assert keys == ["Bearer secret", None]


@pytest.mark.parametrize("address", ["file:///etc/passwd", "127.0.0.1:3000"])
def test_only_addresses_of_the_web_are_asked(small: StoredModel, address: str) -> None:
    with pytest.raises(SourceError, match=rf"^{address}: not an address of a service: http://\.\.\. or https://"):
        window_of_services([address], small.scorer.artefact)


def test_a_service_that_does_not_answer_is_named_with_the_reason(small: StoredModel) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(SourceError, match=rf"^{url}: does not answer \(.*Connection refused\)$"):
        window_of_services([url], small.scorer.artefact)


def test_a_service_that_refuses_is_named_with_the_status(small: StoredModel) -> None:
    with answering({}) as service, pytest.raises(SourceError, match=r"/prefix: refuses \(404 Not Found\)$"):
        window_of_services([f"{service}/prefix"], small.scorer.artefact)


@pytest.mark.parametrize(
    ("answer", "said"), [(b"<html>", r"as expected \(JSONDecodeError\)"), (b"[]", None)], ids=["no JSON", "no object"]
)
def test_what_is_no_answer_of_a_service_is_said(small: StoredModel, answer: bytes, said: str | None) -> None:
    reason = f"does not answer {said}" if said else "not what GET /drift answers"
    with answering(answer) as url, pytest.raises(SourceError, match=rf"^{url}: {reason}$"):
        window_of_services([url], small.scorer.artefact)


@pytest.mark.parametrize("key", ["a\nb", "ä"])
def test_a_key_that_no_header_can_hold_is_not_shown(
    small: StoredModel, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("CREDIT_SCORING_API_KEY", key)
    with answering({}) as url, pytest.raises(SourceError, match=rf"^{url}: does not answer as expected \(\w+Error\)$"):
        window_of_services([url], small.scorer.artefact)


@pytest.mark.parametrize("port", ["70000", "x"])
def test_an_address_with_a_wrong_port_is_an_error(small: StoredModel, port: str) -> None:
    url = f"http://127.0.0.1:{port}"
    with pytest.raises(SourceError, match=rf"^{url}: does not answer"):
        window_of_services([url], small.scorer.artefact)
