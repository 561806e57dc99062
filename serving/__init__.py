"""The HTTP side of the service: requests, answers, problems, the runner and the ASGI boundary."""

from __future__ import annotations

from .answers import BatchAnswer, Decision, decisions
from .boundary import DECODED, REQUEST_ID, Boundary, problem_response
from .errors import Invalid, Overloaded, Problem
from .example import EXAMPLE
from .pages import Pages
from .requests import Batch, FeaturesRequest, PredictRequest, batch_request, decode, decode_batch
from .runner import Runner
from .settings import ServingSettings

__all__ = [
    "DECODED",
    "EXAMPLE",
    "REQUEST_ID",
    "Batch",
    "BatchAnswer",
    "Boundary",
    "Decision",
    "FeaturesRequest",
    "Invalid",
    "Overloaded",
    "Pages",
    "PredictRequest",
    "Problem",
    "Runner",
    "ServingSettings",
    "batch_request",
    "decisions",
    "decode",
    "decode_batch",
    "problem_response",
]
