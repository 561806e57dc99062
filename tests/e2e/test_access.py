"""Who is answered by the real service, and who is not."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bentoml
import httpx
import pytest
from bentoml.exceptions import BentoMLException
from credit_scoring_client.client import Client
from credit_scoring_client.errors import Overloaded, Unauthorized
from credit_scoring_client.retry import Retry

from decision_log.errors import SourceError
from monitoring.sources import window_of_services
from scoring.keys import Scope, revoke_key
from scoring.store import StoredModel
from serving.schemas import ProblemDocument
from tests.broken_files import mend, put
from tests.home_credit import EXAMPLE
from tests.keys import Keys
from tests.server import ROOT, Server, free_port, serve_with
from training.run import Delivered

UNDOCUMENTED = {
    "/metrics": "admin",
    "/docs.json": "admin",
    "/": "admin",
    "/static_content/swagger-ui.css": "admin",
    "/schema.json": "predict",
    "/nothing": "admin",
}
PROBES = ("/livez", "/readyz", "/health", "/healthz")
ACCESS = {"reload_seconds": 0.2}


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    made = Keys(tmp_path_factory.mktemp("keys") / "keys.yaml")
    for scope in Scope:
        made.create(scope.value, scope, requests_per_second=1e6)
    made.create("batches", Scope.PREDICT, requests_per_second=0.01)
    made.create("slow", Scope.PREDICT, requests_per_second=0.1)
    made.create("revoked", *Scope)
    made.revoke("revoked")
    return made


@pytest.fixture(scope="module")
def server(delivered: Delivered, keys: Keys, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    changes = {"model": delivered.tag, "access": ACCESS}
    with serve_with(tmp_path_factory.mktemp("access"), changes, keys.environment) as running:
        yield running


@pytest.fixture(scope="module")
def http(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=600) as client:
        yield client


def assert_refused(answer: httpx.Response, status: int) -> None:
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    problem = ProblemDocument.model_validate_json(answer.content)
    assert (problem.status, problem.request_id) == (status, answer.headers["x-request-id"])
    assert ("www-authenticate" in answer.headers) == (status == 401)


def routes(http: httpx.Client, keys: Keys) -> Iterator[tuple[str, str, list[str]]]:
    """Method and path of every documented and undocumented route, and the scopes with which it is answered."""
    document = http.get("/docs.json", headers={"X-API-Key": keys.secrets["admin"]}).json()
    for path, item in document["paths"].items():
        for method, operation in item.items():
            scopes = {"/drift": "admin", "/explain": "explain", "/decisions/{request_id}/override": "override"}
            scope = scopes.get(path, "predict")
            yield method.upper(), path.format(request_id="r-1"), [scope] if operation["security"] else []
    yield from (("GET", path, [scope]) for path, scope in UNDOCUMENTED.items())


def test_every_route_refuses_no_key_a_wrong_one_a_revoked_one_and_a_too_narrow_one(
    http: httpx.Client, keys: Keys
) -> None:
    asked = list(routes(http, keys))
    assert {path for _, path, _ in asked} >= {
        "/predict",
        "/predict/batch",
        "/predict/features",
        "/model/info",
        "/drift",
    }
    for method, path, scopes in asked:
        if not scopes:
            assert (path, http.request(method, path).status_code) == ("/health", 200)
            continue
        for headers in (
            {},
            {"X-API-Key": "wrong"},
            {"X-API-Key": keys.secrets["revoked"]},
            {"Authorization": f"Bearer {keys.secrets['revoked']}"},
            {"Authorization": f"Basic {keys.secrets[scopes[0]]}"},
        ):
            assert_refused(http.request(method, path, headers=headers, json={}), 401)
        for name in set(Scope) - set(scopes):
            assert_refused(http.request(method, path, headers={"X-API-Key": keys.secrets[name]}, json={}), 403)
        answer = http.request(method, path, headers={"X-API-Key": keys.secrets[scopes[0]]})
        assert answer.status_code not in (401, 403)


def test_a_key_pays_for_every_application_of_a_batch(http: httpx.Client, keys: Keys) -> None:
    headers = {"X-API-Key": keys.secrets["batches"]}
    batch = {"applications": [EXAMPLE] * 20}
    answer = http.post("/predict/batch", headers=headers, json=batch)
    assert (answer.status_code, len(answer.json()["results"])) == (200, 20)
    refused = http.post("/predict", headers=headers, json=EXAMPLE)
    assert_refused(refused, 429)
    assert int(refused.headers["retry-after"]) > 1_000  # 20 at a hundred seconds each, less what the test has taken


def test_the_probes_need_no_key(http: httpx.Client) -> None:
    assert [http.get(path).status_code for path in PROBES] == [200] * len(PROBES)


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "TRACE"])
def test_no_method_is_a_way_round(http: httpx.Client, method: str) -> None:
    assert [http.request(method, path).status_code for path in ("/predict", "/metrics", "/")] == [401] * 3


def test_the_document_says_how_to_send_a_key_and_what_is_refused(http: httpx.Client, keys: Keys) -> None:
    document = http.get("/docs.json", headers={"X-API-Key": keys.secrets["admin"]}).json()
    assert set(document["components"]["securitySchemes"]) == {"apiKey", "bearer"}
    for path, item in document["paths"].items():
        (operation,) = item.values()
        refusals = {status for status in operation["responses"] if status in ("401", "403", "429")}
        assert refusals == (set() if path == "/health" else {"401", "403", "429"})
        assert operation["security"] == ([] if path == "/health" else [{"apiKey": []}, {"bearer": []}])


def test_both_clients_send_their_key(server: Server, keys: Keys) -> None:
    secret = keys.secrets["predict"]
    with Client(server.url, api_key=secret) as typed, bentoml.SyncHTTPClient(server.url, token=secret) as stock:
        probability = typed.predict(EXAMPLE["application"]).probability
        assert stock.predict(**EXAMPLE)["probability"] == probability
    with Client(server.url, api_key=keys.secrets["admin"]) as typed, pytest.raises(Unauthorized) as refusal:
        typed.predict(EXAMPLE["application"])
    assert (refusal.value.status, refusal.value.detail) == (403, "The API key lacks the scope predict.")
    with pytest.raises(BentoMLException, match="Failed to fetch schema"):
        bentoml.SyncHTTPClient(server.url, token=keys.secrets["revoked"])


def test_a_key_used_too_often_is_told_when_to_come_back(server: Server, http: httpx.Client, keys: Keys) -> None:
    slow = {"X-API-Key": keys.secrets["slow"]}
    assert http.get("/model/info", headers=slow).status_code == 200
    refused = http.get("/model/info", headers=slow)
    assert_refused(refused, 429)
    assert 1 <= int(refused.headers["retry-after"]) <= 10
    with Client(server.url, api_key=keys.secrets["slow"], retry=Retry(attempts=1)) as client:
        with pytest.raises(Overloaded) as told:
            client.model_info()
        assert told.value.status == 429
    assert http.get("/model/info", headers={"X-API-Key": keys.secrets["predict"]}).status_code == 200


def test_the_drift_command_sends_its_key(
    server: Server, keys: Keys, stored: StoredModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SourceError, match=r"401 Unauthorized\): set CREDIT_SCORING_API_KEY"):
        window_of_services([server.url], stored.scorer.artefact)
    monkeypatch.setenv("CREDIT_SCORING_API_KEY", keys.secrets["admin"])
    assert window_of_services([server.url], stored.scorer.artefact)[0].rows >= 0


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 600
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_keys_come_and_go_without_a_restart(http: httpx.Client, keys: Keys) -> None:
    def status(name: str) -> int:
        return http.get("/model/info", headers={"X-API-Key": keys.secrets[name]}).status_code

    keys.create("later", Scope.PREDICT)
    eventually(lambda: status("later") == 200)
    keys.revoke("later")
    eventually(lambda: status("later") == 401)
    assert status("predict") == 200


def stale(http: httpx.Client, keys: Keys) -> str:
    metrics = http.get("/metrics", headers={"X-API-Key": keys.secrets["admin"]}).text
    return metrics.partition("\ncredit_scoring_keys_stale ")[2].partition("\n")[0]


@pytest.mark.parametrize("kind", ["a row cut off", "a pipe", "a folder"])
def test_a_broken_file_leaves_the_keys_and_is_told_and_a_mended_one_revokes(
    server: Server, http: httpx.Client, keys: Keys, kind: str
) -> None:
    """`make faults` measures how long it takes, with every kind."""
    name = f"leaving-after-{kind.replace(' ', '-')}"
    headers = {"X-API-Key": keys.create(name, Scope.PREDICT)}
    eventually(lambda: http.get("/model/info", headers=headers).status_code == 200)
    good = Path(shutil.copy2(keys.path, keys.path.with_name("spare")))
    revoke_key(good, name)
    before = server.logged.count("the keys in force stay")
    put(kind, keys.path)
    eventually(lambda: stale(http, keys) == "1.0")
    assert server.logged.count("the keys in force stay") > before
    assert http.get("/model/info", headers=headers).status_code == 200
    mend(keys.path, good)
    eventually(lambda: http.get("/model/info", headers=headers).status_code == 401)
    eventually(lambda: stale(http, keys) == "0.0")
    assert http.get("/model/info", headers={"X-API-Key": keys.secrets["predict"]}).status_code == 200


def raw(server: Server, *headers: bytes) -> bytes:
    """What is answered to a request whose headers no client would send."""
    address = httpx.URL(server.url)
    lines = [b"GET /model/info HTTP/1.1", b"Host: localhost", b"Connection: close", *headers, b"", b""]
    with socket.create_connection((address.host, address.port or 80), timeout=600) as connection:
        connection.sendall(b"\r\n".join(lines))
        return b"".join(iter(lambda: connection.recv(65_536), b"")).partition(b"\r\n")[0]


@pytest.mark.parametrize(
    "headers",
    [
        [b"X-API-Key: \xff\xfe"],
        [b"X-API-Key: " + b"x" * 30_000],
        [b"X-API-Key:"],
        [b"Authorization: Bearer \xd0\xba\xd0\xbb"],
        [b"X-API-Key: KEY", b"X-API-Key: KEY"],
        [b"X-API-Key: KEY", b"Authorization: Bearer KEY"],
        [b"X-API-Key: wrong", b"x-api-key: KEY"],
    ],
    ids=range(7),
)
def test_hostile_headers_are_refused(server: Server, keys: Keys, headers: list[bytes]) -> None:
    secret = keys.secrets["predict"].encode()
    assert raw(server, *(header.replace(b"KEY", secret) for header in headers)) == b"HTTP/1.1 401 Unauthorized"
    assert raw(server, b"X-API-Key: " + secret) == b"HTTP/1.1 200 OK"


def test_no_key_is_in_the_log_or_the_metrics(server: Server, http: httpx.Client, keys: Keys) -> None:
    for secret in keys.secrets.values():
        http.post("/predict", content=b"{", headers={"X-API-Key": secret, "X-Request-ID": secret[:4]})
        http.get(f"/nothing?key={secret}", headers={"Authorization": f"Bearer {secret}"})
    metrics = http.get("/metrics", headers={"X-API-Key": keys.secrets["admin"]}).text
    for secret in (*keys.secrets.values(), *(key.digest for key in keys.file().keys)):
        assert secret not in server.logged + metrics
        assert secret[17:] not in server.logged + metrics


def started(*options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("bentoml")), "serve", ".", "--port", str(free_port()), *options]
    variables: dict[str, Any] = {**os.environ, **environment}
    return subprocess.run(command, cwd=ROOT, env=variables, check=False, capture_output=True, text=True, timeout=600)


@pytest.mark.parametrize("options", [["--host", "0.0.0.0"], ["--host", "::"], []], ids=str)  # noqa: S104
def test_without_keys_the_service_starts_on_loopback_only(options: list[str]) -> None:
    ended = started(*options)
    assert ended.returncode == 1
    said = [line for line in ended.stderr.splitlines() if line]
    assert len(said) == 1
    assert "without API keys the service listens on loopback only, not at " in said[0]


def test_a_file_of_keys_that_cannot_be_read_stops_the_start(tmp_path: Path) -> None:
    ended = started("--host", "127.0.0.1", CREDIT_SCORING_KEYS=str(tmp_path / "none.yaml"))
    assert ended.returncode == 1
    assert ended.stderr.rstrip().endswith(f"{tmp_path / 'none.yaml'}: cannot be read (No such file or directory)")


def test_a_worker_looks_at_its_own_socket_whoever_started_it() -> None:
    """Its parent may not be the command that checks first."""
    with socket.create_server(("0.0.0.0", 0)) as listening:  # noqa: S104
        number = listening.fileno()
        command = [sys.executable, "-m", "_bentoml_impl.worker.service", ".", "--fd", str(number), "--worker-id", "1"]
        ended = subprocess.run(
            command, cwd=ROOT, pass_fds=[number], check=False, capture_output=True, text=True, timeout=600
        )
    assert ended.returncode != 0
    assert "without API keys the service listens on loopback only, not at 0.0.0.0" in ended.stderr
