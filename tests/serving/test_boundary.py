from __future__ import annotations

import asyncio
import itertools
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from serving.app import Boundary, ScoringRoute
from serving.authentication import Guard
from serving.exchange import request_id
from serving.problems import Invalid
from serving.request_metrics import Traffic
from serving.settings import AccessSettings, Limits

LIMITS = Limits(
    body_bytes=1024,
    application_bytes=1024,
    batch_applications=10,
    columnar_rows=10,
    timeout_seconds=3600,
    in_flight=4,
    batches_in_flight=2,
    buffered_bytes=4096,
    retry_after_seconds=3,
)
IMPATIENT = LIMITS.model_copy(update={"timeout_seconds": 0.05})
OPEN = Guard(AccessSettings(open=(), requests_per_second=1, burst_seconds=1, reload_seconds=1), None)
PROBLEM = "application/problem+json"
SECRET = "S3CR3T-VALUE"


async def _echo(body: bytes) -> bytes:
    return json.dumps({"decoded": json.loads(body), "request_id": request_id()}).encode()


async def _picture(_: bytes) -> bytes:
    return b"<svg/>"


async def _invalid(_: bytes) -> bytes:
    raise Invalid("It does not fit.", errors=[{"loc": ["x"], "msg": "wrong"}])


async def _broken(body: bytes) -> bytes:
    raise KeyError(body.decode())


async def _slow(_: bytes) -> bytes:
    await asyncio.sleep(60)
    return b"never"


async def _page(_: Request) -> Response:
    return PlainTextResponse("a page")


async def _fail(_: Request) -> Response:
    return JSONResponse({"error": "a framework's own shape"}, status_code=500)


async def _slow_page(_: Request) -> Response:
    await asyncio.sleep(60)
    return PlainTextResponse("never")


PAGES = Starlette(routes=[Route("/page", _page), Route("/fail", _fail), Route("/slow-page", _slow_page)])
ROUTES = {
    "/predict": ScoringRoute(_echo, 1024, 2),
    "/drawn": ScoringRoute(_echo, 1024, 2, draw=_picture),
    "/invalid": ScoringRoute(_invalid, 1024, 2),
    "/broken": ScoringRoute(_broken, 1024, 2),
    "/slow": ScoringRoute(_slow, 1024, 4),
}


def bounded(registry: CollectorRegistry, limits: Limits = LIMITS, **routes: ScoringRoute) -> Boundary:
    own = {f"/{name}": route for name, route in routes.items()}
    return Boundary(PAGES, limits, OPEN, Traffic([0.1], registry=registry), lambda: ROUTES | own)


def ask(method: str, path: str, **options: Any) -> httpx.Response:
    async def run() -> httpx.Response:
        limits = IMPATIENT if "slow" in path else LIMITS
        transport = httpx.ASGITransport(bounded(CollectorRegistry(), limits))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.request(method, path, **options)

    return asyncio.run(run())


def refused(answer: httpx.Response) -> dict[str, Any]:
    """The problem that an answer carries, which must say the same as its status line."""
    problem: dict[str, Any] = answer.json()
    assert answer.headers["content-type"] == PROBLEM
    assert problem["status"] == answer.status_code
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert sorted(problem) == ["detail", "request_id", "status", "title", "type"]
    return problem


def test_a_scoring_request_is_answered_under_the_callers_id() -> None:
    answer = ask("POST", "/predict", json={"a": 1}, headers={"X-Request-ID": "caller-7"})
    assert (answer.status_code, answer.json()) == (200, {"decoded": {"a": 1}, "request_id": "caller-7"})
    assert answer.headers["x-request-id"] == "caller-7"


@pytest.mark.parametrize("given", ["", "has space", "x" * 129, 'quote"', "new\tline"])
def test_an_illegal_request_id_is_replaced(given: str) -> None:
    answer = ask("POST", "/predict", json={}, headers={"X-Request-ID": given})
    assert len(answer.headers["x-request-id"]) == 32
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize("media_type", ["text/plain", "application/vnd.bentoml+pickle", "multipart/form-data", ""])
def test_another_media_type_is_refused(media_type: str) -> None:
    answer = ask("POST", "/predict", content=b"{}", headers={"Content-Type": media_type})
    assert (answer.status_code, refused(answer)["title"]) == (415, "Unsupported Media Type")


