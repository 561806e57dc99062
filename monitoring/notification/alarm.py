"""What there is to tell."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Alarm:
    """The finding of a check: an alarm, or that there is none.

    Attributes
    ----------
    name : of the check; with the labels it says which alarm this is
    firing : whether there is something to look at
    severity : critical, warning or info
    summary : one line
    description : more lines; figures, never an applicant's value
    """

    name: str
    firing: bool
    severity: str
    summary: str
    description: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The same for every finding of one check on one subject.

        >>> Alarm("drift", True, "warning", "...").key == Alarm("drift", False, "info", "gone").key
        True
        """
        parts = [self.name, *(f"{name}={value}" for name, value in sorted(self.labels.items()))]
        return hashlib.blake2b("\0".join(parts).encode(), digest_size=16).hexdigest()

    @property
    def status(self) -> str:
        """The word that receivers know."""
        return "firing" if self.firing else "resolved"
