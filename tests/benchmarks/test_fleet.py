"""The figures of a training in blocks and of two ranks: what is measured, and that the two ways give one model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.cli import main


@pytest.mark.slow
def test_memory_and_blocks_give_the_same_trees(tmp_path: Path) -> None:
    output = tmp_path / "fleet.json"
    few = ("--clients", "2000", "--trees", "3", "--memory-only")
    assert main(["fleet", *few, "--scratch", str(tmp_path), "--output", str(output)]) == 0
    found = json.loads(output.read_text())
    assert [way["way"] for way in found["ways"]] == ["in memory", "by blocks"]
    assert len({way["digest"] for way in found["ways"]}) == 1
    assert all(way["peak_mb"] >= way["libraries_mb"] > 0 and way["trees"] == 3 for way in found["ways"])
    assert found["qualities"] == []
    assert found["command"] == "python -m benchmarks fleet --clients 2000 --trees 3 --folds 2 --memory-only"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fleet.json"], "clients were left behind"
