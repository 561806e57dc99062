"""The HTTP contract, answered by the hardened container of an image: CREDIT_SCORING_IMAGE names it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import yaml

from deploy.command import read_json, run
from deploy.image.container import hardened
from scoring.artefact import Artefact
from scoring.scorer import Scorer
from scoring.store import StoredModel
from tests.server import Server

IMAGE = os.environ.get("CREDIT_SCORING_IMAGE", "")

if not IMAGE or shutil.which("podman") is None:
    pytest.skip("it needs podman and an image: `make image-check IMAGE=...` runs it", allow_module_level=True)

from tests.e2e.test_contract import *  # noqa: E402, F403 - every test of the contract, with the fixtures below


@dataclass(frozen=True)
class Contained(Server):
    """A service in a container."""

    first: int

    @property
    def pid(self) -> int:
        return self.first


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Contained]:
    log = tmp_path_factory.mktemp("container") / "log"
    with hardened(IMAGE, log, memory="1g") as container:
        host, port = container.address
        yield Contained(f"http://{host}:{port}", log, container.process, container.pid)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> StoredModel:
    """The champion that is in the image."""
    folder = tmp_path_factory.mktemp("image")
    created = run("podman", "create", IMAGE).strip()
    try:
        run("podman", "cp", f"{created}:/app/bento/models", folder)
    finally:
        run("podman", "rm", created)
    (inspected,) = read_json("podman", "image", "inspect", IMAGE)
    description = folder / "models" / inspected["Labels"]["credit-scoring.model"].replace(":", "/") / "model.yaml"
    said = yaml.safe_load(description.read_text())
    artefact = Artefact.read(description.parent, digest=said["metadata"]["digest"])
    return StoredModel(said["name"], said["version"], Scorer(artefact))


def test_what_is_in_the_image_is_listed_in_it() -> None:
    listed = run("podman", "run", "--rm", "--entrypoint", "cat", IMAGE, "/app/sbom.cdx.json")
    names = {component["name"] for component in yaml.safe_load(listed)["components"]}
    assert {"bentoml", "lightgbm", "numpy"} <= names
    assert names & {"scipy", "pandas", "mlflow", "pip"} == set()
