"""moto's server with the answers that it lacks and the AWS provider asks for.

Runs in the environment .venv-infrastructure. Missing in moto 5.2: tags of scalable targets and budgets, who hears of a
budget, setting an EFS backup policy, and the deployment of a new task definition. What it takes and then forgets is in
rehearsal.py.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from moto.applicationautoscaling.responses import ApplicationAutoScalingResponse
from moto.budgets.responses import BudgetsResponse
from moto.ecs.models import EC2ContainerServiceBackend
from moto.efs.models import FileSystem
from moto.efs.responses import EFSResponse
from moto.server import main

_target_tags: dict[str, dict[str, str]] = {}
_budget_tags: dict[str, list[dict[str, str]]] = {}
_register_target = ApplicationAutoScalingResponse.register_scalable_target
_update_service = EC2ContainerServiceBackend.update_service
_create_budget = BudgetsResponse.create_budget


def _register_target_with_tags(self: Any) -> str:
    answer: str = _register_target(self)
    _target_tags.setdefault(json.loads(answer)["ScalableTargetARN"], {}).update(self._get_param("Tags") or {})
    return answer


def _list_target_tags(self: Any) -> str:
    return json.dumps({"Tags": _target_tags[self._get_param("ResourceARN")]})


def _create_budget_with_tags(self: Any) -> str:
    _budget_tags[self._get_param("Budget")["BudgetName"]] = self._get_param("ResourceTags") or []
    return str(_create_budget(self))


def _list_budget_tags(self: Any) -> str:
    name = self._get_param("ResourceARN").rpartition("budget/")[2]
    return json.dumps({"ResourceTags": _budget_tags[name]})


def _describe_subscribers(self: Any) -> str:
    budget = self.backend.budgets[self._get_param("AccountId")][self._get_param("BudgetName")]
    wanted = self._get_param("Notification")["NotificationType"]
    (told,) = [known for known in budget.notifications if known.details["NotificationType"] == wanted]
    return json.dumps({"Subscribers": told.subscribers})


def _put_backup_policy(self: Any) -> tuple[int, dict[str, str], str]:
    policy = self._get_param("BackupPolicy")
    file_system = self.efs_backend.file_systems_by_id[self._get_param("FileSystemId")]
    file_system._backup = policy["Status"] == "ENABLED"  # noqa: SLF001
    return 200, {"Content-Type": "application/json"}, json.dumps({"BackupPolicy": policy})


def _backup_policy(self: Any) -> dict[str, str]:
    return {"Status": "ENABLED" if self._backup else "DISABLED"}


def _update_deployed_service(self: Any, properties: dict[str, Any]) -> Any:
    service = _update_service(self, properties)
    service.deployments[0]["taskDefinition"] = service.task_definition
    return service


def _play() -> None:
    ApplicationAutoScalingResponse.register_scalable_target = _register_target_with_tags
    ApplicationAutoScalingResponse.list_tags_for_resource = _list_target_tags
    BudgetsResponse.create_budget = _create_budget_with_tags
    BudgetsResponse.list_tags_for_resource = _list_budget_tags
    BudgetsResponse.describe_subscribers_for_notification = _describe_subscribers
    EFSResponse.put_backup_policy = _put_backup_policy
    EC2ContainerServiceBackend.update_service = _update_deployed_service
    FileSystem.backup_policy = property(_backup_policy)
    main(sys.argv[1:])


if __name__ == "__main__":
    _play()
