"""Apply, plan again, destroy: what Terraform makes of an account, and whether it leaves it as it was."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from typing import Any

from deploy.errors import DeployError
from deploy.infrastructure.account import Account
from deploy.infrastructure.terraform import Terraform

_OWN = ("example.tfvars", "staging.tfvars")  # later files win

# What moto 5.2 takes and does not give back: a new plan sets it again. Anything else that it would change is drift.
_FORGOTTEN = (
    "module.database.aws_db_instance.this.performance_insights_enabled",
    "module.database.aws_db_instance.this.performance_insights_kms_key_id",
    "module.database.aws_db_parameter_group.this.parameter",
    "module.service.aws_ecs_service.this.availability_zone_rebalancing",
    "module.service.aws_ecs_service.this.health_check_grace_period_seconds",
    "module.service.aws_vpc_security_group_egress_rule.balancer.description",
    "module.service.aws_vpc_security_group_egress_rule.files.description",
    "module.service.aws_vpc_security_group_egress_rule.s3.description",
    "module.service.aws_vpc_security_group_ingress_rule.files.description",
    "module.service.aws_vpc_security_group_ingress_rule.service.description",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """What was seen."""

    terraform: str
    provider: str
    environment: str
    resources: int
    apply_seconds: float
    drift: list[str]
    forgotten_by_moto: list[str]
    destroy_seconds: float
    left: int

    def as_json(self) -> dict[str, Any]:
        """All of it, to be kept."""
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"{self.resources} resources applied in {self.apply_seconds:.0f} s, {len(self.drift)} changes of drift "
            f"({len(self.forgotten_by_moto)} attributes that moto forgets aside), "
            f"destroyed in {self.destroy_seconds:.0f} s, {self.left} left"
        )


def rehearse(terraform: Terraform, account: Account) -> Rehearsal:
    """Rehearse staging in an account; DeployError if a new plan changes anything or something is left."""
    environment = account.environment
    given = [f"-var-file=environments/{name}" for name in _OWN]
    given.append(f"-var=certificate_arn={account.import_certificate()}")
    version = json.loads(terraform("version", "-json"))
    applied = _seconds(terraform, "apply", "-auto-approve", "-input=false", *given, environment=environment)
    resources = terraform.resources(environment)
    changes = terraform.changes(environment, *given)
    drift = sorted(changes - set(_FORGOTTEN))
    destroyed = _seconds(terraform, "destroy", "-auto-approve", "-input=false", *given, environment=environment)
    left = terraform.resources(environment)
    if drift or left:
        raise DeployError(f"{left} resources left after destroy; changed without cause: {', '.join(drift) or 'none'}")
    return Rehearsal(
        terraform=version["terraform_version"],
        provider=version["provider_selections"]["registry.terraform.io/hashicorp/aws"],
        environment="staging",
        resources=resources,
        apply_seconds=applied,
        drift=drift,
        forgotten_by_moto=sorted(changes & set(_FORGOTTEN)),
        destroy_seconds=destroyed,
        left=left,
    )


def _seconds(terraform: Terraform, *words: str, environment: dict[str, str]) -> float:
    begun = time.monotonic()
    terraform(*words, environment=environment)
    return round(time.monotonic() - begun, 1)
