"""The calls of the HTTP contract, as steps without I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .application import (
    Application,
    Identified,
    encoded_client_id,
    encoded_features,
    encoded_item,
    encoded_items,
)
from .batch import BatchResult, batch_in
from .clock import Clock
from .decision import Decision, decision_in
from .exchange import Steps, exchange, probe, wait_until_ready
from .request import get, post
from .retry import Retry

_ONCE = Retry(attempts=1)


@dataclass(frozen=True, slots=True)
class Contract:
    """Steps of every call; the methods are those of the clients."""

    retry: Retry
    clock: Clock

    def predict(self, application: Application, client_id: str | None, request_id: str | None) -> Steps[Decision]:
        """Decide on one application."""
        request = post("/predict", encoded_item(application, client_id), request_id)
        return decision_in((yield from exchange(request, retry=self.retry, clock=self.clock)))

    def predict_batch(
        self, applications: Iterable[Application | Identified], request_id: str | None
    ) -> Steps[BatchResult]:
        """Decide on several applications."""
        items = encoded_items(applications)
        request = post("/predict/batch", {"applications": items}, request_id)
        return batch_in((yield from exchange(request, retry=self.retry, clock=self.clock)), size=len(items))

    def predict_features(
        self, features: Iterable[float | None], client_id: str | None, request_id: str | None
    ) -> Steps[Decision]:
        """Decide on the model's own vector."""
        body = {**encoded_client_id(client_id), "features": encoded_features(features)}
        request = post("/predict/features", body, request_id)
        return decision_in((yield from exchange(request, retry=self.retry, clock=self.clock)))

    def model_info(self) -> Steps[Mapping[str, Any]]:
        """Describe the model."""
        return (yield from exchange(get("/model/info"), retry=self.retry, clock=self.clock)).fields

    def health(self) -> Steps[Mapping[str, Any]]:
        """Describe the server's health now, so one attempt only."""
        return (yield from exchange(get("/health"), retry=_ONCE, clock=self.clock)).fields

    def ready(self) -> Steps[bool]:
        """Whether the server takes work now."""
        return (yield from probe(get("/readyz"))) is None

    def wait_until_ready(self, timeout: float) -> Steps[None]:
        """Wait for the server to take work."""
        return wait_until_ready(get("/readyz"), timeout, clock=self.clock)
