"""Define the BentoML services: the typed APIs, the optional model service, and the boundary around both."""

from __future__ import annotations

import gc

# A full collection amid the imports walks through all objects of BentoML: a fifth of the time of a start.
gc.disable()

import asyncio
import inspect
import logging
import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import bentoml
import numpy as np
from bentoml._internal.server.http.traffic import TimeoutMiddleware
from numpy.typing import NDArray
from starlette.applications import Starlette
from starlette.types import ASGIApp

from decision_log.format import APPLICATION_ONLY, CHAMPION, KEY_FILE_VARIABLE
from decision_log.notary import ADDRESS_VARIABLE, SIGNING_VARIABLE
from features.request import Record
from features.store import STORE_FILE_VARIABLE, stated_address
from monitoring.recorder import LOG_VARIABLE, Recorder, open_recorder
from monitoring.settings import MonitoringSettings
from scoring.keys import KEYS_VARIABLE
from scoring.store import SIGNER_VARIABLE, StoredModel, load_stored
from serving.app import Boundary, ScoringRoute
from serving.authentication import Guard, Keyring
from serving.engine import DecisionEngine
from serving.idempotency import Idempotency, kept_answers
from serving.overrides import Overrides, override_log
from serving.pages import Pages
from serving.preflight import (
    check_feature_store,
    check_start,
    load_settings,
    make_absolute,
    require_keys_or_loopback,
    served_portfolio,
)
from serving.request_metrics import OVERRIDE, Exposition, Traffic
from serving.runtime import (
    METRICS_VARIABLE,
    Front,
    hold_metrics_folder,
    share_one_arena,
    use_own_metrics_folder,
    without_collection,
)
from serving.schemas import (
    Answer,
    BatchAnswer,
    Decision,
    ExplainAnswer,
    ExplainRequest,
    FeaturesRequest,
    PredictRequest,
    Requests,
)
from serving.settings import BoundaryPosition, Placement, ServingSettings
from serving.split import HALT_VARIABLE, HaltFile, described
from serving.variants import Challenger, Variant, VariantState, load_application_only, load_challengers, publish_states

if TYPE_CHECKING:
    from collections.abc import Sequence

    from serving.histories import ClientHistories
    from serving.shadow import Shadow

_CONFIGS = Path(__file__).parent / "configs"
_SETTINGS, _MONITORING = "CREDIT_SCORING_SETTINGS", "CREDIT_SCORING_MONITORING"
_PATHS = (
    _SETTINGS, _MONITORING, KEYS_VARIABLE, SIGNER_VARIABLE, LOG_VARIABLE, KEY_FILE_VARIABLE, SIGNING_VARIABLE,
    ADDRESS_VARIABLE, HALT_VARIABLE, STORE_FILE_VARIABLE,
)  # fmt: skip
SETTINGS = load_settings(ServingSettings, Path(os.environ.get(_SETTINGS, _CONFIGS / "serving.yaml")))
MONITORING = load_settings(MonitoringSettings, Path(os.environ.get(_MONITORING, _CONFIGS / "monitoring.yaml")))
# BentoML wants the types of the APIs when the class is made, before any worker has a model.
MODEL, _PORTFOLIO = served_portfolio(SETTINGS.model)
REQUESTS = Requests(_PORTFOLIO)


class _CreditScoringService(bentoml.Service[Any]):  # type: ignore[misc]
    """Put the boundary around BentoML's application, and give each service its own folder of metrics."""

    def inject_config(self) -> None:
        """Set BentoML's configuration and, in a serving command, the folder of metrics."""
        super().inject_config()
        # BentoML 1.4.39 empties one folder of its home at each start: a second service would lose its metrics.
        use_own_metrics_folder()

    def to_asgi(self, is_main: bool = True) -> ASGIApp:
        """Return the ASGI application of one API worker."""
        outermost = SETTINGS.boundary is BoundaryPosition.OUTERMOST
        if not outermost:
            self.add_asgi_middleware(_bounded)
        app = cast("Starlette", super().to_asgi(is_main))
        # Starlette would answer a path with a slash too many by 307 and not by the 404 that the contract names.
        app.router.redirect_slashes = False
        logging.getLogger("uvicorn.access").propagate = False  # uvicorn would format lines that BentoML's level drops
        if not outermost:
            return app
        # BentoML 1.4.39 never cancels its timer: 5 kB of each 404 stay for traffic.timeout seconds, never 0.
        app.user_middleware = [one for one in app.user_middleware if cast("Any", one.cls) is not TimeoutMiddleware]
        return _bounded(app)


