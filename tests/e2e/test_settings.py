"""The service under other settings than those it comes with."""

from __future__ import annotations

import time

import httpx
import pytest

from decision_log.segments import Listing, read_lines
from tests.home_credit import EXAMPLE
from tests.server import Server, serve_with
from training.run import Delivered

BATCH = {"applications": [EXAMPLE] * 3}
LOGGED = {"logging": {"access": {"enabled": True}}}


def probabilities(server: Server) -> list[float]:
    single = httpx.post(f"{server.url}/predict", json=EXAMPLE, timeout=600).json()
    batch = httpx.post(f"{server.url}/predict/batch", json=BATCH, timeout=600).json()
    return [decision["probability"] for decision in (single, *batch["results"])]


def test_a_model_in_a_service_of_its_own_gives_the_same_decisions(
    delivered: Delivered, server: Server, tmp_path_factory: pytest.TempPathFactory
) -> None:
    changes = {"model": delivered.tag, "runner": {"placement": "service"}, "bentoml": {"workers": 2}}
    folder = tmp_path_factory.mktemp("placement")
    log = {"DECISION_LOG_DIR": str(folder / "log"), "DECISION_LOG_KEY": "0123456789abcdef" * 4}
    with serve_with(folder, changes, log) as placed:
        given = probabilities(placed)
        assert given == probabilities(server)
        lines = [line for path in Listing.of(folder / "log").open for line in read_lines(path)]
        assert [line["probability"] for line in sorted(lines, key=lambda line: (line["route"], line["index"]))] == given
        deadline = time.monotonic() + 600  # another worker may be asked, which tells what was published
        while "credit_scoring_batch_size_count 1.0" not in (metrics := httpx.get(f"{placed.url}/metrics").text):
            assert time.monotonic() < deadline
        assert 'endpoint="/margins"' in metrics


def test_inside_bentoml_the_boundary_leaves_a_line_of_access_log_without_values(
    delivered: Delivered, server: Server, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert "/predict" not in server.logged
    changes = {"model": delivered.tag, "boundary": "innermost", "bentoml": LOGGED}
    with serve_with(tmp_path_factory.mktemp("innermost"), changes) as inner:
        assert probabilities(inner) == probabilities(server)
        assert httpx.post(f"{inner.url}/predict", json={}).status_code == 422
    lines = [line for line in inner.logged.splitlines() if "/predict" in line]
    assert len(lines) == 3
    assert str(EXAMPLE["application"]["AMT_CREDIT"]) not in inner.logged
