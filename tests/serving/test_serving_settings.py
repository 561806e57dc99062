from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from features import SettingsError
from serving import ServingSettings

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
