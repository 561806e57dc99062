"""What is made sure of before any worker starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.preflight import make_absolute


def test_paths_become_absolute_and_addresses_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    environment = {"A": "keys/key.pem", "B": "/var/log", "C": "s3://bucket/folder", "D": "", "E": "other"}
    make_absolute(environment, ("A", "B", "C", "D", "MISSING"))
    assert environment == {
        "A": f"{tmp_path}/keys/key.pem", "B": "/var/log", "C": "s3://bucket/folder", "D": "", "E": "other",
    }  # fmt: skip
