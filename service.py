"""The BentoML service: its typed APIs, and the boundary by which their requests come in."""

from __future__ import annotations

import asyncio
import logging
import os
from functools import cache
from pathlib import Path
from typing import Any, cast

import bentoml
import numpy as np
from bentoml._internal.server.http.traffic import TimeoutMiddleware
from numpy.typing import NDArray
from starlette.applications import Starlette
from starlette.types import ASGIApp

from features.request import Record
from monitoring.recorder import LOG_VARIABLE, Recorder, open_recorder
from monitoring.settings import MonitoringSettings
from scoring.keys import KEYS_VARIABLE
from scoring.store import SIGNER_VARIABLE, StoredModel, load_stored
from serving.app import Boundary, ScoringRoute
from serving.authentication import Guard, Keyring
from serving.engine import DecisionEngine
from serving.pages import Pages
from serving.preflight import check_start, load_settings, make_absolute, require_keys_or_loopback
from serving.request_metrics import Exposition, Traffic
from serving.runtime import SHARED_VARIABLE, Front, hold_shared, keep_apart, share_one_arena
from serving.schemas import Answer, BatchAnswer, BatchRequest, Decision, FeaturesRequest, PredictRequest
from serving.settings import BoundaryPosition, Placement, ServingSettings

_CONFIGS = Path(__file__).parent / "configs"
_SETTINGS, _MONITORING = "CREDIT_SCORING_SETTINGS", "CREDIT_SCORING_MONITORING"
SETTINGS = load_settings(ServingSettings, Path(os.environ.get(_SETTINGS, _CONFIGS / "serving.yaml")))
MONITORING = load_settings(MonitoringSettings, Path(os.environ.get(_MONITORING, _CONFIGS / "monitoring.yaml")))


class _CreditScoringService(bentoml.Service[Any]):  # type: ignore[misc]
    """BentoML's application with the boundary around it, and with a folder of its own for metrics."""

    def inject_config(self) -> None:
        """What BentoML's commands do before they make their folders."""
        super().inject_config()
        keep_apart()

    def to_asgi(self, is_main: bool = True) -> ASGIApp:
        """The application of an API worker."""
        outermost = SETTINGS.boundary is BoundaryPosition.OUTERMOST
        if not outermost:
            self.add_asgi_middleware(_bounded)
        app = cast("Starlette", super().to_asgi(is_main))
        app.router.redirect_slashes = False
        logging.getLogger("uvicorn.access").propagate = False  # uvicorn would prepare lines that BentoML's level drops
        if not outermost:
            return app
        # Its timer keeps all that belongs to a request for traffic.timeout seconds, answered or not: 5 kB of each 404.
        app.user_middleware = [one for one in app.user_middleware if cast("Any", one.cls) is not TimeoutMiddleware]
        return _bounded(app)


@bentoml.service(name="credit_scoring_model", **SETTINGS.runner.service)
class ModelService:
    """The model in a service of its own; runs where the placement of the runner is `service`."""

    def __init__(self) -> None:
        hold_shared(os.environ)
        self.model = load_stored(SETTINGS.model, threads=SETTINGS.runner.threads).scorer.model

    @bentoml.api(route="/margins")  # type: ignore[untyped-decorator]
    async def margins(self, matrix: np.ndarray) -> np.ndarray:
        """Raw log-odds of default, shape (n,), of a model matrix of shape (n, features)."""
        return await asyncio.to_thread(self.model.margins, matrix)


class _Whole(bentoml.IODescriptor):  # type: ignore[misc]
    """What BentoML's clients send and get as it is.

    They take the schema of a route at its word: of an object they pass on the declared names only, and of a union they
    know the first member. So the one they are told says no more than which parts there are, and /docs.json says all.
    """

    @classmethod
    def model_json_schema(cls, *arguments: Any, **options: Any) -> dict[str, Any]:
        """The names of the parts and which are required, not of what they are made."""
        schema: dict[str, Any] = super().model_json_schema(*arguments, **options)
        parts = {name: {"title": name} for name in schema["properties"]}
        return {key: value for key, value in schema.items() if key != "$defs"} | {"properties": parts}


class PredictInput(_Whole, PredictRequest):
    """Body of /predict."""


class FeaturesInput(_Whole, FeaturesRequest):
    """Body of /predict/features."""


