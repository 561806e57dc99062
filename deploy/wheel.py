"""`python -m deploy.wheel`: build the scorer as a wheel, for machines that score and serve nothing.

The same sources give the same bytes. What it depends on is taken from the project's own dependencies.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from deploy.command import run
from deploy.settings import ROOT
from jobs.commandline import PATH, Command, run_command, say
from scoring.cluster import NOT_ON_EXECUTORS, PACKAGES

NEEDED = ("lightgbm", "numpy", "pyarrow", "pydantic", "pyyaml")
"""LightGBM's own package installs SciPy, which no scorer loads."""
NAME = "credit-scoring-scorer"

_PROJECT = """\
[project]
name = "{name}"
version = "{version}"
description = "The scorer of a credit-scoring bundle: tables of applications in, decisions out"
requires-python = "{python}"
license = "Apache-2.0"
license-files = ["LICENSE"]
dependencies = {dependencies}

[build-system]
requires = ["uv_build"]
build-backend = "uv_build"

[tool.uv.build-backend]
module-name = {packages}
module-root = ""
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """0 if the wheel was built, 1 after one line on standard error if not."""
    return run_command(write, arguments, program="python -m deploy.wheel", at_once=True)


@click.command(cls=Command, help=__doc__)
@click.option("--output", type=PATH, default=ROOT / "build" / "wheel", metavar="DIR", show_default="build/wheel")
def write(*, output: Path) -> None:
    """Build the wheel."""
    say([str(build_wheel(output))])


def build_wheel(output: Path) -> Path:
    """The file of the wheel, built into the folder `output`; DeployError if uv cannot build it."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "sources")
        _copy_sources(folder)
        # uv has this backend built in: nothing is fetched, and every file has the same time.
        uv = Path(sys.executable).with_name("uv")
        run(uv, "build", "--quiet", "--offline", "--wheel", "--out-dir", Path(scratch, "built"), folder)
        (built,) = Path(scratch, "built").glob("*.whl")
        output.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy(built, output))


def _copy_sources(folder: Path) -> None:
    for file in (file for package in PACKAGES for file in sorted((ROOT / package).glob("*.py"))):
        relative = file.relative_to(ROOT)
        if relative.as_posix() not in NOT_ON_EXECUTORS:
            (folder / relative).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, folder / relative)
    shutil.copyfile(ROOT / "LICENSE", folder / "LICENSE")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (folder / "pyproject.toml").write_text(_declared(project), encoding="utf-8")


def _declared(project: Mapping[str, Any]) -> str:
    """The wheel's pyproject.toml, from the project's own."""
    wanted = [one for one in project["dependencies"] if re.split("[<=>]", one, maxsplit=1)[0] in NEEDED]
    return _PROJECT.format(
        name=NAME,
        version=project["version"],
        python=project["requires-python"],
        dependencies=wanted,
        packages=list(PACKAGES),
    )


if __name__ == "__main__":
    sys.exit(main())