@bentoml.service(name="credit_scoring_model", **SETTINGS.runner.service)
class ModelService:
    """Run the model in a service of its own, where `runner.placement` is `service`."""

    def __init__(self) -> None:
        hold_metrics_folder(os.environ)
        self.model = load_stored(MODEL, threads=SETTINGS.runner.threads).scorer.model

    @bentoml.api(route="/margins")  # type: ignore[untyped-decorator]
    async def margins(self, matrix: np.ndarray) -> np.ndarray:
        """Raw log-odds of default, shape (n,), of a model matrix of shape (n, features)."""
        # BentoML runs an async API on the event loop: a model of milliseconds would hold up probes and other calls.
        return await asyncio.to_thread(self.model.margins, matrix)


class _PartNamesOnly(bentoml.IODescriptor):  # type: ignore[misc]
    """Publish a schema that names the parts of a body only, so that BentoML's clients pass each part on unchanged.

    BentoML's clients drop names that the schema of an object lacks, and know only the first member of a union. The
    whole schema is in /docs.json.
    """

    @classmethod
    def model_json_schema(cls, *_: Any, **__: Any) -> dict[str, Any]:
        """Return the names of the parts and which of them are required, without their types."""
        # Not made from the whole schema, which BentoML would let every worker make eight times: 100 ms of its start.
        closed = {"additionalProperties": False} if cls.model_config.get("extra") == "forbid" else {}
        return closed | {
            "description": inspect.cleandoc(cls.__doc__ or ""),
            "properties": {name: {"title": name} for name in cls.model_fields},
            "required": [name for name, part in cls.model_fields.items() if part.is_required()],
            "title": cls.__name__,
            "type": "object",
        }


class PredictInput(_PartNamesOnly, REQUESTS.predict):  # type: ignore[misc,name-defined]  # made from the portfolio
    """Body of /predict."""


class ExplainInput(_PartNamesOnly, REQUESTS.explain):  # type: ignore[misc,name-defined]  # made from the portfolio
    """Body of /explain."""


class FeaturesInput(_PartNamesOnly, FeaturesRequest):
    """Body of /predict/features."""


class BatchInput(_PartNamesOnly, REQUESTS.batch):  # type: ignore[misc,name-defined]  # made from the portfolio
    """Body of /predict/batch."""


class DecisionOutput(_PartNamesOnly, Decision):
    """Answer of /predict and /predict/features."""


class ExplainOutput(_PartNamesOnly, ExplainAnswer):
    """Answer of /explain."""


class BatchOutput(_PartNamesOnly, BatchAnswer):
    """Answer of /predict/batch."""