def test_a_charset_beside_the_media_type_is_allowed() -> None:
    answer = ask("POST", "/predict", content=b"{}", headers={"Content-Type": "Application/JSON; charset=utf-8"})
    assert answer.status_code == 200


def test_a_compressed_body_is_refused() -> None:
    answer = ask(
        "POST", "/predict", content=b"{}", headers={"Content-Type": "application/json", "Content-Encoding": "gzip"}
    )
    assert answer.status_code == 415


def test_a_body_at_the_limit_is_read_and_one_beyond_is_refused() -> None:
    headers = {"Content-Type": "application/json"}
    fits = b'"' + b"x" * (LIMITS.body_bytes - 2) + b'"'
    assert ask("POST", "/predict", content=fits, headers=headers).status_code == 200
    answer = ask("POST", "/predict", content=fits + b" ", headers=headers)
    assert (answer.status_code, refused(answer)["detail"]) == (413, "The body is larger than 1024 bytes.")


def test_a_body_without_a_declared_length_is_measured_as_it_comes() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"x" * 512

    answer = ask("POST", "/predict", content=chunks(), headers={"Content-Type": "application/json"})
    assert answer.status_code == 413


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/predict", 404),
        ("POST", "/page", 405),
        ("GET", "/fail", 500),
        ("GET", "/slow-page", 504),
    ],
)
def test_every_error_is_a_problem(method: str, path: str, status: int) -> None:
    answer = ask(method, path)
    assert answer.status_code == status
    assert refused(answer)["type"] == "about:blank"


@pytest.mark.parametrize(("path", "status"), [("/broken", 500), ("/slow", 504)])
def test_every_failure_of_a_scoring_route_is_a_problem(path: str, status: int) -> None:
    answer = ask("POST", path, json={})
    assert answer.status_code == status
    assert refused(answer)["type"] == "about:blank"


def test_a_problem_says_where_the_request_is_wrong() -> None:
    answer = ask("POST", "/invalid", json={})
    assert (answer.status_code, answer.json()["errors"]) == (422, [{"loc": ["x"], "msg": "wrong"}])


def test_a_failure_is_logged_with_its_place_and_without_what_it_says(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, logger="bentoml.credit_scoring"):
        answer = ask("POST", "/broken", json=SECRET, headers={"X-Request-ID": "caller-7"})
    (record,) = caplog.records
    assert record.getMessage().startswith("KeyError while answering request caller-7\n")
    assert "_broken" in caplog.text
    assert SECRET not in caplog.text + answer.text


def test_more_than_may_be_under_way_are_refused_at_once_and_the_others_answered() -> None:
    async def run() -> list[httpx.Response]:
        others_refused, refusals = asyncio.Event(), itertools.count(1)

        async def held(_: bytes) -> bytes:
            await others_refused.wait()
            return b"{}"

        async def post() -> httpx.Response:
            answer = await client.post("/held", json={})
            if answer.status_code == 503 and next(refusals) == 3:
                others_refused.set()
            return answer

        transport = httpx.ASGITransport(bounded(registry, held=ScoringRoute(held, 1024, 4)))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            answers = await asyncio.gather(*(post() for _ in range(5)))
            await client.get("/metrics")  # what was tallied is published then
            return answers

    registry = CollectorRegistry()
    answers = asyncio.run(run())
    assert sorted(answer.status_code for answer in answers) == [200, 200, 503, 503, 503]
    assert {answer.headers.get("retry-after") for answer in answers if answer.status_code == 503} == {"3"}
    assert registry.get_sample_value("credit_scoring_requests_shed_total", {"endpoint": "other"}) == 3


def test_room_is_given_back_whatever_became_of_a_request() -> None:
    async def run() -> list[int]:
        transport = httpx.ASGITransport(bounded(CollectorRegistry()))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return [(await client.post("/broken", json={})).status_code for _ in range(3)]

    assert asyncio.run(run()) == [500, 500, 500]


def counted(registry: CollectorRegistry) -> dict[tuple[str, str], float]:
    samples = next(metric for metric in registry.collect() if metric.name == "bentoml_service_request").samples
    return {
        (sample.labels["endpoint"], sample.labels["http_response_code"]): sample.value
        for sample in samples
        if sample.name.endswith("_total") and sample.value
    }