class BatchInput(_Whole, BatchRequest):
    """Body of /predict/batch."""


class DecisionOutput(_Whole, Decision):
    """Answer of /predict and /predict/features."""


class BatchOutput(_Whole, BatchAnswer):
    """Answer of /predict/batch."""


@bentoml.service(name="credit_scoring", service_class=_CreditScoringService, **SETTINGS.bentoml)
class CreditScoring:
    """Credit decisions on loan applications."""

    if SETTINGS.runner.placement is Placement.SERVICE:
        model: Any = bentoml.depends(ModelService)

    def __init__(self) -> None:
        share_one_arena()
        hold_shared(os.environ)
        margins = self._margins if SETTINGS.runner.placement is Placement.SERVICE else None
        stored = load_stored(SETTINGS.model)
        self.engine = DecisionEngine(stored, SETTINGS, _traffic().batch, _recorder_of(stored), margins)
        self.engine.warm_up()

    @bentoml.on_deployment  # type: ignore[untyped-decorator]
    def check() -> None:
        """Refuse, before any worker is started, what no worker could start with."""
        make_absolute(os.environ, (_SETTINGS, _MONITORING, KEYS_VARIABLE, LOG_VARIABLE, SIGNER_VARIABLE))
        check_start(SETTINGS, MONITORING, os.environ)

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    def close(self) -> None:
        """Finish what is recorded."""
        if self.engine.recorder is not None:
            self.engine.recorder.close()

    async def _margins(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        return cast("NDArray[np.float64]", await self.model.margins(matrix))

    @bentoml.api(route="/predict", input_spec=PredictInput, output_spec=DecisionOutput)  # type: ignore[untyped-decorator]
    async def predict(self, application: Record, client_id: str | None = None) -> Answer:
        """Score one application."""
        return await self.engine.predict(PredictRequest.model_construct(application=application, client_id=client_id))

    @bentoml.api(route="/predict/features", input_spec=FeaturesInput, output_spec=DecisionOutput)  # type: ignore[untyped-decorator]
    async def predict_features(self, features: list[float | None], client_id: str | None = None) -> Answer:
        """Score one row of the model matrix."""
        return await self.engine.predict_features(
            FeaturesRequest.model_construct(features=features, client_id=client_id)
        )

    @bentoml.api(route="/predict/batch", input_spec=BatchInput, output_spec=BatchOutput)  # type: ignore[untyped-decorator]
    async def predict_batch(self, applications: list[PredictRequest]) -> Answer:
        """Score many applications; an invalid one is rejected alone."""
        return await self.engine.predict_batch(applications)


def _bounded(app: ASGIApp) -> Boundary:
    hosts = SETTINGS.connections.hosts
    front = Front(SETTINGS.connections, SETTINGS.limits.timeout_seconds)
    guard = Guard(SETTINGS.access, _keyring(), hosts)
    return Boundary(app, SETTINGS.limits, guard, _traffic(), _routes, _fault, front)


def _keyring() -> Keyring | None:
    path = require_keys_or_loopback(os.environ)
    if path is None:
        return None
    keyring = Keyring(path, SETTINGS.access)
    keyring.watch()
    return keyring


@cache
def _traffic() -> Traffic:
    return Traffic(SETTINGS.metrics.duration_buckets)


@cache
def _exposition() -> Exposition:
    return Exposition(os.environ.get(SHARED_VARIABLE))


def _fault() -> str | None:
    """Why this worker should be asked nothing; None if it may be."""
    recorder = _recorder()
    return _exposition().fault() or (recorder.fault() if recorder else None)


def _recorder_of(model: StoredModel) -> Recorder | None:
    if not MONITORING.recording.enabled:
        return None
    recorder = open_recorder(model, MONITORING.recording, MONITORING.drift, os.environ)
    _traffic().tallies.include(recorder)
    return recorder


def _engine() -> DecisionEngine:
    return cast("CreditScoring", bentoml.get_current_service()).engine


def _routes() -> dict[str, ScoringRoute]:
    return _engine().routes


def _served() -> StoredModel:
    return _engine().served


def _recorder() -> Recorder | None:
    return _engine().recorder


cast("bentoml.Service[Any]", CreditScoring).mount_asgi_app(Pages(_served, _recorder, _exposition, SETTINGS).app)
