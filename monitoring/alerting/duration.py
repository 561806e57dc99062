"""Durations as Prometheus writes them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Self

from pydantic import PlainSerializer, PlainValidator

_MILLISECONDS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
_WRITTEN = re.compile(r"([1-9][0-9]*)(ms|s|m|h|d)")


@dataclass(frozen=True, order=True)
class Duration:
    """A length of time; its text is what PromQL and the settings call it.

    >>> str(Duration.parse("90m")), str(Duration.parse("60m"))
    ('90m', '1h')
    """

    milliseconds: int

    @classmethod
    def parse(cls, text: object) -> Self:
        """The duration that `text` names, like 30s, 5m or 7d; ValueError if it names none."""
        written = _WRITTEN.fullmatch(text) if isinstance(text, str) else None
        if written is None:
            raise ValueError("must be a whole number and a unit (ms, s, m, h or d), like 5m")
        return cls(int(written[1]) * _MILLISECONDS[written[2]])

    @property
    def seconds(self) -> float:
        """Its length in seconds."""
        return self.milliseconds / 1000

    def __truediv__(self, factor: int) -> Self:
        """The duration that is `factor` times shorter, a millisecond at least."""
        return type(self)(max(1, self.milliseconds // factor))

    def __str__(self) -> str:
        unit, length = next((u, n) for u, n in _MILLISECONDS.items() if self.milliseconds % n == 0)
        return f"{self.milliseconds // length}{unit}"


Written = Annotated[Duration, PlainValidator(Duration.parse), PlainSerializer(str)]
"""A duration in a settings file."""
