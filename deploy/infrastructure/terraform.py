"""Terraform on a copy of deploy/terraform, so that no state and no plugin is left among the sources."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from deploy.command import run
from deploy.errors import DeployError

ROOT = Path(__file__).resolve().parents[2]
_SOURCE = ROOT / "deploy" / "terraform"
_OURS = shutil.ignore_patterns(".terraform", "*.tfstate*")
_LOCAL_STATE = 'terraform {\n  backend "local" {}\n}\n'
_MIRRORED = 'provider_installation {{\n  filesystem_mirror {{\n    path = "{}"\n  }}\n}}\n'


@dataclass(frozen=True, slots=True)
class Terraform:
    """A working copy of the configuration."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    @classmethod
    @contextmanager
    def copied(cls, plugins: Path | None) -> Iterator[Self]:
        """A copy in a temporary folder, initialised; providers come from `plugins` if that is given."""
        with tempfile.TemporaryDirectory(prefix="credit-scoring-terraform-") as scratch:
            folder = shutil.copytree(_SOURCE, Path(scratch) / "terraform", ignore=_OURS)
            (folder / "backend_override.tf").write_text(_LOCAL_STATE)
            terraform = cls(folder, _quiet(Path(scratch), plugins))
            terraform("init", "-input=false")
            yield terraform

    def __call__(self, *words: str, environment: Mapping[str, str] | None = None) -> str:
        """What a command of terraform writes; DeployError if it fails."""
        return run("terraform", *words, cwd=self.folder, environment=self.environment | dict(environment or {}))

    def check(self) -> int:
        """The number of tests that passed; DeployError if one did not, or the sources are not formatted or valid."""
        run("terraform", "fmt", "-check", "-recursive", _SOURCE)
        self("validate")
        summary = re.search(r"(\d+) passed, 0 failed", self("test"))
        if summary is None:
            raise DeployError("terraform test: no summary")
        return int(summary[1])

    def changes(self, environment: Mapping[str, str], *options: str) -> set[str]:
        """What a new plan would change, as `address.attribute`, or `action address` for more than an update."""
        self("plan", "-out=again.tfplan", *options, environment=environment)
        plan: dict[str, Any] = json.loads(self("show", "-json", "again.tfplan", environment=environment))
        return {change for resource in plan.get("resource_changes", []) for change in _changes(resource)}

    def resources(self, environment: Mapping[str, str]) -> int:
        """How many resources the state holds, without data sources."""
        listed = self("state", "list", environment=environment).splitlines()
        return sum(not re.search(r"(^|\.)data\.", address) for address in listed)


def _changes(resource: dict[str, Any]) -> Iterator[str]:
    address, change = resource["address"], resource["change"]
    if change["actions"] == ["update"]:
        before, after = change["before"], change["after"] | change["after_unknown"]
        yield from (f"{address}.{name}" for name in after if before.get(name) != after[name])
    elif change["actions"] not in (["no-op"], ["read"]):
        yield f"{'/'.join(change['actions'])} {address}"


def _quiet(scratch: Path, plugins: Path | None) -> dict[str, str]:
    environment = os.environ | {"TF_IN_AUTOMATION": "1", "TF_CLI_ARGS": "-no-color", "CHECKPOINT_DISABLE": "1"}
    if plugins is None:
        return environment
    if not plugins.is_dir():
        raise DeployError(f"{plugins}: no such folder")
    settings = scratch / "terraform.rc"
    settings.write_text(_MIRRORED.format(plugins.resolve()))
    return environment | {"TF_CLI_CONFIG_FILE": str(settings)}
