"""`python -m deploy.rehearsal`."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deploy.command import read_json, reported
from deploy.record import write_record
from deploy.rehearsal.acts import Acts, altered
from deploy.rehearsal.cluster import cluster
from deploy.rehearsal.manifests import manifests
from deploy.rehearsal.report import write_table
from deploy.settings import ROOT, DeploySettings
from scoring.keys import Scope, create_key, issue

_DOCUMENT = ROOT / "docs" / "how-to" / "kubernetes.md"
_RESULTS = ROOT / "docs" / "rehearsal.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Rehearse; 0 if everything happened as it must, 1 after one line on standard error if it did not."""
    description = sys.modules["deploy.rehearsal"].__doc__
    parser = argparse.ArgumentParser(prog="python -m deploy.rehearsal", description=description)
    parser.add_argument("--binaries", type=Path, required=True, help="folder with those of Kubernetes 1.20")
    parser.add_argument("--first", required=True, help="image that is installed")
    parser.add_argument("--second", required=True, help="image with another model, to which it is updated")
    parser.add_argument("--results", type=Path, default=_RESULTS, help="default: %(default)s")
    options = parser.parse_args(arguments)
    return reported(lambda: _rehearse(options))


def _rehearse(options: argparse.Namespace) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="credit-scoring-cluster-") as folder,
        cluster(Path(folder), options.binaries) as running,
    ):
        bad = altered(options.second, running)
        for image in (options.first, options.second, bad):
            running.load(image)
        results: dict[str, Any] = {"kubernetes": running.version}
        keys, caller = Path(folder) / "keys.yaml", issue("rehearsal", (Scope.PREDICT,), created=datetime.now(UTC))
        create_key(keys, caller)
        acts = Acts(running, DeploySettings.delivered().rehearsal, caller.secret)
        model = _model(options.second)
        plays: dict[str, Callable[[], dict[str, Any]]] = {
            "install": lambda: acts.install(manifests(options.first, Path(folder), keys)),
            "rolling update": lambda: acts.roll(options.second),
            "rollback": acts.roll_back,
            "eviction": acts.evict,
            "out of memory": acts.exhaust,
            "altered model": lambda: acts.refuse(bad, model),
        }
        for name, play in plays.items():
            results[name] = play()
            sys.stdout.write(f"{name}: {results[name]}\n")
            sys.stdout.flush()
    write_record(options.results, "make rehearse", results)
    write_table(_DOCUMENT, json.loads(options.results.read_text(encoding="utf-8")))


def _model(image: str) -> str:
    """The version of the model in an image."""
    (inspected,) = read_json("podman", "image", "inspect", image)
    return str(inspected["Labels"]["credit-scoring.model"].partition(":")[2])
