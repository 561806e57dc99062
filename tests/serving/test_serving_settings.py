from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.errors import SettingsError
from serving.settings import ServingSettings

FILE = Path(__file__).resolve().parents[2] / "configs" / "serving.yaml"


@pytest.mark.parametrize("metrics", [{"enabled": True}, {}, None])
def test_bentoml_is_not_to_write_the_metrics_that_the_boundary_writes(tmp_path: Path, metrics: Any) -> None:
    content = yaml.safe_load(FILE.read_text())
    del content["bentoml"]["metrics"]
    if metrics is not None:
        content["bentoml"]["metrics"] = metrics
    path = tmp_path / "serving.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(SettingsError, match=r"bentoml: .*metrics.enabled must be false"):
        ServingSettings.load(path)


def test_the_limits_are_delivered_as_decided() -> None:
    """What a pod of 768 MiB can bear, and who answers first."""
    content = yaml.safe_load(FILE.read_text())
    assert content["limits"] == {
        "body_bytes": 8 * 2**20,
        "application_bytes": 2**16,
        "batch_applications": 1000,
        "columnar_rows": 10000,
        "timeout_seconds": 10,
        "in_flight": 256,
        "batches_in_flight": 8,
        "buffered_bytes": 64 * 2**20,
        "retry_after_seconds": 1,
    }
    assert content["connections"] == {
        "hosts": [],
        "head_bytes": 2**15,
        "head_fields": 100,
        "head_seconds": 10,
        "unread_seconds": 10,
        "unread_bytes": 64 * 2**20,
    }
    assert content["access"]["open"] == ["/livez", "/readyz", "/health", "/healthz"]
    assert (content["access"]["requests_per_second"], content["access"]["reload_seconds"]) == (1000, 2)


@pytest.mark.parametrize("place", ["bentoml", "runner.service"])
def test_the_boundary_s_time_is_up_before_that_of_bentoml(place: str) -> None:
    """BentoML's own timeout would end a request without a problem document."""
    content = yaml.safe_load(FILE.read_text())
    part = content
    for key in place.split("."):
        part = part[key]
    assert content["limits"]["timeout_seconds"] < part["traffic"]["timeout"]
