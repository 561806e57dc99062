"""Apply, plan again, destroy: what Terraform makes of an account, and whether it leaves it as it was."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from typing import Any

from deploy.errors import DeployError

from .account import Account
from .terraform import Terraform

_OWN = ("example.tfvars", "staging.tfvars")  # later files win


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """What was seen."""

    terraform: str
    provider: str
    environment: str
    resources: int
    apply_seconds: float
    drift: list[str]
    destroy_seconds: float
    left: int

    def as_json(self) -> dict[str, Any]:
        """All of it, to be kept."""
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"{self.resources} resources applied in {self.apply_seconds:.0f} s, {len(self.drift)} drifted, "
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
    drift = terraform.changes(environment, *given)
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
        destroy_seconds=destroyed,
        left=left,
    )


def _seconds(terraform: Terraform, *words: str, environment: dict[str, str]) -> float:
    begun = time.monotonic()
    terraform(*words, environment=environment)
    return round(time.monotonic() - begun, 1)
