"""What a real service has recorded replays bit for bit, after a restart and after another version was put in charge.

SERVED_DECISIONS says how many, and RECORDS_RESULTS where the counts go: `make records`.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx

from decision_log.closing import close
from decision_log.reader import DecisionLogReader
from decision_log.replay import Replayed, replay
from deploy.record import add_result
from scoring.scorer import with_conformance
from scoring.store import StoredModel
from tests.applications import applications
from tests.decision_log.models import kept
from tests.monitoring.test_closing import LATER, SETTINGS
from tests.server import serve_with

DECISIONS = int(os.environ.get("SERVED_DECISIONS", "300"))
RESULTS = os.environ.get("RECORDS_RESULTS")
NAME = "replayed_service"
_AT_ONCE = 20


def serve(folder: Path, bodies: Sequence[dict[str, Any]], decisions: int) -> None:
    """Serve the latest version with two workers until they have decided so often: half of it one by one."""
    environment = {"DECISION_LOG_DIR": str(folder / "log"), "DECISION_LOG_KEY": "0123456789abcdef" * 4}
    changes = {"model": NAME, "bentoml": {"workers": 2}}
    chosen = [{"client_id": str(i), "application": bodies[i % len(bodies)]} for i in range(decisions)]
    half = decisions // 2
    with serve_with(folder, changes, environment) as server, httpx.Client(base_url=server.url, timeout=600) as http:
        for body in chosen[:half]:
            assert http.post("/predict", json=body).status_code == 200
        for start in range(half, decisions, _AT_ONCE):
            answer = http.post("/predict/batch", json={"applications": chosen[start : start + _AT_ONCE]})
            assert all("probability" in one for one in answer.json()["results"])


def test_decisions_of_a_real_service_replay_bit_for_bit(stored: StoredModel, generated: Path, tmp_path: Path) -> None:
    bodies = applications(generated / "application_train.csv")
    first = stored.scorer.artefact
    stricter = replace(first.policy, refer_from=first.policy.refer_from / 2, refer_to=first.policy.cutoff)
    each, log = DECISIONS // 3, tmp_path / "log"
    with kept(NAME, first) as model:
        serve(tmp_path, bodies, each)
        assert replay(DecisionLogReader(log)) == Replayed(decisions=each)
        serve(tmp_path, bodies[::-1], each)
        with kept(NAME, with_conformance(replace(first, policy=stricter)), version="2") as second:
            serve(tmp_path, bodies, DECISIONS - 2 * each)
            assert replay(DecisionLogReader(log)) == Replayed(decisions=DECISIONS)
            close(log, SETTINGS, LATER)
            found = replay(DecisionLogReader(log))
    assert found == Replayed(decisions=DECISIONS)
    versions: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    for table in DecisionLogReader(log).tables(["model_version", "decision"]):
        versions.update(table["model_version"].to_pylist())
        kinds.update(table["decision"].to_pylist())
    assert versions == Counter({model.version: 2 * each, second.version: DECISIONS - 2 * each})
    if RESULTS:
        counts = {"decisions": DECISIONS, "replayed": found.replayed, "different": found.different}
        restarts = {"workers": 2, "starts": 3, "versions": len(versions)}
        add_result(Path(RESULTS), "make records", "replay of a service", {**counts, **restarts, "decided": dict(kinds)})
