"""The least that BentoML can serve."""

from __future__ import annotations

import bentoml


@bentoml.service
class Empty:
    """A service without a model."""

    @bentoml.api
    def ping(self) -> str:
        """Answer."""
        return "pong"
