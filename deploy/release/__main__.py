"""`python -m deploy.release`: notes, check, deploy."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

import click

from deploy.errors import DeployError
from deploy.release.changelog import Changelog
from deploy.release.ecs import Ecs
from deploy.release.rollout import Kubernetes, Target, deploy
from jobs.commandline import PATH, CommandGroup, run_command, say

_ROOT = Path(__file__).resolve().parents[2]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 if it succeeded, 1 after one line on standard error if it did not."""
    return run_command(commands, arguments, program="python -m deploy.release", at_once=True)


@click.group(cls=CommandGroup, help=sys.modules["deploy.release"].__doc__)
@click.option("--changelog", type=PATH, default=_ROOT / "CHANGELOG.md", help="default: CHANGELOG.md")
@click.pass_context
def commands(context: click.Context, *, changelog: Path) -> None:
    """Hold the commands."""
    context.obj = changelog


@commands.command()
@click.argument("version")
@click.pass_obj
def notes(changelog: Path, *, version: str) -> None:
    """Print the notes of VERSION, such as 1.2.0, v1.2.0 or Unreleased."""
    say([Changelog.read(changelog).notes(version)])


@commands.command()
@click.argument("tag")
@click.option("--project", type=PATH, default=_ROOT / "pyproject.toml", help="default: pyproject.toml")
@click.pass_obj
def check(changelog: Path, *, tag: str, project: Path) -> None:
    """Tell whether TAG, such as v1.2.0, may be released: pyproject's version, dated, with notes."""
    version = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"]
    if tag != f"v{version}":
        raise DeployError(f"tag {tag} is not v{version}, the version of {project.name}")
    Changelog.read(changelog).notes(version)
    say([f"{tag} may be released"])


@commands.command("deploy")
@click.argument("target", type=click.Choice(("ecs", "kubernetes")))
@click.argument("image")
@click.option("--group", required=True, help="cluster of ECS, or namespace of Kubernetes")
@click.option("--name", default="credit-scoring", show_default=True, help="service or Deployment")
@click.option("--seconds", type=int, default=600, show_default=True, help="until it must be ready")
def deploy_image(*, target: str, image: str, group: str, name: str, seconds: int) -> None:
    """Put IMAGE, REGISTRY/credit-scoring@sha256:..., in charge, and back if it does not become ready."""
    place: Target
    if target == "ecs":
        place = Ecs(cluster=group, service=name, seconds=seconds)
    else:
        place = Kubernetes(namespace=group, deployment=name, seconds=seconds)
    before = deploy(place, image)
    say([f"{image} is in charge; before it: {before}"])


if __name__ == "__main__":
    sys.exit(main())