@bentoml.service(name="credit_scoring", service_class=_CreditScoringService, **SETTINGS.bentoml)
class CreditScoring:
    """Credit decisions on loan applications."""

    if SETTINGS.runner.placement is Placement.SERVICE:
        model: Any = bentoml.depends(ModelService)

    @without_collection()
    def __init__(self) -> None:
        share_one_arena()
        hold_metrics_folder(os.environ)
        margins = self._margins if SETTINGS.runner.placement is Placement.SERVICE else None
        stored = load_stored(MODEL)
        recorder = _recorder_of(stored)
        self.challengers = load_challengers(SETTINGS, stored)
        publish_states(self.challengers)
        self.engine = DecisionEngine(
            stored,
            REQUESTS,
            SETTINGS,
            _traffic().batch,
            recorder,
            margins,
            shadows=[_shadow(one, stored) for one in self.challengers if one.state is VariantState.SHADOW],
            challengers=[
                (one.settings, _deciding(one, recorder) if one.state is VariantState.DECIDES else None)
                for one in self.challengers
                if one.settings.share
            ],
            application_only=_application_only(stored, recorder),
            halt=HaltFile(Path(os.environ[HALT_VARIABLE]) if os.environ.get(HALT_VARIABLE) else None),
            histories=_histories([stored, *(one.served for one in self.challengers if one.served)]),
        )
        self.engine.warm_up()
        self.overrides = Overrides(override_log(stored, MONITORING.recording), SETTINGS.limits, _traffic())

    @bentoml.on_deployment  # type: ignore[untyped-decorator]
    @without_collection()
    def check() -> None:
        """Refuse a bad start once, before BentoML starts any worker."""
        # A worker that cannot start is started again without end, with a traceback each time.
        make_absolute(os.environ, _PATHS)
        check_start(SETTINGS, MONITORING, REQUESTS, os.environ)
        check_feature_store(os.environ)

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    def close(self) -> None:
        """Write the records that are still open, and close the recorder."""
        try:
            self.overrides.close()
        finally:
            self.engine.close()

    async def _margins(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        return cast("NDArray[np.float64]", await self.model.margins(matrix))

    @bentoml.api(route="/predict", input_spec=PredictInput, output_spec=DecisionOutput)  # type: ignore[untyped-decorator]
    async def predict(self, application: Record, client_id: str | None = None, history: Record | None = None) -> Answer:
        """Score one application."""
        # Made without a second check: BentoML has checked the parts against input_spec.
        return await self.engine.predict(
            PredictRequest.model_construct(application=application, client_id=client_id, history=history)
        )

    @bentoml.api(route="/explain", input_spec=ExplainInput, output_spec=ExplainOutput)  # type: ignore[untyped-decorator]
    async def explain(
        self,
        application: Record,
        client_id: str | None = None,
        changes: bool = False,
        history: Record | None = None,
    ) -> Answer:
        """Score one application, say what its margin is made of, and what would change it if that is asked."""
        return await self.engine.explain(
            ExplainRequest.model_construct(
                application=application, client_id=client_id, changes=changes, history=history
            )
        )

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
    guard = Guard(SETTINGS.admission, _keyring(), hosts)
    return Boundary(app, SETTINGS.limits, guard, _traffic(), _routes, _fault, front, _idempotency())


def _idempotency() -> Idempotency:
    recording = MONITORING.recording.enabled
    answers = kept_answers(os.environ, SETTINGS.limits, SETTINGS.idempotency.hours) if recording else None
    return Idempotency(answers, _traffic(), SETTINGS.limits.retry_after_seconds)


def _keyring() -> Keyring | None:
    path = require_keys_or_loopback(os.environ)
    if path is None:
        return None
    keyring = Keyring(path, SETTINGS.access)
    keyring.watch()
    return keyring


# prometheus_client refuses a second metric of the same name, so boundary and engine share these objects.
@cache
def _traffic() -> Traffic:
    return Traffic(SETTINGS.metrics.duration_buckets)


@cache
def _exposition() -> Exposition:
    return Exposition(os.environ.get(METRICS_VARIABLE))


def _fault() -> str | None:
    """Why this worker is not ready; None if it is."""
    recorders = [variant.recorder for variant in _engine().split.variants]
    return _exposition().fault() or next(filter(None, (one.fault() for one in recorders if one)), None)


def _recorder_of(model: StoredModel, *, variant: str = CHAMPION, beside: Recorder | None = None) -> Recorder | None:
    if not MONITORING.recording.enabled:
        return None
    recorder = open_recorder(
        model, MONITORING.recording, MONITORING.drift, os.environ, with_reasons=SETTINGS.reasons.in_declines,
        variant=variant, beside=beside,
    )  # fmt: skip
    _traffic().tallies.include(recorder)
    return recorder


def _histories(models: Sequence[StoredModel]) -> ClientHistories | None:
    """What finds the histories of clients; None where no model reads any."""
    reader = REQUESTS.histories
    if reader is None or not any(model.scorer.artefact.features.rolled_up for model in models):
        return None
    from serving.histories import ClientHistories  # many models read none

    return ClientHistories(
        _PORTFOLIO, reader, SETTINGS.histories, stated_address(os.environ), _traffic(),
        retry_after=SETTINGS.limits.retry_after_seconds,
    )  # fmt: skip


def _application_only(champion: StoredModel, beside: Recorder | None) -> Variant | None:
    served = load_application_only(SETTINGS, champion)
    if served is None:
        return None
    recorder = _recorder_of(served, variant=APPLICATION_ONLY, beside=beside)
    # A model of milliseconds would hold the event loop up, as it would in the champion's place.
    apart = SETTINGS.runner.placement is Placement.SERVICE
    return Variant(APPLICATION_ONLY, served, SETTINGS, _traffic().batch, recorder, apart=apart)


def _deciding(one: Challenger, beside: Recorder | None) -> Variant:
    name, served = one.settings.name, one.model
    recorder = _recorder_of(served, variant=name, beside=beside)
    return Variant(name, served, SETTINGS, _traffic().batch, recorder, apart=True)


def _shadow(one: Challenger, champion: StoredModel) -> Shadow:
    from serving.judge_process import JudgeProcess, Opening  # most services have none
    from serving.shadow import Shadow, ShadowMetrics

    name, served, recording = one.settings.name, one.model, MONITORING.recording
    opening = Opening.of(
        name, served, champion, recording if recording.enabled else None, with_reasons=SETTINGS.reasons.in_declines
    )
    return Shadow(name, served, champion, ShadowMetrics(name), JudgeProcess(opening))


# BentoML makes the application before the instance, so the engine can be looked up only once requests come.
def _engine() -> DecisionEngine:
    return cast("CreditScoring", bentoml.get_current_service()).engine


def _routes() -> dict[str, ScoringRoute]:
    return {**_engine().routes, OVERRIDE: cast("CreditScoring", bentoml.get_current_service()).overrides.route}


def _served() -> StoredModel:
    return _engine().served


def _recorder() -> Recorder | None:
    return _engine().recorder


def _variants() -> list[Answer]:
    service = cast("CreditScoring", bentoml.get_current_service())
    return described(service.challengers, service.engine.split)


cast("bentoml.Service[Any]", CreditScoring).mount_asgi_app(
    Pages(_served, _recorder, _exposition, _variants, SETTINGS, REQUESTS, keyed=bool(os.environ.get(KEYS_VARIABLE))).app
)

# What was imported stays: no later collection need look at it.
gc.freeze()
gc.enable()
