"""Requests with an Idempotency-Key at the boundary."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from credit_scoring_client.contract import NOT_OFFERED
from prometheus_client import CollectorRegistry

from decision_log.answers import FILE
from monitoring.recorder import LOG_VARIABLE
from serving.app import Boundary, ScoringRoute
from serving.exchange import request_id
from serving.idempotency import Idempotency, kept_answers, read_key
from serving.problems import BadRequest, Invalid
from serving.request_metrics import Traffic
from tests.serving.test_boundary import IMPATIENT, LIMITS, OPEN, PAGES, refused


class Service:
    """A boundary around routes that count their calls."""

    def __init__(self, folder: Path | None) -> None:
        self.registry = CollectorRegistry()
        self.calls = 0
        self.begun, self.go = asyncio.Event(), asyncio.Event()
        traffic = Traffic([0.1], registry=self.registry)
        environment = {} if folder is None else {LOG_VARIABLE: str(folder)}
        self.idempotency = Idempotency(kept_answers(environment, LIMITS, 24), traffic, LIMITS.retry_after_seconds)
        routes = {
            "/predict": ScoringRoute(self._count, 1024, 16),
            "/predict/features": ScoringRoute(self._count, 1024, 16),
            "/explain": ScoringRoute(self._count, 1024, 16, draw=self._picture),
            "/wrong": ScoringRoute(self._wrong, 1024, 16),
            "/waiting": ScoringRoute(self._wait, 1024, 16),
            "/one": ScoringRoute(self._wait, 1024, 1),
            "/broken": ScoringRoute(self._break, 1024, 16),
        }
        self._transport, self._late = (
            httpx.ASGITransport(Boundary(PAGES, limits, OPEN, traffic, lambda: routes, idempotency=self.idempotency))
            for limits in (LIMITS, IMPATIENT)
        )
        self._traffic = traffic

    async def _count(self, _: bytes) -> bytes:
        self.calls += 1
        return f'{{"call": {self.calls}, "request_id": "{request_id()}"}}'.encode()

    async def _wrong(self, _: bytes) -> bytes:
        self.calls += 1
        raise Invalid.because([{"loc": ["x"], "msg": f"wrong {self.calls}"}])

    async def _wait(self, body: bytes) -> bytes:
        self.begun.set()
        await self.go.wait()
        return await self._count(body)

    async def _break(self, body: bytes) -> bytes:
        await self.go.wait()
        raise KeyError(body)

    async def _picture(self, _: bytes) -> bytes:
        self.calls += 1
        return b"<svg/>"

    async def post(
        self, key: str | None, path: str = "/predict", body: bytes = b"{}", *, accept: str = "*/*", late: bool = False
    ) -> httpx.Response:
        headers = {"Content-Type": "application/json", "Accept": accept}
        headers |= {} if key is None else {"Idempotency-Key": key}
        transport = self._late if late else self._transport
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.post(path, content=body, headers=headers)

    def counted(self) -> dict[str, float]:
        self._traffic.tallies.publish()
        name = "credit_scoring_repeated_requests_total"
        outcomes = ("replayed", "conflict", "mismatch", "failed")
        return {each: self.registry.get_sample_value(name, {"outcome": each}) or 0.0 for each in outcomes}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    made = Service(tmp_path)
    yield made
    made.idempotency.close()


def test_a_repetition_gets_the_first_answer_byte_for_byte_and_is_told_so(service: Service) -> None:
    async def run() -> list[httpx.Response]:
        return [await service.post("k-1"), await service.post('"k-1"'), await service.post("k-2")]

    first, again, other = asyncio.run(run())
    assert [answer.status_code for answer in (first, again, other)] == [200, 200, 200]
    assert first.content == again.content
    assert first.json()["request_id"] == first.headers["x-request-id"] != again.headers["x-request-id"]
    assert [answer.headers.get("idempotency-replayed") for answer in (first, again, other)] == [None, "true", None]
    assert service.calls == 2
    assert service.counted() == {"replayed": 1, "conflict": 0, "mismatch": 0, "failed": 0}


def test_another_body_or_path_is_refused(service: Service) -> None:
    async def run() -> list[httpx.Response]:
        await service.post("k-1")
        return [await service.post("k-1", body=b"{ }"), await service.post("k-1", path="/predict/features")]

    for answer in asyncio.run(run()):
        assert refused(answer)["detail"] == "The Idempotency-Key was used for another request: send a new one."
        assert answer.status_code == 422
    assert service.calls == 1
    assert service.counted()["mismatch"] == 2


def test_a_repetition_has_the_media_type_of_the_first_answer(service: Service) -> None:
    async def run() -> list[httpx.Response]:
        picture = [await service.post("k-1", "/explain", accept="image/svg+xml") for _ in range(2)]
        return [*picture, await service.post("k-1", "/explain"), await service.post("k-2", "/explain")]

    first, again, other, plain = asyncio.run(run())
    assert [answer.headers["content-type"] for answer in (first, again)] == ["image/svg+xml"] * 2
    assert (first.content, again.content, again.headers["idempotency-replayed"]) == (b"<svg/>", b"<svg/>", "true")
    assert (refused(other)["status"], service.calls) == (422, 2)
    assert plain.headers["content-type"] == "application/json"


def test_a_request_in_flight_is_refused_until_it_is_answered(service: Service) -> None:
    async def run() -> tuple[httpx.Response, ...]:
        first = asyncio.create_task(service.post("k-1", "/waiting"))
        await service.begun.wait()
        early = await service.post("k-1", "/waiting")
        service.go.set()
        return early, await first, await service.post("k-1", "/waiting")

    early, first, late = asyncio.run(run())
    assert refused(early)["detail"] == "The request with this Idempotency-Key is under way."
    assert (early.status_code, early.headers["retry-after"]) == (409, "3")
    assert (first.status_code, late.content, service.calls) == (200, first.content, 1)
    assert service.counted()["conflict"] == 1


def test_an_error_frees_the_key(service: Service) -> None:
    async def run() -> list[httpx.Response]:
        return [await service.post("k-1", "/wrong"), await service.post("k-1", "/wrong"), await service.post("k-1")]

    answers = asyncio.run(run())
    assert [answer.status_code for answer in answers] == [422, 422, 200]
    assert [answer.json()["errors"][0]["msg"] for answer in answers[:2]] == ["wrong 1", "wrong 2"]


def test_work_that_outlasts_its_time_limit_is_not_done_again(service: Service) -> None:
    async def run() -> list[httpx.Response]:
        answers = [await service.post("k-1", "/waiting", late=True), await service.post("k-1", "/waiting")]
        service.go.set()
        await service.idempotency.settled(3600)
        return [*answers, await service.post("k-1", "/waiting")]

    late, early, answer = asyncio.run(run())
    assert [late.status_code, early.status_code, early.headers["retry-after"]] == [504, 409, "3"]
    assert (answer.status_code, answer.headers["idempotency-replayed"], service.calls) == (200, "true", 1)
    assert answer.json()["request_id"] == late.headers["x-request-id"]


def test_work_that_outlasts_its_time_limit_keeps_its_place(service: Service) -> None:
    async def run() -> list[int]:
        statuses = [(await service.post("k-1", "/one", late=True)).status_code]
        statuses.append((await service.post("k-2", "/one")).status_code)
        service.go.set()
        await service.idempotency.settled(3600)
        return [*statuses, (await service.post("k-2", "/one")).status_code]

    assert asyncio.run(run()) == [504, 503, 200]


def test_an_error_after_the_time_limit_frees_the_key_and_is_logged(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> list[httpx.Response]:
        late = await service.post("k-1", "/broken", late=True)
        service.go.set()
        await service.idempotency.settled(3600)
        return [late, await service.post("k-1", "/broken")]

    late, again = asyncio.run(run())
    assert [late.status_code, again.status_code] == [504, 500]
    logged = [record.getMessage().splitlines()[0] for record in caplog.records]
    assert logged == [f"KeyError while answering request {answer.headers['x-request-id']}" for answer in (late, again)]


@pytest.mark.parametrize(
    ("field", "key"),
    [
        (b"a", "a"), (b"!", "!"), (b"~" * 128, "~" * 128), (b' "a" ', "a"), (b'"' + b"b" * 128 + b'"', "b" * 128),
        (rb'"a\\b"', "a\\b"), (rb'"\"' + rb"\"" * 127 + b'"', '"' * 128), (b"a,b", "a,b"), (rb"a\b", r"a\b"),
    ],
)  # fmt: skip
def test_a_key_is_read_with_or_without_quotes(field: bytes, key: str) -> None:
    assert read_key(field) == key


@pytest.mark.parametrize(
    "field",
    [
        b"", b" ", b'""', b'"', b'"a', b'a"', b'a"b', b'"a"b"', b'"a b"', b"a b", b"a\tb", b"\xe4", b'"a"; b', b"\x7f",
        b'"' + b"a" * 129 + b'"', rb'"\a"', b"a\x00", b"a" * 129, b'"a", "b"',
    ],
)  # fmt: skip
def test_a_malformed_key_is_refused_with_what_is_allowed(field: bytes) -> None:
    with pytest.raises(BadRequest, match="must be 1 to 128 visible ASCII characters, all in quotes or without any"):
        read_key(field)


def test_a_key_that_comes_twice_is_refused(service: Service) -> None:
    async def run() -> httpx.Response:
        headers = [("Content-Type", "application/json"), ("Idempotency-Key", "a"), ("Idempotency-Key", "a")]
        async with httpx.AsyncClient(transport=service._transport, base_url="http://localhost") as client:
            return await client.post("/predict", content=b"{}", headers=headers)

    answer = asyncio.run(run())
    assert refused(answer)["detail"] == "The header field idempotency-key was sent more than once."
    assert (answer.status_code, service.calls) == (400, 0)


def test_without_a_decision_log_a_key_is_refused() -> None:
    service = Service(None)

    async def run() -> list[httpx.Response]:
        return [await service.post("k-1"), await service.post(None)]

    told, answered = asyncio.run(run())
    assert refused(told)["detail"] == "Idempotency-Key needs a decision log, and this service keeps none: leave it out."
    assert told.json()["type"] == NOT_OFFERED
    assert [told.status_code, answered.status_code, service.calls] == [400, 200, 1]
    service.idempotency.close()


def test_without_a_key_no_file_is_made(service: Service, tmp_path: Path) -> None:
    assert asyncio.run(service.post(None)).status_code == 200
    assert list(tmp_path.iterdir()) == []


def test_where_answers_cannot_be_kept_only_requests_with_a_key_are_refused(
    service: Service, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / FILE).mkdir()

    async def run() -> list[httpx.Response]:
        answers = [await service.post(key) for key in ("k-1", "k-1", None)]
        (tmp_path / FILE).rmdir()
        return [*answers, await service.post("k-1"), await service.post("k-1")]

    answers = asyncio.run(run())
    assert [answer.status_code for answer in answers] == [503, 503, 200, 200, 200]
    assert (refused(answers[0])["detail"], answers[0].headers["retry-after"]) == (
        "Idempotency-Key cannot be honoured at present.", "3",
    )  # fmt: skip
    assert [re.sub("^.*/", "", record.getMessage()) for record in caplog.records] == [
        f"{FILE}: cannot be used (Is a directory)"
    ]
    assert service.counted() == {"replayed": 1, "conflict": 0, "mismatch": 0, "failed": 2}


def test_an_answer_that_cannot_be_kept_is_given_all_the_same(service: Service, tmp_path: Path) -> None:
    async def run() -> list[httpx.Response]:
        first = asyncio.create_task(service.post("k-1", "/waiting"))
        await service.begun.wait()
        for file in tmp_path.iterdir():
            file.unlink()
        (tmp_path / FILE).mkdir()
        service.go.set()
        return [await first, await service.post("k-1", "/waiting")]

    assert [answer.status_code for answer in asyncio.run(run())] == [200, 503]
    assert service.counted()["failed"] == 2


def test_many_at_once_with_one_key_are_decided_once(service: Service) -> None:
    async def run() -> list[httpx.Response]:
        return await asyncio.gather(*(service.post("k-1") for _ in range(4)))

    statuses = sorted(answer.status_code for answer in asyncio.run(run()))
    assert service.calls == 1
    assert statuses[0] == 200
    assert {status for status, _ in itertools.groupby(statuses)} <= {200, 409}
