"""`python -m deploy.rehearsal`."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from deploy.command import read_json
from deploy.record import write_record
from deploy.rehearsal.acts import Acts, altered
from deploy.rehearsal.cluster import cluster
from deploy.rehearsal.manifests import manifests
from deploy.rehearsal.report import write_table
from deploy.settings import ROOT, DeploySettings
from jobs.commandline import PATH, Command, run_command, say
from scoring.keys import Scope, create_key, issue

_DOCUMENT = ROOT / "docs" / "how-to" / "kubernetes.md"
_RESULTS = ROOT / "docs" / "rehearsal.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 if it succeeded, 1 after one line on standard error if it did not."""
    return run_command(rehearse, arguments, program="python -m deploy.rehearsal", at_once=True)


@click.command(cls=Command, help=sys.modules["deploy.rehearsal"].__doc__)
@click.option("--binaries", type=PATH, required=True, help="folder with those of Kubernetes 1.20")
@click.option("--first", required=True, help="image that is installed")
@click.option("--second", required=True, help="image with another model, to which it is updated")
@click.option("--results", "output", type=PATH, default=_RESULTS, show_default=True)
def rehearse(*, binaries: Path, first: str, second: str, output: Path) -> None:
    """Rehearse, and write down what happened."""
    with (
        tempfile.TemporaryDirectory(prefix="credit-scoring-cluster-") as folder,
        cluster(Path(folder), binaries) as running,
    ):
        bad = altered(second, running)
        for image in (first, second, bad):
            running.load(image)
        results: dict[str, Any] = {"kubernetes": running.version}
        keys, caller = Path(folder) / "keys.yaml", issue("rehearsal", (Scope.PREDICT,), created=datetime.now(UTC))
        create_key(keys, caller)
        acts = Acts(running, DeploySettings.delivered().rehearsal, caller.secret)
        model = _model(second)
        plays: dict[str, Callable[[], dict[str, Any]]] = {
            "install": lambda: acts.install(manifests(first, Path(folder), keys)),
            "rolling update": lambda: acts.roll(second),
            "rollback": acts.roll_back,
            "eviction": acts.evict,
            "out of memory": acts.exhaust,
            "altered model": lambda: acts.refuse(bad, model),
        }
        for name, play in plays.items():
            results[name] = play()
            say([f"{name}: {results[name]}"])
    write_record(output, "make rehearse", results)
    write_table(_DOCUMENT, json.loads(output.read_text(encoding="utf-8")))


def _model(image: str) -> str:
    """The version of the model in an image."""
    (inspected,) = read_json("podman", "image", "inspect", image)
    return str(inspected["Labels"]["credit-scoring.model"].partition(":")[2])


if __name__ == "__main__":
    sys.exit(main())
