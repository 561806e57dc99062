"""Release notes from the changelog."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.errors import DeployError
from deploy.release.__main__ import main
from deploy.release.changelog import Changelog

ROOT = Path(__file__).resolve().parents[2]
TEXT = """# Changelog

## [Unreleased]

## [1.1.0] - 2026-02-01

### Fixed

- A rounding.

## [1.0.0] - 2026-01-31

### Added

- The first.

[1.0.0]: https://example.com/1.0.0
"""


def test_notes_are_those_of_the_version_alone() -> None:
    assert Changelog.parse(TEXT).notes("1.1.0") == "### Fixed\n\n- A rounding."


def test_a_tag_names_its_version_and_links_are_left_out() -> None:
    assert Changelog.parse(TEXT).notes("v1.0.0") == "### Added\n\n- The first."


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("2.0.0", "changelog: no version 2.0.0; it has Unreleased, 1.1.0, 1.0.0"),
        ("Unreleased", "changelog: Unreleased has no notes"),
    ],
)
def test_a_version_without_notes_is_refused(version: str, said: str) -> None:
    with pytest.raises(DeployError) as refused:
        Changelog.parse(TEXT).notes(version)
    assert str(refused.value) == said


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("## 1.0.0\n", "changelog: '## 1.0.0' is neither '## [VERSION] - YYYY-MM-DD' nor '## [Unreleased]'"),
        ("## [1.0.0]\n", "changelog: 1.0.0 must have a date"),
        ("## [Unreleased] - 2026-01-31\n", "changelog: Unreleased must not have a date"),
        ("## [1.1.0] - 2026-01-31\n", "changelog: 1.1.0 is there more than once"),
        (
            "## [0.9.0] - 2026-01-01\n\n### News\n",
            "changelog: 0.9.0 has a part 'News'; allowed are Added, Changed, Deprecated, Removed, Fixed, Security",
        ),
    ],
)
def test_what_is_not_of_the_format_is_refused(section: str, said: str) -> None:
    with pytest.raises(DeployError) as refused:
        Changelog.parse(TEXT + section)
    assert str(refused.value) == said


def test_the_changelog_of_the_project_is_of_the_format(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["notes", "Unreleased"]) == 0
    assert capsys.readouterr().out.startswith("### Added\n")


@pytest.fixture
def project(tmp_path: Path) -> list[str]:
    (tmp_path / "CHANGELOG.md").write_text(TEXT)
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "1.1.0"\n')
    return ["--changelog", str(tmp_path / "CHANGELOG.md"), "check", "--project", str(tmp_path / "pyproject.toml")]


def test_a_tag_of_the_projects_version_may_be_released(project: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*project, "v1.1.0"]) == 0
    assert capsys.readouterr().out == "v1.1.0 may be released\n"


def test_another_tag_may_not(project: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*project, "v1.0.0"]) == 1
    assert capsys.readouterr().err == "error: tag v1.0.0 is not v1.1.0, the version of pyproject.toml\n"
