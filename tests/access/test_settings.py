"""The section `access` of configs/serving.yaml: its limits, and what is delivered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.errors import SettingsError
from serving.settings import AccessSettings

SERVING = Path(__file__).resolve().parents[2] / "configs" / "serving.yaml"
DELIVERED: dict[str, Any] = yaml.safe_load(SERVING.read_text(encoding="utf-8"))["access"]


@pytest.mark.parametrize(
    ("key", "legal", "illegal", "said"),
    [
        ("open", ["/livez"], ["livez"], r"open\.0: String should match"),
        ("open", [], ["/li vez"], r"open\.0: String should match"),
        ("requests_per_second", 0.001, 0.0, "requests_per_second: Input should be greater than 0"),
        ("burst_seconds", 1, 0.999, "burst_seconds: Input should be greater than or equal to 1"),
        ("reload_seconds", 0.001, 0.0, "reload_seconds: Input should be greater than 0"),
    ],
)
def test_a_setting_may_go_to_its_limit_and_no_further(
    tmp_path: Path, key: str, legal: object, illegal: object, said: str
) -> None:
    path = tmp_path / "access.yaml"
    path.write_text(yaml.safe_dump(DELIVERED | {key: legal}), encoding="utf-8")
    assert getattr(AccessSettings.load(path), key) == (tuple(legal) if isinstance(legal, list) else legal)
    path.write_text(yaml.safe_dump(DELIVERED | {key: illegal}), encoding="utf-8")
    with pytest.raises(SettingsError, match=said):
        AccessSettings.load(path)


@pytest.mark.parametrize("key", sorted(AccessSettings.model_fields))
def test_every_setting_is_asked_for(tmp_path: Path, key: str) -> None:
    path = tmp_path / "access.yaml"
    path.write_text(yaml.safe_dump({name: value for name, value in DELIVERED.items() if name != key}), encoding="utf-8")
    with pytest.raises(SettingsError, match=f"{key}: Field required"):
        AccessSettings.load(path)