def test_requests_are_counted_by_endpoint_and_status_and_unknown_paths_together() -> None:
    registry = CollectorRegistry()

    async def run() -> None:
        transport = httpx.ASGITransport(bounded(registry))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            await client.post("/predict", json={})
            await client.post("/predict", content=b"")
            for path in ("/nothing", "/nothing/else", "/page", "/metrics"):
                await client.get(path)

    asyncio.run(run())
    assert counted(registry) == {
        ("/predict", "200"): 1,
        ("/predict", "415"): 1,
        ("other", "404"): 2,
        ("other", "200"): 1,
    }
    in_progress = next(m for m in registry.collect() if m.name == "bentoml_service_request_in_progress")
    assert {sample.value for sample in in_progress.samples} == {0}


def test_a_caller_that_hangs_up_is_not_answered() -> None:
    sent = drive([{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}])
    assert sent == []


def test_a_caller_that_is_slow_is_timed_out() -> None:
    sent = drive([{"type": "http.request", "body": b"{", "more_body": True}], IMPATIENT)
    assert [message.get("status") for message in sent] == [408, None]


def test_what_is_no_http_is_passed_on() -> None:
    seen: list[str] = []

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    boundary = Boundary(inner, LIMITS, OPEN, Traffic([1], registry=CollectorRegistry()), dict)
    asyncio.run(boundary({"type": "lifespan"}, _never, _ignore))
    assert seen == ["lifespan"]


def drive(received: list[Message], limits: Limits = LIMITS) -> list[Message]:
    """Send the messages to /predict by hand and collect what comes back; nothing more arrives after them."""
    sent: list[Message] = []
    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    scope = {"type": "http", "http_version": "1.1", "method": "POST", "path": "/predict", "headers": headers}

    async def receive() -> Message:
        return received.pop(0) if received else await _never()

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(bounded(CollectorRegistry(), limits)(scope, receive, send))
    return sent


async def _never() -> Message:
    await asyncio.Event().wait()
    raise AssertionError


async def _ignore(message: Message) -> None:
    return None


def test_a_timeout_of_something_else_is_a_failure_and_no_deadline(caplog: pytest.LogCaptureFixture) -> None:
    async def elsewhere(_: bytes) -> bytes:
        raise TimeoutError

    boundary = Boundary(
        PAGES,
        LIMITS,
        OPEN,
        Traffic([1], registry=CollectorRegistry()),
        lambda: {"/predict": ScoringRoute(elsewhere, 1024, 2)},
    )

    async def run() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(boundary), base_url="http://localhost") as client:
            return await client.post("/predict", json={})

    with caplog.at_level(logging.ERROR, logger="bentoml.credit_scoring"):
        assert asyncio.run(run()).status_code == 500
    assert caplog.records[0].getMessage().startswith("TimeoutError while answering")


@pytest.mark.parametrize(
    ("accept", "drawn"),
    [
        ([], False),
        (["*/*"], False),
        (["application/json"], False),
        (["image/svg+xml"], True),
        (["Image/SVG+XML; charset=utf-8"], True),
        (["image/*"], True),
        (["image/svg+xml, application/json"], False),
        (["image/svg+xml, application/json;q=0.9"], True),
        (["image/svg+xml;q=0.8, application/json ; q=0.9"], False),
        (["image/svg+xml, */*;q=0.1"], True),
        (["image/svg+xml;q=0, */*"], False),
        (["application/json;q=0", "image/svg+xml;q=0.001"], True),
        (["image/svg+xml;q=2"], False),
        (["image/svg+xml;q=much"], False),
        (["text/html"], False),
        ([",;q=,"], False),
    ],
)
def test_a_picture_is_answered_to_those_who_prefer_it(accept: list[str], *, drawn: bool) -> None:
    async def run() -> list[httpx.Response]:
        headers = [("Content-Type", "application/json"), ("X-Request-ID", "r-1"), *(("Accept", one) for one in accept)]
        transport = httpx.ASGITransport(bounded(CollectorRegistry()))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            client.headers.pop("accept")
            return [await client.post(path, content=b"{}", headers=headers) for path in ("/drawn", "/predict")]

    answer, plain = asyncio.run(run())
    expected = ("image/svg+xml", b"<svg/>") if drawn else ("application/json", plain.content)
    assert (answer.headers["content-type"], answer.content) == expected
    assert plain.headers["content-type"] == "application/json"
