"""LitServe with one worker; a request is validated and scored there, a single request as a batch of one.

As in LitServe's examples, `decode_request` and `encode_response` have no annotations: with them LitServe would validate
bodies and answers a second time.
"""

from __future__ import annotations

import os
from typing import Any

import litserve as ls

from benchmarks.peers.decision import BatchRequest, Decider


class CreditScoring(ls.LitAPI):
    """Decode, decide, encode."""

    def setup(self, device: str) -> None:  # noqa: ARG002 - LitServe's signature
        """Load the model."""
        self.decider = Decider()

    def decode_request(self, request):  # type: ignore[no-untyped-def]
        """The validated applications."""
        return BatchRequest.model_validate(request)

    def predict(self, request: BatchRequest) -> list[dict[str, Any]]:
        """Decide on each."""
        return self.decider.decide(request.applications)

    def encode_response(self, decisions):  # type: ignore[no-untyped-def]
        """The answer."""
        return {"results": decisions}


if __name__ == "__main__":
    server = ls.LitServer(CreditScoring(api_path="/predict"), accelerator="cpu", workers_per_device=1)
    server.run(
        host="127.0.0.1",
        port=int(os.environ["PORT"]),
        num_api_servers=1,
        log_level="warning",
        access_log=False,
        generate_client_file=False,
    )
