"""`podman play kube` runs the manifests with the image of CREDIT_SCORING_IMAGE."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.command import read_json, run
from deploy.kubernetes.check import render

IMAGE = os.environ.get("CREDIT_SCORING_IMAGE", "")
POD = "credit-scoring-pod-0"
CONTAINER = f"{POD}-service"
HEALTH = """
import time, urllib.request
for _ in range(600):
    try:
        print(urllib.request.urlopen('http://127.0.0.1:3000/health', timeout=60).read().decode())
        break
    except OSError:
        time.sleep(0.1)
"""

pytestmark = pytest.mark.skipif(
    not IMAGE or not shutil.which("podman") or not shutil.which("kubectl"),
    reason="it needs podman, kubectl and an image: `make image-check IMAGE=...` runs it",
)


NOBODY = "keys: []\n"
"""A file of keys without any: probes are answered, all else is refused."""


def manifests() -> list[dict[str, Any]]:
    """The local overlay with one pod: podman publishes the port of each on the machine."""
    documents: list[dict[str, Any]] = list(yaml.safe_load_all(render("local")))
    (deployment,) = [one for one in documents if one["kind"] == "Deployment"]
    deployment["spec"]["replicas"] = 1
    deployment["spec"]["template"]["spec"]["containers"][0]["image"] = IMAGE
    return documents


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What podman says of the container, while it runs."""
    folder = tmp_path_factory.mktemp("play")
    _create_secrets(folder / "secret.json")
    file = folder / "manifests.yaml"
    file.write_text(yaml.safe_dump_all(manifests()))
    try:
        run("podman", "play", "kube", file)
        (container,) = read_json("podman", "inspect", CONTAINER)
        yield container
    finally:
        run("podman", "play", "kube", "--down", file)
        run("podman", "secret", "rm", "credit-scoring-decision-log", "credit-scoring-keys")
        for volume in run("podman", "volume", "ls", "--quiet", "--filter", "name=^credit-scoring-").split():
            run("podman", "volume", "rm", volume)


def _create_secrets(file: Path) -> None:
    """podman 4.3 makes the files of a secret from a document with plain data."""
    for name, data in (("decision-log", {"key": secrets.token_hex(32)}), ("keys", {"keys.yaml": NOBODY})):
        file.write_text(json.dumps({"data": data}))
        run("podman", "secret", "create", f"credit-scoring-{name}", file)


def test_it_answers(played: dict[str, Any]) -> None:
    assert json.loads(run("podman", "exec", CONTAINER, "python", "-c", HEALTH))["status"] == "ok"


def test_it_is_restricted_as_the_manifest_says(played: dict[str, Any]) -> None:
    assert played["Config"]["User"] == "10034:10034"
    assert played["HostConfig"]["ReadonlyRootfs"]
    assert played["HostConfig"]["Memory"] == 768 << 20
    assert played["EffectiveCaps"] in (None, [])
