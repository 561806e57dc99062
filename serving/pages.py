"""What can be read of the service: health, the model, the OpenAPI document and the interactive page."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST
from pydantic_core import to_json
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from features import APPLICATION
from monitoring.recording import Recorder
from scoring import StoredModel

from .openapi import openapi_document
from .settings import ServingSettings
from .traffic import Exposition

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Credit scoring</title>
<link rel="stylesheet" href="./static_content/swagger-ui.css">
<link rel="icon" href="data:,">
</head>
<body>
<div id="swagger-ui"></div>
<script src="./static_content/swagger-ui-bundle.js"></script>
<script>SwaggerUIBundle({url: "./docs.json", dom_id: "#swagger-ui", deepLinking: true})</script>
</body>
</html>
"""


class Pages:
    """The GET routes.

    Parameters
    ----------
    served, recorder, exposition : give the model that answers, what records its decisions, and what tells the metrics;
        they are asked at each request
    settings : what the OpenAPI document says of limits and keys
    """

    def __init__(
        self,
        served: Callable[[], StoredModel],
        recorder: Callable[[], Recorder | None],
        exposition: Callable[[], Exposition],
        settings: ServingSettings,
    ) -> None:
        self._served = served
        self._recorder = recorder
        self._exposition = exposition
        self._settings = settings

    @cached_property
    def app(self) -> Starlette:
        """The routes as an ASGI application."""
        return Starlette(
            routes=[
                Route("/", self._index),
                Route("/docs.json", self._docs),
                Route("/model/info", self._model_info),
                Route("/drift", self._drift),
                Route("/health", self._health),
                Route("/metrics", self._metrics),
            ]
        )

    async def _index(self, _: Request) -> Response:
        return HTMLResponse(_PAGE)

    async def _docs(self, _: Request) -> Response:
        limit, opened = self._settings.limits.batch_applications, self._settings.access.open
        return _json(openapi_document(version=self._served().version, batch_limit=limit, opened=opened))

    async def _model_info(self, _: Request) -> Response:
        return _json(model_info(self._served()))

    async def _health(self, _: Request) -> Response:
        return _json({"status": "ok", "model_version": self._served().version})

    async def _drift(self, _: Request) -> Response:
        recorder = self._recorder()
        return Response(status_code=404) if recorder is None else _json(recorder.drift())

    async def _metrics(self, _: Request) -> Response:
        recorder = self._recorder()
        text = self._exposition().text(*([recorder] if recorder else []))
        return Response(text, media_type=CONTENT_TYPE_LATEST)


def model_info(served: StoredModel) -> dict[str, Any]:
    """What /model/info answers; see `answers.ModelInfo`."""
    artefact, state = served.scorer.artefact, served.scorer.transformer.state
    return {
        "name": served.name,
        "version": served.version,
        "digest": artefact.digest,
        "features": served.scorer.features,
        "categories": {name: state.vocabularies[name] for name in state.names if name in state.vocabularies},
        "required_columns": [column.name for column in APPLICATION if column.required],
        "policy": artefact.policy,
        "metrics": artefact.metrics,
        "lineage": artefact.lineage,
    }


def _json(content: Any) -> Response:
    return Response(to_json(content), media_type="application/json")
