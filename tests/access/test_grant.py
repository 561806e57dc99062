"""What a key may do, and what is left where its file cannot be written."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry

from scoring.keys import KEYS_VARIABLE, KeyFile, KeyFileError, Scope
from serving.authentication import Grant, Keyring
from serving.settings import AccessSettings
from tests.keys import Keys


@pytest.mark.parametrize(("rate", "burst", "at_once"), [(0.1, 1.0, 1), (1.0, 1.0, 1), (2.0, 3.0, 6), (0.5, 4.0, 2)])
def test_a_key_may_be_used_its_burst_at_once_and_at_least_once(rate: float, burst: float, at_once: int) -> None:
    bucket = Grant(b"", b"", (), rate, burst).bucket
    assert [bucket.take(100.0) for _ in range(at_once)] == [0.0] * at_once
    assert bucket.take(100.0) == pytest.approx(1 / rate)


def test_scopes_have_the_names_that_files_of_keys_hold() -> None:
    assert [str(scope) for scope in Scope] == ["predict", "explain", "override", "admin"]


def test_the_variable_has_the_name_that_is_documented() -> None:
    assert KEYS_VARIABLE == "CREDIT_SCORING_KEYS"


def test_a_file_that_cannot_be_replaced_is_said_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    (tmp_path / "keys.yaml").mkdir()
    with pytest.raises(KeyFileError, match="cannot be written"):
        KeyFile(keys=()).write(tmp_path / "keys.yaml")
    assert [file.name for file in tmp_path.iterdir()] == ["keys.yaml"]


def test_writing_leaves_no_file_open(tmp_path: Path) -> None:
    KeyFile(keys=()).write(tmp_path / "keys.yaml")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        KeyFile(keys=()).write(tmp_path / "keys.yaml")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_the_keys_in_force_are_told_from_the_start(tmp_path: Path) -> None:
    KeyFile(keys=()).write(tmp_path / "keys.yaml")
    content = (Path(__file__).resolve().parents[2] / "configs" / "serving.yaml").read_text(encoding="utf-8")
    registry = CollectorRegistry()
    keys = Keys(tmp_path / "keys.yaml")
    keys.create("front", Scope.PREDICT)
    keyring = Keyring(keys.path, AccessSettings.model_validate(yaml.safe_load(content)["access"]), registry=registry)
    told = [registry.get_sample_value(name) for name in ("credit_scoring_keys", "credit_scoring_keys_stale")]
    keyring.close()
    assert told == [1.0, 0.0]
