"""Hostile requests are answered, never with a 5xx, a stack trace or an applicant's value.

A slice of what `make fuzz` sends, which counts what came back into a file.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy

from scoring.keys import Scope
from tests.e2e.fuzzing import MARK, NUMBER, Findings, hostile, send, values_in
from tests.keys import Keys
from tests.server import Server, serve_with
from training.run import Delivered

REQUESTS = int(os.environ.get("FUZZ_REQUESTS", "1500"))
RESULTS = os.environ.get("FUZZ_RESULTS")
GENERATED_SHARE = 0.1
"""Of the requests, made by schemathesis; those made by hand are a good deal cheaper."""
_REFUSED = re.compile(
    r"unreadable request from 127\.0\.0\.1: [\w ,./-]+ \(\d+ more since the last line\)$"
    r"|refused with 4(?:01|03|29): [\w/.]+ from 127\.0\.0\.1, key: [\w ()-]+, request [\w.:-]+;"
    r" \d+ more not logged since the last line$"
)
SEED = 20261122


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("fuzz-keys") / "keys.yaml")


@pytest.fixture(scope="module")
def server(delivered: Delivered, keys: Keys, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    keys.create("fuzz", *Scope, requests_per_second=1e6)
    with serve_with(tmp_path_factory.mktemp("fuzz"), {"model": delivered.tag}, keys.environment) as running:
        yield running


@pytest.fixture(scope="module")
def results() -> Iterator[dict[str, Any]]:
    """What the tests of this module found, written where FUZZ_RESULTS says."""
    found: dict[str, Any] = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": f"make fuzz FUZZ_REQUESTS={REQUESTS}",
        "seed": SEED,
    }
    yield found
    if RESULTS:
        Path(RESULTS).write_text(json.dumps(found, indent=2) + "\n")


def assert_unharmed(server: Server, findings: Findings, before: str) -> None:
    """Nothing was wrong with the answers, and nothing was logged but what was refused."""
    assert findings.faults == []
    lines = server.logged.removeprefix(before).splitlines()
    assert [line for line in lines if not _REFUSED.search(line)] == []
    assert httpx.get(f"{server.url}/readyz").status_code == 200


@pytest.mark.parametrize(
    ("status", "answer"),
    [(500, b"{}"), (200, MARK.encode()), (422, NUMBER.encode()), (400, b"Traceback"), (422, b"Tom Sawyer said")],
)
def test_what_must_not_be_is_noticed(status: int, answer: bytes) -> None:
    findings = Findings()
    findings.note(
        status,
        answer,
        "x",
        values_in({"application": {"A": ["Tom Sawyer"], "B": "Huckleberry"}, "client_id": "Huckleberry"}),
    )
    findings.note(200, b"Huckleberry", "y")
    assert len(findings.faults) == 1


def test_requests_made_by_hand(server: Server, keys: Keys, results: dict[str, Any]) -> None:
    info = httpx.get(f"{server.url}/model/info", headers={"X-API-Key": keys.secrets["fuzz"]}).json()
    categories = [name in info["categories"] for name in info["features"]]
    findings, kinds, begun, before = Findings(), Counter[str](), time.monotonic(), server.logged
    of_vectors = set()
    count = round(REQUESTS * (1 - GENERATED_SHARE))
    with closing(HTTPConnection(urlsplit(server.url).netloc, timeout=600)) as connection:
        for request in itertools.islice(hostile(SEED, keys.secrets["fuzz"], categories), count):
            kinds[request.kind] += 1
            status = send(connection, request, findings)
            if request.kind == "vector":
                of_vectors.add(status)
    results["by_hand"] = _summary(findings, begun) | {"kinds": dict(sorted(kinds.items()))}
    assert sum(findings.statuses.values()) == count
    assert {200, 401, 404, 405, 415, 422} <= set(findings.statuses)
    assert of_vectors == {200, 422}
    assert_unharmed(server, findings, before)


def test_requests_made_from_the_openapi_document(server: Server, keys: Keys, results: dict[str, Any]) -> None:
    schemathesis = pytest.importorskip("schemathesis")
    key = {"X-API-Key": keys.secrets["fuzz"]}
    document = httpx.get(f"{server.url}/docs.json", headers=key).json()
    posts = {path: dict(item["post"]) for path, item in document["paths"].items() if "post" in item}
    scoring = {path: {"post": {**post, "security": []}} for path, post in posts.items()}  # every request has the key
    schema = schemathesis.openapi.from_dict({**document, "paths": scoring})
    modes = list(schemathesis.GenerationMode)
    findings, begun, before = Findings(), time.monotonic(), server.logged
    each = max(1, round(REQUESTS * GENERATED_SHARE / len(scoring) / len(modes)))
    with httpx.Client(base_url=server.url, timeout=600) as http:
        for path, mode in itertools.product(scoring, modes):
            declared = {int(status) for status in scoring[path]["post"]["responses"]}
            cases = schema[path]["POST"].as_strategy(generation_mode=mode)
            for_all(cases, each, partial(ask, http, path, key, declared, findings))
    results["by_schemathesis"] = _summary(findings, begun) | {"version": schemathesis.__version__}
    assert 200 in findings.statuses
    assert_unharmed(server, findings, before)


def for_all(cases: SearchStrategy[Any], count: int, check: Callable[[Any], None]) -> None:
    """Check so many cases."""

    @seed(SEED)
    @settings(
        max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )  # fmt: skip
    @given(cases)
    def checked(case: Any) -> None:
        check(case)

    checked()


def ask(http: httpx.Client, path: str, key: dict[str, str], declared: set[int], findings: Findings, case: Any) -> None:
    sent = case.as_transport_kwargs(base_url=str(http.base_url), headers=key)
    answer = http.post(path, headers=dict(sent["headers"]), json=sent.get("json"), content=sent.get("data"))
    findings.note(answer.status_code, answer.content, f"POST {path}", values_in(case.body))
    if answer.status_code not in declared:
        findings.faults.append(f"{answer.status_code} to POST {path} is not declared")


def _summary(findings: Findings, begun: float) -> dict[str, Any]:
    statuses = {str(status): count for status, count in sorted(findings.statuses.items())}
    faults = sorted(set(findings.faults))
    return {
        "requests": sum(findings.statuses.values()),
        "seconds": round(time.monotonic() - begun),
        "statuses": statuses,
        "faults": faults,
    }
