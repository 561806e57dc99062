"""The ECS service of deploy/terraform as a target of roll-outs, by the AWS command line."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from deploy.command import run
from deploy.errors import DeployError
from deploy.release.rollout import Target

_CONTAINER = "service"
_ASSIGNED = (  # what ECS adds to a task definition and does not take back
    "taskDefinitionArn", "revision", "status", "requiresAttributes", "compatibilities", "registeredAt", "registeredBy",
)  # fmt: skip


class Ecs(Target):
    """A service of a cluster; `running` and `prepare` name task definitions."""

    def __init__(
        self,
        *,
        cluster: str,
        service: str,
        seconds: float,
        pause: float = 5.0,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._cluster, self._service = cluster, service
        self._seconds, self._pause = seconds, pause
        self._environment = environment

    def running(self) -> str:
        """The task definition of the service."""
        return str(self._described()["taskDefinition"])

    def prepare(self, image: str) -> str:
        """A new task definition: the running one with another image."""
        definition = self._aws("describe-task-definition", "--task-definition", self.running())["taskDefinition"]
        given = {name: value for name, value in definition.items() if name not in _ASSIGNED}
        for container in given["containerDefinitions"]:
            if container["name"] == _CONTAINER:
                container["image"] = image
        registered = self._aws("register-task-definition", "--cli-input-json", json.dumps(given))
        return str(registered["taskDefinition"]["taskDefinitionArn"])

    def point(self, name: str) -> None:
        """Update the service and wait until its deployment is complete."""
        self._aws("update-service", *self._named(), "--task-definition", name)
        deadline = time.monotonic() + self._seconds
        while (state := self._state(name)) != "COMPLETED":
            if state in ("FAILED", None):
                raise DeployError(f"ECS gave {name} up")
            if time.monotonic() > deadline:
                raise DeployError(f"{name} was not ready within {self._seconds:g} s")
            time.sleep(self._pause)

    def _state(self, name: str) -> str | None:
        """Of the deployment of a task definition; None once ECS has replaced it by another."""
        deployments = self._described()["deployments"]
        return next((str(d["rolloutState"]) for d in deployments if d["taskDefinition"] == name), None)

    def _described(self) -> dict[str, Any]:
        found = self._aws("describe-services", "--cluster", self._cluster, "--services", self._service)["services"]
        if not found:
            raise DeployError(f"no service {self._service} in cluster {self._cluster}")
        return dict(found[0])

    def _named(self) -> tuple[str, ...]:
        return "--cluster", self._cluster, "--service", self._service

    def _aws(self, *words: str) -> Any:
        return json.loads(run("aws", "ecs", *words, "--output", "json", environment=self._environment))
