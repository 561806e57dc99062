"""The OpenAPI document of the service, made from the models that requests and answers are checked against."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from .answers import BatchAnswer, Decision, DriftCounts, Health, ModelInfo, ProblemDocument
from .errors import MEDIA_TYPE
from .example import EXAMPLE
from .requests import BatchRequest, FeaturesRequest, PredictRequest

_REFERENCE = "#/components/schemas/{model}"
_Pair = tuple[str, type[BaseModel], type[BaseModel]]
_SCORING: dict[str, _Pair] = {
    "/predict": ("Score one application", PredictRequest, Decision),
    "/predict/batch": ("Score many applications; an invalid one is rejected alone", BatchRequest, BatchAnswer),
    "/predict/features": ("Score one row of the model matrix", FeaturesRequest, Decision),
}
_READING: dict[str, tuple[str, type[BaseModel]]] = {
    "/model/info": ("The model that answers: version, digest, features, policy, metrics, lineage", ModelInfo),
    "/drift": ("What was scored, counted over the bins of the model's drift reference", DriftCounts),
    "/health": ("The service answers, and with which model", Health),
}
_EXAMPLES = {"/predict": EXAMPLE, "/predict/batch": {"applications": [EXAMPLE]}}
_SCHEMES = {
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "bearer": {"type": "http", "scheme": "bearer"},
}
_ACCESS = {
    "401": "The request carries no key that is known",
    "403": "The key lacks the scope",
    "429": "The key is used too often",
}
_REFUSALS = {
    **_ACCESS,
    "400": "The body is not JSON",
    "413": "The body is too large",
    "415": "The body is not declared as JSON",
    "422": "The request does not fit its schema",
    "503": "Too many requests wait, or the service is not ready",
    "504": "The answer was not ready in time",
}


def openapi_document(*, version: str, batch_limit: int, opened: Collection[str]) -> dict[str, Any]:
    """The OpenAPI 3.1 document of every route that this project defines; the `opened` ones need no key."""
    models: list[type[BaseModel]] = [ProblemDocument, *(answer for _, answer in _READING.values())]
    for _, request, answer in _SCORING.values():
        models += [request, answer]
    _, definitions = models_json_schema([(model, "validation") for model in models], ref_template=_REFERENCE)
    schemas = definitions["$defs"]
    schemas["BatchRequest"]["properties"]["applications"]["maxItems"] = batch_limit
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Credit scoring",
            "version": version,
            "description": "Credit decisions on loan applications.",
        },
        "paths": {**_scoring_paths(opened), **_reading_paths(opened)},
        "components": {"schemas": schemas, "securitySchemes": _SCHEMES},
    }


def _scoring_paths(opened: Collection[str]) -> dict[str, Any]:
    return {
        path: {
            "post": {
                "summary": summary,
                "tags": ["scoring"],
                "operationId": path.strip("/").replace("/", "_"),
                "requestBody": {"required": True, **_content(None, request, example=_EXAMPLES.get(path))},
                "security": _security(path, opened),
                "responses": {"200": _content("Scored", answer), **_problems(_REFUSALS)},
            }
        }
        for path, (summary, request, answer) in _SCORING.items()
    }


def _reading_paths(opened: Collection[str]) -> dict[str, Any]:
    return {
        path: {
            "get": {
                "summary": summary,
                "tags": ["model"],
                "operationId": path.strip("/").replace("/", "_"),
                "security": _security(path, opened),
                "responses": {"200": _content("Known", answer), **({} if path in opened else _problems(_ACCESS))},
            }
        }
        for path, (summary, answer) in _READING.items()
    }


def _security(path: str, opened: Collection[str]) -> list[dict[str, list[str]]]:
    return [] if path in opened else [{scheme: []} for scheme in _SCHEMES]


def _problems(texts: Mapping[str, str]) -> dict[str, Any]:
    return {status: _content(text, ProblemDocument, MEDIA_TYPE) for status, text in sorted(texts.items())}


def _content(
    description: str | None,
    model: type[BaseModel],
    media_type: str = "application/json",
    *,
    example: Any = None,
) -> dict[str, Any]:
    media: dict[str, Any] = {"schema": {"$ref": _REFERENCE.format(model=model.__name__)}}
    if example is not None:
        media["example"] = example
    content = {"content": {media_type: media}}
    return {"description": description, **content} if description else content
