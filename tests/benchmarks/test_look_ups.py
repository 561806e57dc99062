"""What is timed of look-ups and of histories in requests: legal histories, and every figure with its command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.cli import main
from benchmarks.look_ups import HISTORY_ROWS, draw_history
from serving.schemas import Requests
from tests.redis_server import needs_redis
from training.settings import TrainingSettings


def test_a_drawn_history_has_so_many_rows_in_all_tables_and_fills_roll_ups(settings: TrainingSettings) -> None:
    portfolio = settings.declared
    assert portfolio.histories is not None
    requests, drawn = Requests(portfolio), draw_history(portfolio.histories, HISTORY_ROWS, np.random.default_rng(1))
    assert sum(map(len, drawn.values())) == HISTORY_ROWS
    assert set(drawn) == {table.name for table in portfolio.histories.tables}
    assert min(map(len, drawn.values())) == 8
    assert requests.histories is not None
    read = requests.histories.model.model_validate_json(json.dumps(drawn))
    values = dict(
        zip((one.name for one in portfolio.histories.columns), requests.histories.roll_up(read, 0.0), strict=True)
    )
    assert values["bureau_credits"] == len(drawn["bureau"])
    assert np.isfinite(values["bureau_late_share"])


@needs_redis
def test_every_call_is_timed_and_kept_with_its_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "look_ups.json"
    assert main(["look-ups", "--clients", "300", "--times", "200", "--output", str(output)]) == 0
    found = json.loads(output.read_text())
    assert found["command"] == "python -m benchmarks look-ups --clients 300 --times 200"
    assert {one["what"]: one["calls"] for one in found["timings"]} == {
        "look-up in SQLite": 200,
        "fill_now from SQLite": 200,
        "look-up in Redis": 200,
        "fill_now from Redis": 200,
        "request without a history": 20,
        "request with 50 rows": 20,
    }
    assert all(0 < one["median_us"] <= one["p99_us"] for one in found["timings"])
    assert capsys.readouterr().out.count("\n") == 6


def test_without_a_redis_server_redis_is_left_out_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    output = tmp_path / "look_ups.json"
    assert main(["look-ups", "--clients", "300", "--times", "100", "--output", str(output)]) == 0
    assert "redis-server is not installed: Redis is left out" in capsys.readouterr().err
    named = {one["what"] for one in json.loads(output.read_text())["timings"]}
    assert {one for one in named if "Redis" in one} == set()
    assert "look-up in SQLite" in named
