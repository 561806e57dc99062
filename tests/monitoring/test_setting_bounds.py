"""Every number of configs/monitoring.yaml at its limits, and the ones that decide an alarm as they are delivered."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.errors import SettingsError
from monitoring.settings import MonitoringSettings

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
DELIVERED = yaml.safe_load((CONFIGS / "monitoring.yaml").read_text(encoding="utf-8"))

LEGAL = [
    ("recording.log.segment_bytes", 1 << 16, (1 << 16) - 1),
    ("recording.log.segment_seconds", 0.001, 0),
    ("recording.log.settle_seconds", 1, 0.999),
    ("recording.log.retention_days", 1, 0),
    ("recording.window.rows", 1, 0),
    ("recording.window.seconds", 3_600, 0),
    ("recording.window.at_least_seconds", 0, -0.001),
    ("recording.probability_buckets", [0.001, 0.999], [0.0, 0.5]),
    ("recording.probability_buckets", [0.5], [0.5, 1.0]),
    ("recording.probability_buckets", [0.5], []),
    ("recording.checks", ["checks.of_mine:check"], ["checks.of_mine"]),
    ("recording.default_rate_days", 1, 0),
    ("recording.default_rate_days", 90, 91),
    ("drift.false_alarm_rate", 0.0001, 0.0),
    ("drift.false_alarm_rate", 0.2, 0.2001),
    ("drift.min_rows", 50, 49),
    ("drift.psi", {"moderate": 0.001, "major": 0.002}, {"moderate": 0.0, "major": 0.002}),
    ("drift.psi", {"moderate": 0.1, "major": 0.1001}, {"moderate": 0.1, "major": 0.1}),
    ("drift.importance.important", 0.001, 0.0),
    ("drift.importance.important", 1.0, 1.001),
    ("drift.importance.bound_factor", 0.001, 0.0),
    ("drift.importance.bound_factor", 1.0, 1.001),
    ("drift.importance.alarming", 0.001, 0.0),
    ("drift.importance.alarming", 1.0, 1.001),
    ("drift.missing_shift", 0.001, 0.0),
    ("drift.missing_shift", 1.0, 1.001),
    ("drift.unseen_share", 0.001, 0.0),
    ("drift.unseen_share", 1.0, 1.001),
    ("performance.min_auc", 0.5, 0.499),
    ("performance.min_auc", 1.0, 1.001),
    ("performance.confidence", 0.001, 0.0),
    ("performance.confidence", 0.999, 1.0),
    ("performance.resamples", 20, 19),
    ("performance.resamples", 100_000, 100_001),
    ("performance.groups", 100, 99),
    ("performance.groups", 1_000_000, 1_000_001),
    ("performance.calibration_bins", 2, 1),
    ("performance.calibration_bins", 1000, 1001),
    ("performance.f_beta", 0.001, 0.0),
    ("performance.lift_share", 0.001, 0.0),
    ("performance.lift_share", 0.999, 1.0),
    ("performance.seed", 0, -1),
    ("fairness.confidence", 0.001, 0.0),
    ("fairness.confidence", 0.999, 1.0),
    ("fairness.min_rows", 1, 0),
    ("fairness.min_impact_ratio", 0.0, -0.001),
    ("fairness.min_impact_ratio", 1.0, 1.001),
]


def written(folder: Path, content: Any) -> Path:
    path = folder / "settings.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def changed(key: str, value: Any) -> Any:
    """The delivered settings with one value changed."""
    content = copy.deepcopy(DELIVERED)
    *parents, last = key.split(".")
    place = content
    for parent in parents:
        place = place[parent]
    assert last in place
    place[last] = value
    return content


@pytest.mark.parametrize(("key", "legal", "illegal"), LEGAL)
def test_a_setting_may_go_to_its_limit_and_no_further(tmp_path, key, legal, illegal):
    MonitoringSettings.load(written(tmp_path, changed(key, legal)))
    with pytest.raises(SettingsError, match=key.rpartition(".")[2]):
        MonitoringSettings.load(written(tmp_path, changed(key, illegal)))


def test_what_decides_an_alarm_is_delivered_as_the_documents_say():
    drift, performance, fairness = (DELIVERED[name] for name in ("drift", "performance", "fairness"))
    assert (drift["false_alarm_rate"], drift["min_rows"], drift["psi"]) == (0.01, 300, {"moderate": 0.1, "major": 0.25})
    assert drift["importance"] == {"important": 0.05, "bound_factor": 0.2, "alarming": 0.01}
    assert (drift["missing_shift"], drift["unseen_share"]) == (0.05, 0.01)
    assert (performance["min_auc"], performance["confidence"], performance["resamples"]) == (0.7, 0.95, 200)
    assert fairness == {"confidence": 0.95, "min_rows": 100, "min_impact_ratio": 0.8}
    assert DELIVERED["recording"]["log"]["on_failure"] == "refuse"
