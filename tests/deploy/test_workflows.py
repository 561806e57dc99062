"""What .github/workflows promise beyond GitHub's schema."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS: dict[str, Any] = {
    path.stem: yaml.safe_load(path.read_text()) for path in sorted((ROOT / ".github" / "workflows").glob("*.yml"))
}
MAKEFILES = (ROOT / "Makefile", *ROOT.glob("*/targets.mk"))
MADE = {target for file in MAKEFILES for target in re.findall(r"^([a-z-]+):", file.read_text(), flags=re.MULTILINE)}
every_workflow = pytest.mark.parametrize("name", sorted(WORKFLOWS))


def steps(name: str) -> Iterator[dict[str, Any]]:
    for job in WORKFLOWS[name]["jobs"].values():
        yield from job.get("steps", [])


@every_workflow
def test_actions_are_pinned_to_commits(name: str) -> None:
    used = [step["uses"] for step in steps(name) if "uses" in step]
    assert all(re.fullmatch(r"[\w-]+/[\w.-]+@[0-9a-f]{40}", action) for action in used)


@every_workflow
def test_permissions_are_given_job_by_job(name: str) -> None:
    assert WORKFLOWS[name]["permissions"] == {"contents": "read"}


@every_workflow
def test_every_make_target_that_is_called_exists(name: str) -> None:
    called = {
        target for step in steps(name) for target in re.findall(r"\bmake (?:--silent )?([a-z-]+)", step.get("run", ""))
    }
    assert called <= MADE


@every_workflow
def test_nothing_from_outside_is_put_into_a_script(name: str) -> None:
    assert not [step["run"] for step in steps(name) if "${{" in step.get("run", "")]


def test_what_is_delivered_stands_on_a_base_with_a_digest() -> None:
    runs = [step.get("run", "") for step in WORKFLOWS["deliver"]["jobs"]["image"]["steps"]]
    (building,) = [run for run in runs if re.search(r"make --silent image\b", run)]
    assert "image PINNED=1 >" in building


def test_a_bot_pins_and_renews_digests_and_the_lock_of_terraform() -> None:
    bot = json.loads((ROOT / ".github" / "renovate.json").read_text())
    assert {"docker:pinDigests", "helpers:pinGitHubActionDigests"} <= set(bot["extends"])
    assert bot["enabledManagers"] == ["dockerfile", "docker-compose", "github-actions", "terraform"]


def test_production_comes_after_staging() -> None:
    assert WORKFLOWS["deliver"]["jobs"]["production"]["needs"] == ["image", "staging"]


def test_what_is_put_in_charge_was_scanned_before_it_was_signed_and_is_verified() -> None:
    runs = [step.get("run", "") for step in WORKFLOWS["deliver"]["jobs"]["image"]["steps"]]
    order = [next(i for i, run in enumerate(runs) if word in run) for word in ("image-check", "audit", "push", "sign")]
    assert order == sorted(order)
    for environment in ("staging", "production"):
        last = [step["run"] for step in WORKFLOWS["deliver"]["jobs"][environment]["steps"] if "run" in step]
        assert last[-2:] == ["make verify", "make deploy"]


def test_code_and_model_are_delivered_the_same_way_but_started_apart() -> None:
    callers = {name for name, flow in WORKFLOWS.items() if flow["jobs"].get("deliver", {}).get("uses")}
    assert callers == {"release", "promote"}
    assert "workflow_dispatch" in WORKFLOWS["promote"][True]  # YAML 1.1 reads `on` as true
    assert WORKFLOWS["release"][True] == {"push": {"tags": ["v*"]}}
