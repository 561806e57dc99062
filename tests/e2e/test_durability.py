"""The service with records that survive a power cut: every route answers, and waits for the disk.

`make records` measures what that costs, into RECORDS_RESULTS.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from statistics import median

import httpx
import pytest

from deploy.load import Load
from deploy.record import add_result
from tests.applications import applications
from tests.faults.rehearsal import address, encoded, logged, recording_service
from tests.home_credit import EXAMPLE
from training.run import Delivered

RESULTS = os.environ.get("RECORDS_RESULTS")
_SECONDS = 8.0
BODY = {"application": EXAMPLE["application"]}


def test_every_route_answers_with_a_line_that_the_disk_has(delivered: Delivered, tmp_path: Path) -> None:
    recording = {"log": {"durability": "power"}}
    with recording_service(tmp_path, delivered.tag, recording=recording) as server:
        features = httpx.get(f"{server.url}/model/info").json()["features"]
        vector = {"features": [None] * len(features)}
        bodies = {"/predict": BODY, "/predict/features": vector, "/predict/batch": {"applications": [BODY, BODY]}}
        answers = {path: httpx.post(server.url + path, json=body, timeout=60) for path, body in bodies.items()}
        assert {path: answer.status_code for path, answer in answers.items()} == dict.fromkeys(bodies, 200)
        metrics = httpx.get(f"{server.url}/metrics").text
    assert {answer.headers["x-request-id"] for answer in answers.values()} == logged(tmp_path / "log")
    assert 'credit_scoring_decision_log_failures_total{reason="unconfirmed"} 0.0' in metrics


@pytest.mark.skipif(not RESULTS, reason="`make records` measures it")
def test_what_the_disk_costs_a_request(delivered: Delivered, generated: Path, tmp_path: Path) -> None:
    bodies = [encoded(one) for one in applications(generated / "application_train.csv")[:256]]
    found = {}
    for durability in ("process", "power", "process", "power"):
        folder = tmp_path / f"{durability}-{len(found)}"
        folder.mkdir(exist_ok=True)
        recording = {"log": {"durability": durability}}
        with recording_service(folder, delivered.tag, recording=recording) as server:
            for threads in (1, 32):
                with Load(address(server), "/predict", *bodies, threads=threads, per_second=1e6) as load:
                    time.sleep(_SECONDS)
                waits = [1e3 * (one.ended - one.sent) for one in load.outcomes if one.answered and one.sent]
                figures = {"answered_per_second": round(len(waits) / _SECONDS), "median_ms": round(median(waits), 2)}
                found[f"{durability}, {threads} callers"] = figures
    add_result(Path(str(RESULTS)), "make records", "durability", json.loads(json.dumps(found)))
