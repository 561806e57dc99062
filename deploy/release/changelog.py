"""CHANGELOG.md, in the format of Keep a Changelog 1.1.0, read as versions and their notes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from deploy.errors import DeployError

UNRELEASED = "Unreleased"
_HEADING = re.compile(r"^## \[(?P<version>[^\]]+)\](?: - (?P<date>\d{4}-\d{2}-\d{2}))?$")
_KINDS = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")


@dataclass(frozen=True, slots=True)
class Release:
    """One version: its date, None for what is not released, and its notes in Markdown."""

    version: str
    date: str | None
    notes: str


@dataclass(frozen=True, slots=True)
class Changelog:
    """The releases, the newest first."""

    releases: tuple[Release, ...]

    @classmethod
    def read(cls, path: Path) -> Self:
        """The releases of a file; DeployError if it cannot be read or is not of the format."""
        try:
            return cls.parse(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise DeployError(f"{path}: cannot be read ({error.strerror})") from None

    @classmethod
    def parse(cls, text: str) -> Self:
        """The releases of a text.

        >>> Changelog.parse("# Changelog\\n\\n## [1.0.0] - 2026-01-31\\n\\n### Added\\n\\n- It.\\n").releases[0].date
        '2026-01-31'
        """
        sections = re.split(r"^(?=## )", text, flags=re.MULTILINE)[1:]
        releases = tuple(_release(section) for section in sections)
        versions = [release.version for release in releases]
        for version in versions:
            if versions.count(version) > 1:
                raise DeployError(f"changelog: {version} is there more than once")
        return cls(releases)

    def notes(self, version: str) -> str:
        """The notes of a version, with or without a leading v; DeployError if there are none."""
        wanted = version.removeprefix("v")
        found = [release for release in self.releases if release.version == wanted]
        if not found:
            known = ", ".join(release.version for release in self.releases)
            raise DeployError(f"changelog: no version {wanted}; it has {known}")
        if not found[0].notes:
            raise DeployError(f"changelog: {wanted} has no notes")
        return found[0].notes


def _release(section: str) -> Release:
    heading, _, body = section.partition("\n")
    match = _HEADING.match(heading.rstrip())
    if match is None:
        raise DeployError(f"changelog: {heading!r} is neither '## [VERSION] - YYYY-MM-DD' nor '## [{UNRELEASED}]'")
    version, date = match["version"], match["date"]
    if (date is None) != (version == UNRELEASED):
        raise DeployError(f"changelog: {version} must {'have' if date is None else 'not have'} a date")
    for kind in re.findall(r"^### (.*)$", body, flags=re.MULTILINE):
        if kind not in _KINDS:
            raise DeployError(f"changelog: {version} has a part {kind!r}; allowed are {', '.join(_KINDS)}")
    return Release(version, date, _without_links(body).strip())


def _without_links(body: str) -> str:
    return re.sub(r"^\[[^\]]+\]: \S+\n?", "", body, flags=re.MULTILINE)
