"""Building the images: a context of exactly what they need, and buildah."""

from __future__ import annotations

import re
import shutil
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from deploy.command import read_json, run
from deploy.errors import DeployError

ROOT = Path(__file__).resolve().parents[2]
NAME = "credit-scoring"
_CONTAINERFILE = Path(__file__).with_name("Containerfile")
BASE = re.findall(r"^ARG BASE=(\S+)$", _CONTAINERFILE.read_text(encoding="utf-8"), flags=re.MULTILINE)[0]
_DIGEST = re.compile(r"@sha256:[0-9a-f]{64}")
_OFFLINE_SOURCE = ("features", "jobs", "scoring", "decision_log", "monitoring", "configs")
_HOME = ("bentos", "envs", "models", "tmp")  # bentoml would make them at import, which a read-only root forbids


@dataclass(frozen=True, slots=True)
class Images:
    """The references of the built images, and the base and the model that are in them."""

    serving: str
    offline: str
    base: str
    base_digest: str
    model: str


def build(bento: str, base: str, *, pinned: bool = False) -> Images:
    """Build both images of a Bento, named after its version; DeployError for a base without digest where `pinned`."""
    if pinned and not _DIGEST.search(base):
        raise DeployError(f"{base}: a tag can be moved: name the base with its digest, BASE={base}@sha256:...")
    with tempfile.TemporaryDirectory(prefix="credit-scoring-image-") as scratch:
        context = Path(scratch)
        version, model = _export(bento, context)
        _add_source(context)
        run("buildah", "pull", "--quiet", "--policy", "missing", base)
        (inspected,) = read_json("podman", "image", "inspect", base)
        images = Images(f"{NAME}:{version}", f"{NAME}-offline:{version}", base, inspected["Digest"], model)
        for target, reference in (("serving", images.serving), ("offline", images.offline)):
            _build(context, target, reference, images, version)
    return images


def _export(bento: str, context: Path) -> tuple[str, str]:
    """Put a Bento with its model into the context; its version and its model's tag."""
    archive = context / "exported.bento"
    run("bentoml", "export", bento, archive)
    with tarfile.open(archive) as exported:
        exported.extractall(context / "bento", filter="data")
    archive.unlink()
    shutil.rmtree(context / "bento" / "env")  # of bentoml's own Dockerfile
    document = yaml.safe_load((context / "bento" / "bento.yaml").read_text(encoding="utf-8"))
    return str(document["version"]), name_models(context / "bento", document["models"])


def name_models(bento: Path, models: Sequence[Mapping[str, Any]]) -> str:
    """The exact tag of the champion in an exported Bento, which may hold challengers too.

    The offline image reads the models as a store, which knows no aliases of a Bento. So its `latest` becomes the
    champion, and an alias `NAME:word` a file beside it. DeployError if no model has the name that the settings serve.
    """
    served = yaml.safe_load((bento / "src" / "configs" / "serving.yaml").read_text(encoding="utf-8"))["model"]
    tags = {str(model.get("alias") or model["tag"]): str(model["tag"]) for model in models}
    if served not in tags:
        raise DeployError(f"the Bento has no model with the alias {served}, which configs/serving.yaml names")
    for alias, tag in tags.items():
        name, _, version = tag.partition(":")
        word = "latest" if alias == served else alias.removeprefix(f"{name}:")
        if word not in {alias, version}:
            (bento / "models" / name / word).write_text(version, encoding="utf-8")
    return tags[served]


def _add_source(context: Path) -> None:
    shutil.copytree(ROOT / "requirements", context / "locks")
    for name in _OFFLINE_SOURCE:
        shutil.copytree(ROOT / name, context / "source" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in _HOME:
        (context / "offline-home" / name).mkdir(parents=True)


def _build(context: Path, target: str, reference: str, images: Images, version: str) -> None:
    labels = {
        "org.opencontainers.image.title": reference.partition(":")[0],
        "org.opencontainers.image.version": version,
        "org.opencontainers.image.base.name": images.base,
        "org.opencontainers.image.base.digest": images.base_digest,
        "credit-scoring.model": images.model,
    }
    options = [option for name, value in labels.items() for option in ("--label", f"{name}={value}")]
    run(
        "buildah", "bud", "--quiet", "--layers", "--file", _CONTAINERFILE, "--target", target,
        "--build-arg", f"BASE={images.base}", *options, "--tag", reference, context,
    )  # fmt: skip
