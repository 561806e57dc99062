"""What is kept of the rehearsal, and what the commands refuse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploy.infrastructure.__main__ import main
from deploy.infrastructure.terraform import _changes

ROOT = Path(__file__).resolve().parents[2]


def test_the_rehearsal_that_is_kept_left_nothing_and_did_not_drift() -> None:
    kept = json.loads((ROOT / "deploy" / "terraform" / "rehearsal.json").read_text())
    assert (kept["drift"], kept["left"]) == ([], 0)
    assert kept["resources"] > 100


def test_a_folder_of_plugins_that_is_none_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--plugins", str(tmp_path / "none")]) == 1
    assert capsys.readouterr().err == f"error: {tmp_path}/none: no such folder\n"


@pytest.mark.parametrize(
    ("actions", "before", "after", "changed"),
    [
        (["no-op"], {"a": 1}, {"a": 1}, []),
        (["read"], None, {"a": 1}, []),
        (["update"], {"a": 1, "b": 2}, {"a": 1, "b": 3}, ["m.r.b"]),
        (["delete", "create"], {"a": 1}, {"a": 2}, ["delete/create m.r"]),
    ],
)
def test_a_plan_is_read_attribute_by_attribute(
    actions: list[str], before: dict[str, int] | None, after: dict[str, int], changed: list[str]
) -> None:
    change = {"actions": actions, "before": before, "after": after, "after_unknown": {}}
    assert list(_changes({"address": "m.r", "change": change})) == changed
