"""The HTTP side of the service: the ASGI boundary, requests, the decision engine with its runner, answers, problems."""

from __future__ import annotations

from .accepting import Front
from .answers import Answer, BatchAnswer, Decision
from .batches import Batch, decode_batch
from .boundary import Boundary, ScoringRoute
from .engine import DecisionEngine
from .errors import Invalid, Problem
from .example import EXAMPLE
from .guard import Guard
from .listening import keys_or_loopback
from .memory import share_one_arena
from .openapi import openapi_document
from .pages import Pages
from .requests import BatchRequest, FeaturesRequest, PredictRequest, decode
from .runner import EmbeddedRunner, RemoteRunner
from .settings import BoundaryPosition, Placement, ServingSettings
from .shared import SHARED_VARIABLE, hold_shared, keep_apart
from .startable import anchor, check_startable, load_settings
from .traffic import Exposition, Traffic

__all__ = [
    "EXAMPLE",
    "SHARED_VARIABLE",
    "Answer",
    "Batch",
    "BatchAnswer",
    "BatchRequest",
    "Boundary",
    "BoundaryPosition",
    "Decision",
    "DecisionEngine",
    "EmbeddedRunner",
    "Exposition",
    "FeaturesRequest",
    "Front",
    "Guard",
    "Invalid",
    "Pages",
    "Placement",
    "PredictRequest",
    "Problem",
    "RemoteRunner",
    "ScoringRoute",
    "ServingSettings",
    "Traffic",
    "anchor",
    "check_startable",
    "decode",
    "decode_batch",
    "hold_shared",
    "keep_apart",
    "keys_or_loopback",
    "load_settings",
    "openapi_document",
    "share_one_arena",
]
