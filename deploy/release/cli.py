"""`python -m deploy.release`: notes, check, deploy."""

from __future__ import annotations

import argparse
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

from deploy.command import reported
from deploy.errors import DeployError
from deploy.release.changelog import Changelog
from deploy.release.ecs import Ecs
from deploy.release.rollout import Kubernetes, Target, deploy

_ROOT = Path(__file__).resolve().parents[2]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 if it succeeded, 1 after one line on standard error if it did not."""
    parser = argparse.ArgumentParser(prog="python -m deploy.release", description=sys.modules["deploy.release"].__doc__)
    parser.add_argument("--changelog", type=Path, default=_ROOT / "CHANGELOG.md", help="default: CHANGELOG.md")
    commands = parser.add_subparsers(required=True, metavar="command")
    notes = commands.add_parser("notes", help="print the notes of a version")
    notes.add_argument("version", help="such as 1.2.0, v1.2.0 or Unreleased")
    notes.set_defaults(run=_notes)
    check = commands.add_parser("check", help="whether a tag may be released: pyproject's version, dated, with notes")
    check.add_argument("tag", help="such as v1.2.0")
    check.add_argument("--project", type=Path, default=_ROOT / "pyproject.toml", help="default: pyproject.toml")
    check.set_defaults(run=_check)
    _add_deploy(commands)
    options = parser.parse_args(arguments)
    return reported(lambda: options.run(options))


def _add_deploy(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    rolling = commands.add_parser("deploy", help="put an image in charge, and back if it does not become ready")
    rolling.add_argument("target", choices=("ecs", "kubernetes"))
    rolling.add_argument("image", help="by digest: REGISTRY/credit-scoring@sha256:...")
    rolling.add_argument("--group", required=True, help="cluster of ECS, or namespace of Kubernetes")
    rolling.add_argument("--name", default="credit-scoring", help="service or Deployment (default: %(default)s)")
    rolling.add_argument("--seconds", type=int, default=600, help="until it must be ready (default: %(default)s)")
    rolling.set_defaults(run=_deploy)


def _deploy(options: argparse.Namespace) -> None:
    target: Target
    if options.target == "ecs":
        target = Ecs(cluster=options.group, service=options.name, seconds=options.seconds)
    else:
        target = Kubernetes(namespace=options.group, deployment=options.name, seconds=options.seconds)
    before = deploy(target, options.image)
    sys.stdout.write(f"{options.image} is in charge; before it: {before}\n")


def _notes(options: argparse.Namespace) -> None:
    sys.stdout.write(f"{Changelog.read(options.changelog).notes(options.version)}\n")


def _check(options: argparse.Namespace) -> None:
    version = tomllib.loads(options.project.read_text(encoding="utf-8"))["project"]["version"]
    if options.tag != f"v{version}":
        raise DeployError(f"tag {options.tag} is not v{version}, the version of {options.project.name}")
    Changelog.read(options.changelog).notes(version)
    sys.stdout.write(f"{options.tag} may be released\n")
