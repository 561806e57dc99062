"""Prometheus' rules as an object of Prometheus' operator: the same groups, from deploy/prometheus."""

from __future__ import annotations

from pathlib import Path

import yaml

from deploy.errors import DeployError
from deploy.settings import ROOT

SOURCE = ROOT / "deploy" / "prometheus"
TARGET = ROOT / "deploy" / "kubernetes" / "base" / "prometheus-rule.yaml"
_HEAD = "# Made by `python -m deploy.kubernetes rules` from deploy/prometheus.\n"


def prometheus_rule(source: Path = SOURCE) -> str:
    """The manifest; DeployError if there are no rules."""
    files = sorted(source.glob("*.rules.yml"))
    if not files:
        raise DeployError(f"{source}: no *.rules.yml")
    groups = [group for file in files for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]]
    manifest = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "credit-scoring"},
        "spec": {"groups": groups},
    }
    text: str = yaml.safe_dump(manifest, sort_keys=False, width=120)
    return _HEAD + text
