"""The section `access` of configs/serving.yaml."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from features import Settings


class AccessSettings(Settings):
    """What needs no key, and how often a key may be used. The keys are where CREDIT_SCORING_KEYS says."""

    open: tuple[Annotated[str, Field(pattern=r"^/\S*$")], ...]
    """Paths that anybody may ask for."""
    requests_per_second: float = Field(gt=0)
    """Of one key in each worker, unless the key has a rate of its own."""
    burst_seconds: float = Field(ge=1)
    """So many seconds' requests may come at once."""
    reload_seconds: float = Field(gt=0)
    """How often the file is looked at: a key that was revoked is refused after this time at the latest."""
