"""Who is admitted to what, at the boundary."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from starlette.types import Message

from scoring.keys import Scope
from serving.app import Boundary, ScoringRoute
from serving.authentication import Guard, Keyring, count_applications
from serving.problems import HTTPProblem
from serving.request_metrics import Traffic
from serving.settings import AccessSettings
from tests.keys import Keys
from tests.serving.test_boundary import LIMITS

SETTINGS = AccessSettings(open=("/livez",), requests_per_second=1, burst_seconds=3, reload_seconds=1)


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    made = Keys(tmp_path / "keys.yaml")
    for scope in Scope:
        made.create(scope.value, scope)
    return made


@pytest.fixture
def guard(keys: Keys) -> Iterator[Guard]:
    keyring = Keyring(keys.path, SETTINGS, registry=CollectorRegistry())
    yield Guard(SETTINGS, keyring)
    keyring.close()


def refusal(guard: Guard, path: str, *headers: tuple[bytes, bytes]) -> int | None:
    """The status of the problem; None where the request is admitted."""
    try:
        guard.admit({"path": path, "headers": [(b"host", b"localhost"), *headers]})
    except HTTPProblem as problem:
        return problem.status.value
    return None


def api_key(secret: str) -> tuple[bytes, bytes]:
    return b"x-api-key", secret.encode()


@pytest.mark.parametrize(
    ("path", "scope"),
    [
        ("/predict", "predict"),
        ("/predict/batch", "predict"),
        ("/predict/features", "predict"),
        ("/model/info", "predict"),
        ("/schema.json", "predict"),
        ("/metrics", "admin"),
        ("/drift", "admin"),
        ("/docs.json", "admin"),
        ("/", "admin"),
        ("/static_content/swagger-ui.css", "admin"),
        ("/predict/", "admin"),
        ("//predict", "admin"),
        ("/livez/", "admin"),
        ("/livez/../metrics", "admin"),
        ("/explain", "explain"),
        ("/decide", "admin"),
        ("/explain/", "admin"),
        ("/decisions/r-1/override", "override"),
        ("/decisions/r-1/override/", "admin"),
        ("/decisions/r/1/override", "admin"),
        ("/decisions//override", "admin"),
        ("/decisions/r-1", "admin"),
        ("", "admin"),
    ],
)
def test_every_path_needs_one_scope_and_what_is_not_listed_needs_admin(
    guard: Guard, keys: Keys, path: str, scope: str
) -> None:
    answers = {name: refusal(guard, path, api_key(secret)) for name, secret in keys.secrets.items()}
    assert answers == {name: None if name == scope else 403 for name in ("predict", "explain", "override", "admin")}
    assert refusal(guard, path) == 401


def test_an_open_path_needs_none(guard: Guard) -> None:
    assert refusal(guard, "/livez") is None
    assert refusal(guard, "/livez", api_key("wrong")) is None


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_a_key_may_come_as_bearer_token(guard: Guard, keys: Keys, scheme: str) -> None:
    value = f"{scheme} {keys.secrets['predict']}".encode()
    assert refusal(guard, "/predict", (b"authorization", value)) is None


@pytest.mark.parametrize("name", [b"x-api-key", b"authorization"])
@pytest.mark.parametrize(
    "value",
    [
        b"", b" ", b"Bearer", b"Bearer ", b"Basic dXNlcjpwYXNz", b"\xff\xfe\x00", "ключ".encode(), b"x" * 1_000_000,
        b"\x00" * 81, b"csk_" + b"0" * 77, b"csk_000000000000_" + b"\xff" * 64,
    ],
)  # fmt: skip
def test_hostile_values_are_unknown_keys(guard: Guard, name: bytes, value: bytes) -> None:
    assert refusal(guard, "/predict", (name, value)) == 401


def test_a_key_that_is_sent_twice_is_refused_even_if_it_is_right(guard: Guard, keys: Keys) -> None:
    right = api_key(keys.secrets["predict"])
    bearer = (b"authorization", b"Bearer " + right[1])
    for pair in ((right, right), (right, bearer), (right, api_key("wrong")), (api_key(""), right)):
        assert refusal(guard, "/predict", *pair) == 401


def test_a_key_that_is_used_too_often_is_refused_alone_and_told_when_to_return(
    guard: Guard, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.authentication.monotonic", lambda: 1_000.0)
    answers = [refusal(guard, "/predict", api_key(keys.secrets["predict"])) for _ in range(4)]
    assert answers == [None, None, None, 429]
    assert refusal(guard, "/metrics", api_key(keys.secrets["admin"])) is None
    with pytest.raises(HTTPProblem) as told:
        guard.admit({"path": "/predict", "headers": [api_key(keys.secrets["predict"])]})
    assert told.value.headers == {"Retry-After": "1"}
    monkeypatch.setattr("serving.authentication.monotonic", lambda: 1_001.0)
    assert refusal(guard, "/predict", api_key(keys.secrets["predict"])) is None


def test_every_application_of_a_batch_counts_for_its_key_alone(
    guard: Guard, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(name: str, applications: int) -> int | None:
        refused = refusal(guard, "/predict/batch", api_key(keys.secrets[name]))
        if refused is None:
            count_applications(applications)
        return refused

    monkeypatch.setattr("serving.authentication.monotonic", lambda: 1_000.0)
    assert contextvars.copy_context().run(asked, "predict", 1_000) is None
    assert contextvars.copy_context().run(asked, "predict", 1) == 429
    assert refusal(guard, "/metrics", api_key(keys.secrets["admin"])) is None


def test_without_a_key_nobody_pays() -> None:
    contextvars.Context().run(count_applications, 1_000)


def test_without_keys_everything_is_admitted() -> None:
    assert refusal(Guard(SETTINGS, None), "/metrics") is None


def test_no_refusal_shows_what_was_presented(guard: Guard, keys: Keys) -> None:
    for secret in ("S3CR3T-VALUE", keys.secrets["explain"]):
        with pytest.raises(HTTPProblem) as told:
            guard.admit({"path": "/predict", "headers": [api_key(secret)]})
        assert secret not in f"{told.value.content('r')}{told.value.headers}"


def test_a_web_socket_is_closed_before_anybody_sees_it() -> None:
    sent: list[Message] = []

    async def application(*_: Any) -> None:
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def answer(_: bytes) -> bytes:
        return b""

    guard = Guard(SETTINGS, None)
    routes = {"/predict": ScoringRoute(answer, 1, 1)}
    boundary = Boundary(application, LIMITS, guard, Traffic([1], registry=CollectorRegistry()), lambda: routes)
    asyncio.run(boundary({"type": "websocket", "path": "/livez", "headers": []}, receive, send))
    assert sent == [{"type": "websocket.close"}]


def test_a_refusal_leaves_a_line_without_key_or_unknown_path(
    guard: Guard, keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    peer = {"client": ("10.1.2.3", 4711)}
    wrong = "csk_" + "0" * 77
    for path, secret in (("/predict", wrong), ("/secret/path", wrong), ("/metrics", keys.secrets["predict"])):
        with pytest.raises(HTTPProblem):
            guard.admit({"path": path, "headers": [api_key(secret)], **peer})
    told = [record.getMessage() for record in caplog.records]
    holder = next(f"predict ({key.id})" for key in keys.file().keys if key.name == "predict")
    assert [line.partition(", request ")[0] for line in told] == [
        "refused with 401: /predict from 10.1.2.3, key: none that is known",
        "refused with 401: other from 10.1.2.3, key: none that is known",
        f"refused with 403: /metrics from 10.1.2.3, key: {holder}",
    ]
    assert not any(secret in caplog.text for secret in (wrong, "secret/path", *keys.secrets.values()))


def test_many_refusals_leave_few_lines_and_the_number_of_the_others(
    guard: Guard, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("serving.authentication.monotonic", lambda: now)
    for _ in range(50):
        assert refusal(guard, "/predict") == 401
    assert len(caplog.records) == 8
    now = 200.0
    assert refusal(guard, "/predict") == 401
    assert caplog.records[-1].getMessage().endswith("; 42 more not logged since the last line")


def test_a_key_that_is_used_too_often_is_named(guard: Guard, keys: Keys, caplog: pytest.LogCaptureFixture) -> None:
    statuses = [refusal(guard, "/predict", api_key(keys.secrets["predict"])) for _ in range(4)]
    assert statuses == [None, None, None, 429]
    assert caplog.records[-1].getMessage().startswith("refused with 429: /predict from unknown, key: predict (")
