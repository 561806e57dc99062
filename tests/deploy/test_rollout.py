"""Roll-outs, against an ECS on loopback."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.command import run
from deploy.errors import DeployError
from deploy.infrastructure.account import Account, account
from deploy.release.ecs import Ecs
from deploy.release.rollout import deploy

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ROOT / ".venv-infrastructure" / "bin"
OLD, NEW = f"registry/credit-scoring@sha256:{'a' * 64}", f"registry/credit-scoring@sha256:{'b' * 64}"

pytestmark = pytest.mark.skipif("REHEARSE" not in os.environ, reason="`make rollout-check` runs it")


@pytest.fixture(scope="module")
def aws() -> Iterator[Account]:
    with account() as played:
        yield played


@pytest.fixture
def environment(aws: Account, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setenv("PATH", f"{PROGRAMS}:{os.environ['PATH']}")
    return dict(os.environ) | aws.environment


def served(environment: dict[str, str], cluster: str, *, tasks: int = 2) -> Ecs:
    """A service that runs the old image. The account has room for two tasks."""
    container = {
        "name": "service",
        "image": OLD,
        "essential": True,
        "memory": 512,
        "environment": [{"name": "A", "value": "1"}],
    }
    run("aws", "ecs", "create-cluster", "--cluster-name", cluster, environment=environment)
    run(
        "aws", "ecs", "register-task-definition", "--family", cluster,
        "--container-definitions", json.dumps([container]), environment=environment,
    )  # fmt: skip
    run(
        "aws", "ecs", "create-service", "--cluster", cluster, "--service-name", "credit-scoring",
        "--desired-count", str(tasks), "--task-definition", cluster, environment=environment,
    )  # fmt: skip
    return Ecs(
        cluster=cluster, service="credit-scoring", seconds=20 if tasks == 2 else 1, pause=0.1, environment=environment
    )


def container(ecs: Ecs, environment: dict[str, str]) -> dict[str, object]:
    told = run("aws", "ecs", "describe-task-definition", "--task-definition", ecs.running(), environment=environment)
    (only,) = json.loads(told)["taskDefinition"]["containerDefinitions"]
    return dict(only)


def test_a_roll_out_changes_the_image_and_nothing_else(environment: dict[str, str]) -> None:
    ecs = served(environment, "changed")
    before = container(ecs, environment)
    assert deploy(ecs, NEW).endswith("task-definition/changed:1")
    assert container(ecs, environment) == before | {"image": NEW}


def test_the_way_back_is_a_roll_out_of_the_image_before(environment: dict[str, str]) -> None:
    ecs = served(environment, "back")
    deploy(ecs, NEW)
    deploy(ecs, OLD)
    assert container(ecs, environment)["image"] == OLD


def test_an_image_by_tag_is_refused_and_nothing_changes(environment: dict[str, str]) -> None:
    ecs = served(environment, "tagged")
    with pytest.raises(DeployError, match="a tag may be moved"):
        deploy(ecs, "registry/credit-scoring:latest")
    assert ecs.running().endswith("task-definition/tagged:1")


def test_what_does_not_become_ready_is_put_back(environment: dict[str, str]) -> None:
    ecs = served(environment, "failing", tasks=5)
    with pytest.raises(
        DeployError, match=r"failing:2 was not ready within 1 s; putting back .*failing:1 failed as well"
    ):
        deploy(ecs, NEW)
    assert ecs.running().endswith("task-definition/failing:1")


def test_a_service_that_is_not_there_is_named(environment: dict[str, str]) -> None:
    run("aws", "ecs", "create-cluster", "--cluster-name", "empty", environment=environment)
    with pytest.raises(DeployError, match="no service credit-scoring in cluster empty"):
        deploy(Ecs(cluster="empty", service="credit-scoring", seconds=1, environment=environment), NEW)
