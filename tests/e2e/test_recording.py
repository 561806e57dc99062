"""What a service with two workers records: nothing is lost, nothing is doubled, nothing is told that must not be."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml

from decision_log.format import vectors
from decision_log.segments import Listing, read_lines
from monitoring.cli import main
from scoring.drift_reference import Window
from scoring.store import StoredModel
from tests.home_credit import EXAMPLE
from tests.server import ROOT, Server, serve_with
from tests.workers import workers
from training.run import Delivered

KEY = "0123456789abcdef" * 4
CLIENT = "client-S3CR3T"
AMOUNT = 918273.5
REQUEST = {"client_id": CLIENT, "application": {**EXAMPLE["application"], "AMT_CREDIT": AMOUNT}}
ENDPOINTS = {
    "/", "/decide", "/decisions/{request_id}/override", "/docs.json", "/drift", "/explain", "/health", "/healthz",
    "/livez", "/model/info", "/predict", "/predict/batch", "/predict/features", "/readyz", "other",
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("recording")


@pytest.fixture(scope="module")
def server(delivered: Delivered, folder: Path) -> Iterator[Server]:
    """Two workers that record into small segments and judge a window after 300 applications."""
    settings = yaml.safe_load((ROOT / "configs" / "monitoring.yaml").read_text())
    settings["recording"]["log"]["segment_bytes"] = 1 << 18
    settings["recording"]["window"] = {"rows": 300, "seconds": 3600, "at_least_seconds": 0}
    (folder / "monitoring.yaml").write_text(yaml.safe_dump(settings))
    environment = {
        "CREDIT_SCORING_MONITORING": str(folder / "monitoring.yaml"),
        "DECISION_LOG_DIR": str(folder / "log"),
        "DECISION_LOG_KEY": KEY,
    }
    changes = {"model": delivered.tag, "bentoml": {"workers": 2}}
    with serve_with(folder, changes, environment) as running:
        yield running


def lines(folder: Path) -> list[dict[str, Any]]:
    return [line for path in Listing.of(folder / "log").open for line in read_lines(path)]


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 600
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def drift(server: Server) -> dict[str, Any]:
    return dict(httpx.get(f"{server.url}/drift", timeout=600).json())


def assert_counts_are_those_of_the_log(server: Server, folder: Path, stored: StoredModel) -> None:
    written = lines(folder)
    eventually(lambda: drift(server)["rows"] == len(written))
    reference = stored.scorer.artefact.reference
    window = Window.of(reference, vectors(written), np.array([line["probability"] for line in written]))
    told = drift(server)
    assert told["probability"] == window.probability.tolist()
    for name, counts in reference.by_feature(window.features).items():
        assert told["features"][name] == counts.tolist()


def test_every_route_leaves_its_lines(server: Server, folder: Path, stored: StoredModel) -> None:
    with httpx.Client(base_url=server.url, timeout=600) as http:
        single = http.post("/predict", json=REQUEST).json()
        vector = {"features": [None] * len(stored.scorer.features)}
        features = http.post("/predict/features", json=vector).json()
        drawn = http.post("/explain", json=REQUEST, headers={"Accept": "image/svg+xml", "X-Request-ID": "drawn-1"})
        invalid = {"application": {"AMT_CREDIT": -1}}
        answer = http.post("/predict/batch", json={"applications": [REQUEST, invalid, REQUEST]})
    first, last = (answer.json()["results"][position] for position in (0, 2))
    by_place = {(line["request_id"], line["index"]): line for line in lines(folder)}
    for decision, index, route in (
        (single, 0, "/predict"),
        (features, 0, "/predict/features"),
        (first, 0, "/predict/batch"),
        (last, 2, "/predict/batch"),
    ):
        line = by_place[decision["request_id"], index]
        assert line["route"] == route
        for name in ("model_version", "probability", "prediction", "decision", "risk_level"):
            assert line[name] == decision[name]
    assert (answer.headers["x-request-id"], 1) not in by_place
    assert (drawn.headers["content-type"], by_place["drawn-1", 0]["route"]) == ("image/svg+xml", "/explain")
    assert sum(line["request_id"] == "drawn-1" for line in lines(folder)) == 1


def test_a_worker_killed_under_load_loses_no_line_of_an_answered_request(
    server: Server, folder: Path, stored: StoredModel
) -> None:
    answered: list[str] = []

    def caller(number: int) -> None:
        with httpx.Client(base_url=server.url, timeout=600) as http:
            for request in range(150):
                name = f"load-{number}-{request}"
                try:
                    answer = http.post("/predict", json=REQUEST, headers={"X-Request-ID": name})
                except httpx.TransportError:  # its worker was killed
                    continue
                if answer.status_code == 200:
                    answered.append(name)

    with ThreadPoolExecutor(8) as callers:
        for number in range(8):
            callers.submit(caller, number)
        eventually(lambda: len(answered) > 200)
        os.kill(workers(server)[0], signal.SIGKILL)
    assert len(answered) > 200
    found = [line["request_id"] for line in lines(folder)]
    assert set(answered) - set(found) == set()
    assert len(found) == len({(line["request_id"], line["index"]) for line in lines(folder)})
    eventually(lambda: len(workers(server)) == 2)
    assert_counts_are_those_of_the_log(server, folder, stored)


def test_the_drift_of_a_running_service_is_judged_from_its_counts(
    server: Server, folder: Path, stored: StoredModel, tmp_path: Path
) -> None:
    scored = len(lines(folder))
    eventually(lambda: drift(server)["rows"] == scored)
    told = tmp_path / "drift.json"
    model = f"{stored.name}:{stored.version}"
    assert main(["drift", "--live", server.url, "--model", model, "--json", str(told)]) == 3  # one application, again
    assert json.loads(told.read_text())["rows"] == scored


def test_the_metrics_are_those_of_both_workers(server: Server, folder: Path, stored: StoredModel) -> None:
    eventually(lambda: drift(server)["window"] is not None)
    metrics = httpx.get(f"{server.url}/metrics", timeout=600).text
    digest, version = stored.scorer.artefact.digest, re.escape(stored.version)
    for pattern in (
        rf'credit_scoring_applications_total{{model_version="{version}"}} [1-9]',
        r'credit_scoring_requests_total{endpoint="/predict",status="200"} [1-9]',
        r'credit_scoring_response_seconds_bucket{endpoint="/predict",le="0.0005"} ',
        rf'credit_scoring_decisions_total{{decision="\w+",model_version="{version}",risk_level="\w+"}} [1-9]',
        r"credit_scoring_probability_count [1-9]",
        r"credit_scoring_decision_log_lines_total [1-9]",
        r'credit_scoring_decision_log_failures_total{reason="no_space"} 0.0',
        r"credit_scoring_decision_log_segment_age_seconds \d",
        rf'credit_scoring_model_info{{digest="{digest}",model="[\w-]+",portfolio="\w+",version="{version}"}} 1.0',
        r"credit_scoring_default_rate 0\.\d",
        r'credit_scoring_drift_psi{feature="EXT_SOURCE_2"} \d',
        r"credit_scoring_drift_score_psi \d",
        r"credit_scoring_drifted_features [1-9]",
        r"credit_scoring_drift_window_rows \d{3}",
        r'credit_scoring_feature_missing_ratio{feature="EXT_SOURCE_2"} \d',
        r'credit_scoring_feature_unseen_ratio{feature="ORGANIZATION_TYPE"} 0.0',
    ):
        assert re.search(f"^{pattern}", metrics, re.MULTILINE), pattern


def test_two_decisions_with_one_request_id_are_told_apart_by_their_times(server: Server, folder: Path) -> None:
    """The caller chooses the id; nothing is refused, since a request may be sent again after a timeout."""
    doubled = {"X-Request-ID": "chosen-twice"}
    answers = [httpx.post(f"{server.url}/predict", json=asked, headers=doubled).json() for asked in (REQUEST, EXAMPLE)]
    assert {answer["request_id"] for answer in answers} == {"chosen-twice"}
    written = sorted(
        (line for line in lines(folder) if line["request_id"] == "chosen-twice"), key=lambda line: line["time"]
    )
    assert [line["probability"] for line in written] == [answer["probability"] for answer in answers]
    assert [line["index"] for line in written] == [0, 0]
    first, second = (datetime.fromisoformat(line["time"]) for line in written)
    assert first < second


def test_hostile_addresses_make_no_labels(server: Server) -> None:
    with httpx.Client(base_url=server.url, timeout=600) as http:
        for path in ("/.env", "/predict/../admin", "/predict/", "/%00", "/a" * 500, "/predict?x=1", "/metrics/x"):
            http.get(path)
            http.request("BREW", path)
        found = set(re.findall(r'^credit_scoring_\w+{.*?endpoint="([^"]*)"', http.get("/metrics").text, re.MULTILINE))
    assert found <= ENDPOINTS


def test_neither_client_ids_nor_raw_values_are_written_anywhere(server: Server, folder: Path) -> None:
    metrics = httpx.get(f"{server.url}/metrics", timeout=600).content
    written = [path.read_bytes() for path in (folder / "log" / "open").iterdir()]
    assert len(written) > 1
    for content in (*written, metrics, server.log.read_bytes()):
        for secret in (CLIENT.encode(), str(AMOUNT).encode(), b"Cash loans"):
            assert secret not in content


def test_a_clean_stop_leaves_counts_that_are_a_direct_count_of_the_log(
    server: Server, folder: Path, home: Path, stored: StoredModel
) -> None:
    from decision_log.segments import WorkerId
    from monitoring.counts import SharedCounts

    digest, reference = stored.scorer.artefact.digest, stored.scorer.artefact.reference
    (shared,) = (home / "credit_scoring_services").glob(f"{server.pid}-*")
    counts = folder / "counts"
    counts.mkdir()
    for file in (shared / f"counts-{digest[:12]}").iterdir():  # the folder goes with the service
        os.link(file, counts / file.name)
    server.process.terminate()
    server.process.wait(600)
    assert not shared.exists()
    board = SharedCounts(counts, WorkerId("later", "host", 1), reference, log=None, days=7)
    written = lines(folder)
    expected = Window.of(reference, vectors(written), np.array([line["probability"] for line in written]))
    total = board.total().window
    board.close()
    assert total.features.tolist() == expected.features.tolist()
    assert total.probability.tolist() == expected.probability.tolist()


@pytest.mark.parametrize("key", [None, "changeme"])
def test_without_a_real_key_a_service_with_a_log_does_not_start(
    delivered: Delivered, tmp_path: Path, key: str | None
) -> None:
    environment = {"DECISION_LOG_DIR": str(tmp_path / "log")} | ({"DECISION_LOG_KEY": key} if key else {})
    with (
        pytest.raises(RuntimeError, match=r"DECISION_LOG_KEY .*must be 64 random hexadecimal digits"),
        serve_with(tmp_path, {"model": delivered.tag}, environment),
    ):
        pass
    assert not (tmp_path / "log").exists()


def test_where_no_log_can_be_kept_the_service_ends_before_it_starts_a_worker(
    delivered: Delivered, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    environment = {"DECISION_LOG_DIR": str(tmp_path / "file"), "DECISION_LOG_KEY": KEY}
    with (
        pytest.raises(RuntimeError, match="no decision log can be kept there") as failed,
        serve_with(tmp_path, {"model": delivered.tag}, environment),
    ):
        pass
    assert "Traceback" not in str(failed.value)
