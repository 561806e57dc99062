"""What the project says of itself in files that forges, indexes and editors read: each fact is the same in all."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from credit_scoring_client.contract import __version__

from deploy.release.changelog import Changelog
from tests.without_home_credit import HERE

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CLIENT = tomllib.loads((ROOT / "client" / "pyproject.toml").read_text())["project"]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text())
LOCK = dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "requirements" / "dev.txt").read_text(), flags=re.MULTILINE))
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
TESTS = [file for file in (ROOT / "tests").rglob("*.py") if file != Path(__file__).resolve()]
FORMS = sorted(set((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")) - {ROOT / ".github/ISSUE_TEMPLATE/config.yml"})


def hooks() -> dict[str, Any]:
    (local,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    return {hook["id"]: hook for hook in local["hooks"]}


def test_every_file_names_the_same_version() -> None:
    assert {CITATION["version"], __version__} == {PROJECT["version"]}


def test_the_version_is_in_the_changelog_under_the_cited_date() -> None:
    dates = {release.version: release.date for release in Changelog.read(ROOT / "CHANGELOG.md").releases}
    assert dates[PROJECT["version"]] == CITATION["date-released"]


def test_every_file_names_the_same_licence() -> None:
    assert {PROJECT["license"], CLIENT["license"], CITATION["license"]} == {"Apache-2.0"}


def test_the_client_comes_with_the_text_of_the_licence() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert text.split()[:5] == ["Apache", "License", "Version", "2.0,", "January"]
    assert (ROOT / "client" / "LICENSE").read_text() == text


def test_hooks_are_those_that_the_checks_run() -> None:
    assert set(hooks()) == {"ruff", "ruff-format", "mypy"}


@pytest.mark.parametrize("hook", ["ruff", "ruff-format"])
def test_a_hook_runs_the_locked_version(hook: str) -> None:
    assert hooks()[hook]["additional_dependencies"] == [f"ruff=={LOCK['ruff']}"]


def test_the_hook_of_types_runs_what_is_locked() -> None:
    assert hooks()["mypy"]["entry"] == ".venv/bin/mypy"
    assert "mypy" in LOCK


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.stem)
def test_a_form_asks_for_no_applicants_data(form: Path) -> None:
    first, *_, last = yaml.safe_load(form.read_text())["body"]
    assert "no applicant's data" in first["attributes"]["value"]
    (option,) = last["attributes"]["options"]
    assert "no applicant's data" in option["label"]
    assert option["required"]


@pytest.mark.parametrize("page", ["SECURITY.md", "CODE_OF_CONDUCT.md", "CONTRIBUTING.md"])
def test_links_of_a_page_lead_to_files(page: str) -> None:
    links = re.findall(r"\]\(([^):#]+)\)", (ROOT / page).read_text())
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_path_that_a_contributor_is_told_of_exists() -> None:
    paths = re.findall(r"`([\w.-]+(?:/[\w.-]+)*\.(?:py|md|toml|txt|yaml|cff))`", CONTRIBUTING)
    assert len(paths) > 15
    there = [path for path in paths if HERE or "home_credit" not in path]
    assert [path for path in there if not (ROOT / path).exists()] == []


def test_every_make_target_that_a_contributor_is_told_of_exists() -> None:
    files = (ROOT / "Makefile", ROOT / "deploy" / "targets.mk", ROOT / "docs" / "targets.mk")
    targets = {name for file in files for name in re.findall(r"^([a-z-]+):", file.read_text(), flags=re.MULTILINE)}
    told = set(re.findall(r"(?:`|^    )make ([a-z-]+)", CONTRIBUTING, flags=re.MULTILINE))
    assert told >= {"setup", "unit", "test", "check", "lock"}
    assert told <= targets


def test_every_numbered_rule_is_among_the_six() -> None:
    section = CONTRIBUTING.split("## The six rules of features")[1].split("\n## ")[0]
    numbered = {int(number) for number in re.findall(r"^(\d)\. \*\*", section, flags=re.MULTILINE)}
    named = {int(rule) for file in TESTS for rule in re.findall(r"\b[Rr]ule[ _](\d)\b", file.read_text())}
    named |= {int(rule) for file in TESTS for rule in re.findall(r"\btest_rule_(\d)_", file.read_text())}
    assert numbered == {1, 2, 3, 4, 5, 6}
    assert len(named) == 6
    assert named <= numbered
