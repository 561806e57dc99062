"""Request metrics of several workers, which prometheus_client keeps in files: each worker here is a process."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
WORKER = """
import asyncio, os
from serving.request_metrics import Traffic

async def work():
    traffic = Traffic([0.5, 1.0])
    for _ in range(3):
        traffic.begin("/predict").end(200, 0.25)
    traffic.begin("/predict")
    traffic.begin("/secret/path").end(404, 0.75)
    traffic.batch(4, 0.002)
    traffic.tallies.publish()
    os.kill(os.getpid(), 9)

asyncio.run(work())
"""
SCRAPE = """
import os
from serving.request_metrics import Exposition
print(Exposition(os.environ["PROMETHEUS_MULTIPROC_DIR"]).text().decode())
"""


def run(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder)}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, check=False, cwd=ROOT, env=environment, capture_output=True, text=True)


def test_workers_are_added_up_and_one_that_was_killed_has_nothing_in_progress(tmp_path: Path) -> None:
    for _ in range(2):
        assert run(WORKER, tmp_path).returncode == -9
    exposed = run(SCRAPE, tmp_path).stdout
    labels = r'service_name="[^"]*",service_version="[^"]*"'

    def value(name: str, endpoint: str, *more: str) -> list[str]:
        pattern = rf'^{name}{{endpoint="{endpoint}",{"".join(more)}runner_name="[^"]*",{labels}}} (\S+)$'
        return re.findall(pattern, exposed, re.MULTILINE)

    ok, absent = 'http_response_code="200",', 'http_response_code="404",'
    assert value("bentoml_service_request_total", "/predict", ok) == ["6.0"]
    assert value("bentoml_service_request_total", "other", absent) == ["2.0"]
    assert value("bentoml_service_request_duration_seconds_sum", "/predict", ok) == ["1.5"]
    assert value("bentoml_service_request_in_progress", "/predict") == []
    assert "credit_scoring_batch_size_sum 8.0" in exposed
    assert "secret" not in exposed


def test_a_route_that_nobody_has_asked_counts_from_zero(tmp_path: Path) -> None:
    run("from serving.request_metrics import Traffic; Traffic([1.0])", tmp_path)
    exposed = run(SCRAPE, tmp_path).stdout
    for path in ("/predict", "/predict/batch", "/predict/features", "/explain"):
        assert re.search(rf'^bentoml_service_request_total{{endpoint="{path}",.*}} 0.0$', exposed, re.MULTILINE)
