"""Holding every overlay, with its components and without, to Kubernetes' schemas and to checkov's policies."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

from deploy.command import run
from deploy.errors import DeployError
from deploy.settings import ROOT

FOLDER = ROOT / "deploy" / "kubernetes"
OVERLAYS = tuple(sorted(folder.name for folder in (FOLDER / "overlays").iterdir()))
COMPONENTS = ("feature-store",)
"""What an overlay may add with a line of its own."""
_VERSION = "1.32"
_OF_THE_OPERATOR = "monitoring.coreos.com/"  # Prometheus' operator: kubernetes-validate has no schemas of these


def check(tools: Path) -> Iterator[str]:
    """Check every overlay with the programs in `tools`, one line for each; DeployError at the first that fails."""
    for overlay, components in product(OVERLAYS, [(), COMPONENTS]):
        name = "-with-".join([overlay, *components])
        with tempfile.TemporaryDirectory() as scratch:
            rendered = Path(scratch) / f"{name}.yaml"
            rendered.write_text(render(overlay, *components), encoding="utf-8")
            objects = _validate(rendered, tools)
            passed, skipped = _policies(rendered, tools)
        policies = f"{passed} policies passed, {skipped} skipped for a reason"
        yield f"{name}: {objects} objects valid for {_VERSION}; {policies}"


def render(overlay: str, *components: str) -> str:
    """The manifests of an overlay, as they are after the line that adds these components."""
    if not components:
        return run("kubectl", "kustomize", FOLDER / "overlays" / overlay)
    with tempfile.TemporaryDirectory() as scratch:
        copy = shutil.copytree(FOLDER, Path(scratch) / FOLDER.relative_to(ROOT))
        shutil.copytree(ROOT / "configs", Path(scratch) / "configs")
        chosen = copy / "overlays" / overlay
        with (chosen / "kustomization.yaml").open("a", encoding="utf-8") as file:
            file.write(f"components: [{', '.join(f'../../{name}' for name in components)}]\n")
        return run("kubectl", "kustomize", chosen)


def _validate(rendered: Path, tools: Path) -> int:
    documents = rendered.read_text(encoding="utf-8").split("\n---\n")
    known = [one for one in documents if f"apiVersion: {_OF_THE_OPERATOR}" not in one]
    standard = rendered.with_name("standard.yaml")
    standard.write_text("\n---\n".join(known), encoding="utf-8")
    run(tools / "kubernetes-validate", "--strict", "--quiet", "-k", _VERSION, standard)
    return len(known)


def _policies(rendered: Path, tools: Path) -> tuple[int, int]:
    """How many policies passed and how many were skipped."""
    program = str(tools / "checkov")
    options = ["--skip-download", "--compact", "--quiet", "--framework", "kubernetes", "--output", "json", "--file"]
    quiet = os.environ | {"LOG_LEVEL": "ERROR"}
    done = subprocess.run([program, *options, rendered], capture_output=True, text=True, check=False, env=quiet)
    report: dict[str, Any] = json.loads(done.stdout)
    summary, failed = report["summary"], report["results"]["failed_checks"]
    if failed or summary["parsing_errors"]:
        said = "; ".join(sorted({f"{one['check_id']} {one['resource']}: {one['check_name']}" for one in failed}))
        raise DeployError(f"{rendered.name}: {summary['parsing_errors']} not parsed; {said}")
    return summary["passed"], summary["skipped"]
