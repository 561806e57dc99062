"""Decisions that were written before a line said what was missing, unknown and withheld are read like all others."""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from benchmarks.decisions import OUTCOMES
from decision_log.closed_segments import write_segment
from decision_log.segments import WorkerId
from monitoring.cli import main
from monitoring.counts import ScoredCounts, replay
from scoring.drift_reference import Window
from scoring.store import StoredModel
from tests.monitoring.offline.conftest import KEY
from tests.server import ROOT

WORKER = WorkerId("20260101T000000000000Z", "old", 1)
HALF = 1_500
LATER = {"missing", "unknown", "withheld"}


def old_header(digest: str, features: list[str]) -> str:
    return (
        '{"format":1,"model":"generated","model_version":"1",'
        f'"digest":"{digest}","features":{json.dumps(features)}}}\n'
    )


def old_line(row: dict[str, Any], vector: np.ndarray[Any, np.dtype[np.float64]]) -> str:
    return (
        f'{{"request_id":"{row["request_id"]}","index":{row["index"]},"time":"{row["time"]:%Y-%m-%dT%H:%M:%S.%f}Z",'
        f'"route":"/predict","model":"generated","model_version":"1","digest":"{row["digest"]}",'
        f'"client":"{row["client"].hex()}","margin":{row["margin"]!r},"probability":{row["probability"]!r},'
        f'"prediction":{row["prediction"]},"decision":"{row["decision"]}","risk_level":"{row["risk_level"]}",'
        f'"vector":"{b64encode(vector.astype("<f8").tobytes()).decode()}"}}\n'
    )


@pytest.fixture
def old(log: Path, tmp_path: Path) -> Path:
    """The same decisions as in the log: the first half closed, the second in an open segment, both of the old form."""
    (written,) = (log / "closed").glob("*.parquet")
    table = parquet.read_table(written)
    assert set(table.column_names) >= LATER
    table = table.drop_columns(list(LATER))
    for folder in ("open", "closed"):
        (tmp_path / "log" / folder).mkdir(parents=True)
    write_segment(table.slice(0, HALF), tmp_path / "log" / "closed" / f"{WORKER}-0.parquet")
    write_open(table.slice(HALF), tmp_path / "log" / "open" / f"{WORKER}-1.jsonl")
    return tmp_path / "log"


def write_open(table: pa.Table, path: Path) -> None:
    names = [name for name in table.column_names if name.startswith("feature_")]
    matrix = np.column_stack([table[name].to_numpy() for name in names])
    rows = table.drop_columns(names).to_pylist()
    header = old_header(rows[0]["digest"], [name.removeprefix("feature_") for name in names])
    path.write_text(header + "".join(map(old_line, rows, matrix)))


@pytest.mark.parametrize("command", ["performance", "drift", "fairness"])
def test_the_figures_of_the_old_form_are_those_of_the_new(
    log: Path, old: Path, stored: StoredModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("DECISION_LOG_KEY", KEY)
    groups = tmp_path / "groups.parquet"
    parquet.write_table(pa.table({"client_id": list(map(str, range(3_000))), "group": ["a", "b"] * 1_500}), groups)
    files = {
        "performance": ["--outcomes", str(log / OUTCOMES)],
        "drift": [],
        "fairness": ["--protected", str(groups)],
    }[command]
    common = [*files, "--model", f"{stored.name}:{stored.version}", "--settings"]
    common += [str(ROOT / "configs" / "monitoring.yaml"), "--json"]
    codes = [
        main([command, "--log", str(each), *common, str(tmp_path / f"{each.parent.name}.json")]) for each in (log, old)
    ]
    assert codes[0] == codes[1] != 1
    new, same = (json.loads((tmp_path / f"{each.parent.name}.json").read_text()) for each in (log, old))
    assert same == new


def test_what_a_killed_worker_had_not_counted_is_counted_from_lines_of_the_old_form(
    log: Path, old: Path, stored: StoredModel
) -> None:
    reference = stored.scorer.artefact.reference
    counts = ScoredCounts.none(reference, days=400)
    assert replay(counts, old, WORKER, reference) == HALF
    (written,) = (log / "closed").glob("*.parquet")
    table = parquet.read_table(written).slice(HALF)
    matrix = np.column_stack([table[f"feature_{name}"].to_numpy() for name in reference.features])
    expected = Window.of(reference, matrix, table["probability"].to_numpy())
    assert counts.window.features.tolist() == expected.features.tolist()
    assert counts.window.probability.tolist() == expected.probability.tolist()
