"""The local overlay as an API server of 1.20 takes it, and what the cluster must have beside it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from deploy.kubernetes.check import render

NAMESPACE = "credit-scoring"
_OLDER = {"policy/v1": "policy/v1beta1", "CronJob": "batch/v1beta1"}
_SCALER = "HorizontalPodAutoscaler"  # autoscaling/v2 came later, and there are no metrics to scale by
_USER = 10034


def manifests(image: str, folder: Path, keys: Path) -> str:
    """All manifests as YAML, with this image in the Deployment, the volumes' data under `folder` and a file of keys."""
    log_key = _secret("credit-scoring-decision-log", {"key": secrets.token_hex(32)})
    access = _secret("credit-scoring-keys", {"keys.yaml": keys.read_text(encoding="utf-8")})
    documents = [*_overlay(image), log_key, access, *_volumes(folder)]
    documents.sort(key=lambda document: document["kind"] != "Namespace")
    text: str = yaml.safe_dump_all(documents, sort_keys=False)
    return text


def _overlay(image: str) -> Iterator[dict[str, Any]]:
    for document in yaml.safe_load_all(render("local")):
        kind, version = document["kind"], document["apiVersion"]
        if kind == _SCALER or _has_an_index(document):
            continue
        document["apiVersion"] = _OLDER.get(kind, _OLDER.get(version, version))
        if kind == "Deployment":
            document["spec"]["template"]["spec"]["containers"][0]["image"] = image
        yield document


def _has_an_index(document: dict[str, Any]) -> bool:
    """Whether it is a job whose pods have an index, which came later too."""
    job = document.get("spec", {}).get("jobTemplate", {}).get("spec", {})
    return bool(job.get("completionMode") == "Indexed")


def _secret(name: str, content: dict[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "stringData": content,
    }


def _volumes(folder: Path) -> Iterator[dict[str, Any]]:
    for name in ("credit-scoring-decisions", "credit-scoring-batches"):
        path = folder / "volumes" / name
        path.mkdir(parents=True, exist_ok=True)
        _own(path)
        claim = {"namespace": NAMESPACE, "name": name}
        yield {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": name},
            "spec": {
                "capacity": {"storage": "1Gi"},
                "accessModes": ["ReadWriteOnce"],
                "claimRef": claim,
                "hostPath": {"path": str(path)},
            },
        }


def _own(path: Path) -> None:
    """Give a folder to the user of the pods, as a storage class would."""
    os.chown(path, _USER, _USER)
