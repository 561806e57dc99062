"""The manifests of a rehearsal, and its record as a table."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from deploy.rehearsal.manifests import manifests
from deploy.rehearsal.report import table
from tests.skipped import needs


@needs("kubectl")
@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root gives files away: `sudo make test`")
def test_the_manifests_hold_nothing_that_the_older_cluster_would_refuse(tmp_path: Path) -> None:
    keys = tmp_path / "keys.yaml"
    keys.write_text("keys: []\n", encoding="utf-8")
    applied = list(yaml.safe_load_all(manifests("credit-scoring:one", tmp_path, keys)))
    jobs = {one["metadata"]["name"]: one["spec"]["jobTemplate"]["spec"] for one in applied if one["kind"] == "CronJob"}
    assert {"credit-scoring-batch", "credit-scoring-close", "credit-scoring-drift"} <= jobs.keys()
    assert not any({"completionMode", "backoffLimitPerIndex"} & job.keys() for job in jobs.values())
    assert not {one["apiVersion"] for one in applied} & {"autoscaling/v2", "policy/v1", "batch/v1"}


def test_an_act_is_a_row_with_what_was_not_answered() -> None:
    record = {
        "date": "2026-01-01",
        "command": "make rehearse",
        "kubernetes": "v1.20.2",
        "install": {"seconds": 2.0},
        "eviction": {"evictions": ["evicted", "refused"], "requests": {"200": 1200}},
        "out of memory": {"requests": {"200": 10, "ConnectionResetError": 2}, "said": ["no"]},
    }
    assert table(record).splitlines() == [
        "Kubernetes v1.20.2, 2026-01-01, `make rehearse`.",
        "",
        "| act | answered | not answered | |",
        "|---|---|---|---|",
        "| eviction | 1,200 | none | evictions: evicted, refused |",
        "| out of memory | 10 | 2 ConnectionResetError |  |",
    ]
