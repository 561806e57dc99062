"""Serve the GET routes: health, model, drift counts, metrics, the OpenAPI document and the pages for people."""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cached_property
from hashlib import sha256
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from pydantic_core import to_json
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from features.portfolio import Portfolio
from features.schema import Column, ColumnKind
from monitoring.recorder import Recorder
from scoring.store import StoredModel
from scoring.waterfall import STYLE
from serving.exchange import TABLES
from serving.problems import MEDIA_TYPE
from serving.request_metrics import OVERRIDE, Exposition
from serving.schemas import (
    Answer,
    BatchAnswer,
    BatchRequest,
    Decision,
    DriftCounts,
    ExplainAnswer,
    ExplainRequest,
    FeaturesRequest,
    Health,
    ModelInfo,
    OverrideAnswer,
    OverrideRequest,
    PredictRequest,
    ProblemDocument,
    Requests,
    example_of,
)
from serving.settings import DECIDE_PATH, ServingSettings

_REFERENCE = "#/components/schemas/{model}"
_Pair = tuple[str, type[BaseModel], type[BaseModel]]
_SCORING: dict[str, _Pair] = {
    "/predict": ("Score one application", PredictRequest, Decision),
    "/predict/batch": ("Score many applications; an invalid one is rejected alone", BatchRequest, BatchAnswer),
    "/predict/features": ("Score one row of the model matrix", FeaturesRequest, Decision),
    "/explain": ("Score one application, and say what its margin is made of", ExplainRequest, ExplainAnswer),
}
_READING: dict[str, tuple[str, type[BaseModel]]] = {
    "/model/info": ("The model that answers: version, digest, features, policy, metrics, lineage", ModelInfo),
    "/drift": ("What was scored, counted over the bins of the model's drift reference", DriftCounts),
    "/health": ("The service answers, and with which model", Health),
}
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
    "400": "The body is not of its media type, or the head of the request cannot be used",
    "409": "The request with this Idempotency-Key is under way",
    "413": "The body is too large",
    "415": "The body is declared as a media type that is not read",
    "422": "The request does not fit its schema, or the Idempotency-Key stands for another one",
    "501": "The model gives no reasons",
    "503": "Too many requests wait, or the service is not ready",
    "504": "The answer was not ready in time",
}

_OVERRIDE_REFUSALS = {
    "404": "No such decision is recorded",
    "409": "The decision is that one already, or the request with this Idempotency-Key is under way",
    "501": "The service keeps no decision log",
    "503": "The override cannot be recorded, too many requests wait, or the service is not ready",
}

_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "A repetition with this key gets the first answer, marked by Idempotency-Replayed: true",
    "schema": {"type": "string", "minLength": 1, "maxLength": 128},
}


def openapi_document(
    requests: Requests, example: Any, *, version: str, batch_limit: int, opened: Collection[str]
) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of the routes that callers use; those in `opened` need no key."""
    models: list[type[BaseModel]] = [ProblemDocument, *(answer for _, answer in _READING.values())]
    models += [requests.predict, requests.explain, requests.batch, requests.features]
    models += [answer for _, _, answer in _SCORING.values()]
    models += [OverrideRequest, OverrideAnswer]
    _, definitions = models_json_schema([(model, "validation") for model in models], ref_template=_REFERENCE)
    schemas = definitions["$defs"]
    # The limit is a setting, and the models are made before settings are read.
    schemas["BatchRequest"]["properties"]["applications"]["maxItems"] = batch_limit
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Credit scoring",
            "version": version,
            "description": "Credit decisions on loan applications.",
        },
        "paths": {**_scoring_paths(opened, example), **_override_path(), **_reading_paths(opened)},
        "components": {"schemas": schemas, "securitySchemes": _SCHEMES},
    }


def _scoring_paths(opened: Collection[str], example: Any) -> dict[str, Any]:
    examples = {"/predict": example, "/explain": example, "/predict/batch": {"applications": [example]}}
    return {
        path: {
            "post": {
                "summary": summary,
                "tags": ["scoring"],
                "operationId": path.strip("/").replace("/", "_"),
                "parameters": [_KEY],
                "requestBody": {"required": True, **_body(path, request, examples.get(path))},
                "security": _security(path, opened),
                "responses": {"200": _scored(path, answer), **_problems(_REFUSALS)},
            }
        }
        for path, (summary, request, answer) in _SCORING.items()
    }


def _body(path: str, request: type[BaseModel], example: Any) -> dict[str, Any]:
    found = _content(None, request, example=example)
    if path == "/predict/batch":
        found["content"] |= _tables("A column for each column of the declaration, and client_id")
    return found


def _tables(description: str) -> dict[str, Any]:
    """Batches as tables, whose bytes JSON Schema cannot describe (OpenAPI 3.1, 4.8.14.2)."""
    return {
        name: {"schema": {"type": "string", "contentMediaType": name, "description": description}}
        for name in (media_type.decode() for media_type in TABLES)
    }


def _scored(path: str, answer: type[BaseModel]) -> dict[str, Any]:
    found = _content("Scored", answer)
    if path == "/predict/batch":
        found["content"] |= _tables("A row for each application, scored or rejected")
    if path == "/explain":
        found["content"]["image/svg+xml"] = {"schema": {"type": "string", "contentMediaType": "image/svg+xml"}}
    return found


def _override_path() -> dict[str, Any]:
    named = {"name": "request_id", "in": "path", "required": True, "schema": {"type": "string", "maxLength": 128}}
    return {
        OVERRIDE: {
            "post": {
                "summary": "Approve or decline in the place of a recorded decision",
                "tags": ["decisions"],
                "operationId": "override",
                "parameters": [{**named, "description": "The request id of the decision"}, _KEY],
                "requestBody": {
                    "required": True,
                    **_content(None, OverrideRequest, example={"decision": "approve", "reason": "Income was verified"}),
                },
                "security": _security(OVERRIDE, ()),
                "responses": {"200": _content("Recorded", OverrideAnswer), **_problems(_REFUSALS | _OVERRIDE_REFUSALS)},
            }
        }
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
    """The GET routes of the service.

    Parameters
    ----------
    served, recorder, exposition, variants : return the model, the recorder of its decisions, the metrics, and all
        models that are loaded; called at each request
    requests : the bodies of requests
    settings : give the OpenAPI document its limits and open routes
    keyed : whether the service needs keys
    """

    def __init__(
        self,
        served: Callable[[], StoredModel],
        recorder: Callable[[], Recorder | None],
        exposition: Callable[[], Exposition],
        variants: Callable[[], list[Answer]],
        settings: ServingSettings,
        requests: Requests,
        *,
        keyed: bool,
    ) -> None:
        self._keyed = keyed
        self._requests = requests
        self._served = served
        self._recorder = recorder
        self._exposition = exposition
        self._variants = variants
        self._settings = settings

    @cached_property
    def app(self) -> Starlette:
        """Return the routes as an ASGI application."""
        # BentoML's own page and /docs.json describe its wrapper, without limits, keys and problem documents.
        page = [Route(DECIDE_PATH, self._decide)] if self._settings.page.enabled else []
        return Starlette(
            routes=[
                *page,
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

    @cached_property
    def _decision_page(self) -> DecisionPage:
        scorer, language = self._served().scorer, self._settings.reasons.language
        return DecisionPage(scorer.artefact.portfolio, scorer.inputs, language=language, keyed=self._keyed)

    async def _decide(self, _: Request) -> Response:
        return self._decision_page.response()

    async def _docs(self, _: Request) -> Response:
        limit, opened = self._settings.limits.batch_applications, self._settings.access.open
        served = self._served()
        example = example_of(served.scorer.artefact.portfolio, served.scorer.artefact)
        document = openapi_document(self._requests, example, version=served.version, batch_limit=limit, opened=opened)
        return _json(document)

    async def _model_info(self, _: Request) -> Response:
        return _json({**model_info(self._served()), "variants": self._variants()})

    async def _health(self, _: Request) -> Response:
        return _json({"status": "ok", "model_version": self._served().version})

    # Without a recorder nothing is counted, so the route does not exist.
    async def _drift(self, _: Request) -> Response:
        recorder = self._recorder()
        return Response(status_code=404) if recorder is None else _json(recorder.drift())

    async def _metrics(self, _: Request) -> Response:
        recorder = self._recorder()
        # BentoML 1.4.39 takes its own /metrics away with metrics.enabled: false.
        text = self._exposition().text(*([recorder] if recorder else []))
        return Response(text, media_type=CONTENT_TYPE_LATEST)


def model_info(served: StoredModel) -> dict[str, Any]:
    """Return what /model/info says of the champion; see `schemas.ModelInfo`."""
    artefact, state = served.scorer.artefact, served.scorer.transformer.state
    return {
        "name": served.name,
        "portfolio": artefact.portfolio.name,
        "version": served.version,
        "digest": artefact.digest,
        "revises": artefact.revises,
        "features": served.scorer.features,
        "histories": state.histories,
        "categories": {name: state.vocabularies[name] for name in state.names if name in state.vocabularies},
        "required_columns": [column.name for column in artefact.portfolio.schema if column.required],
        "reasons": {reason.code: dict(reason.wording) for reason in artefact.portfolio.reasons or ()},
        "explained_by": None if artefact.reasons is None else artefact.reasons.version,
        "policy": artefact.policy,
        "metrics": artefact.metrics,
        "lineage": artefact.lineage,
    }


def _json(content: Any) -> Response:
    # Starlette's JSONResponse cannot encode the frozen dataclasses of an artefact.
    return Response(to_json(content), media_type="application/json")


_FILES = Path(__file__).parent / "page"
_OTHERS = "Other columns"
_KEY_FIELD = """<section aria-labelledby="key-title">
<h2 id="key-title">Your key</h2>
<form id="access" class="field" autocomplete="off">
<label for="key">API key with the scope “explain”</label>
<p class="hint" id="key-hint">Kept in the memory of this page only: it is gone when you leave or reload the page.</p>
<input id="key" type="password" autocomplete="off" spellcheck="false" aria-describedby="key-hint">
</form>
</section>"""


class DecisionPage:
    """The page on which an underwriter enters an application, and sees its decision, reasons and waterfall.

    It is one file, loads nothing and holds no data: it is made from the portfolio's declaration. What is entered stays
    in its memory; the decision comes from POST /explain, which asks for a key where the service does.

    Parameters
    ----------
    read : the columns that the model reads; a protected column is on the form only if it is among them
    language : of the reasons
    keyed : whether the service needs keys
    """

    def __init__(self, portfolio: Portfolio, read: Collection[str], *, language: str, keyed: bool) -> None:
        style, script = (_text(f"decide.{suffix}") for suffix in ("css", "js"))
        fields = "\n".join(_form(portfolio, read))
        self.html = Template(_text("decide.html")).substitute(
            style=style, script=script, fields=fields, language=language, key=_KEY_FIELD if keyed else ""
        )
        self.headers = {
            "Content-Security-Policy": _policy(script, (style, STYLE)),
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-cache",
        }

    def response(self) -> Response:
        """Return the answer to a request for the page."""
        return HTMLResponse(self.html, headers=self.headers)


def _text(name: str) -> str:
    return (_FILES / name).read_text(encoding="utf-8")


def _policy(script: str, styles: Sequence[str]) -> str:
    """Allow this script and these styles by their hashes, requests to this service, and nothing else."""
    allowed = " ".join(map(_hash, styles))
    return (
        f"default-src 'none'; script-src {_hash(script)}; style-src {allowed}; connect-src 'self'; img-src data:;"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


def _form(portfolio: Portfolio, read: Collection[str]) -> Iterator[str]:
    """The fields: those of required columns, and then each group of the others, folded."""
    shown = [column for column in portfolio.schema.stated if column.name in read or not column.protected]
    place = {column.name: i for i, column in enumerate(shown)}
    required = [column for column in shown if column.required]
    if required:
        yield "<fieldset><legend>Required</legend>"
        yield from _fields(required, place)
        yield "</fieldset>"
    for title, columns in _groups(portfolio, [column for column in shown if not column.required]).items():
        yield f'<details><summary>{escape(title)} <span class="soft"></span></summary>'
        yield from _fields(columns, place)
        yield "</details>"


def _groups(portfolio: Portfolio, columns: Sequence[Column]) -> dict[str, list[Column]]:
    """The columns by the name of the group that their reasons belong to, in the order of the declaration."""
    reasons = portfolio.reasons
    found: dict[str, list[Column]] = {} if reasons is None else {_title(group.name): [] for group in reasons.groups}
    found[_OTHERS] = []
    for column in columns:
        group = None if reasons is None else reasons.of_feature.get(column.name)
        found[_OTHERS if group is None else _title(group.name)].append(column)
    return {title: listed for title, listed in found.items() if listed}


def _title(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _fields(columns: Sequence[Column], place: dict[str, int]) -> Iterator[str]:
    yield '<div class="fields">'
    for column in columns:
        name, given = escape(column.name), f"c{place[column.name]}"
        required = ' aria-required="true"' if column.required else ""
        attributes = (
            f'id="{given}" data-column="{name}" data-kind="{column.kind}"'
            f' aria-describedby="{given}-hint {given}-error"{required}'
        )
        yield (
            f'<div class="field"><label for="{given}">{name}</label>'
            f'<p class="hint" id="{given}-hint">{escape(_hint(column))}</p>'
            f"{_control(column, attributes)}"
            f'<p class="error" id="{given}-error" hidden></p></div>'
        )
    yield "</div>"


def _control(column: Column, attributes: str) -> str:
    levels = ("0", "1") if column.kind is ColumnKind.FLAG else column.levels
    if levels:
        options = "".join(f'<option value="{escape(level)}">{escape(level)}</option>' for level in levels)
        return f'<select {attributes}><option value="">not known</option>{options}</select>'
    if column.kind is ColumnKind.DATE:
        return f'<input type="date" {attributes}>'
    # The keyboards of some phones for decimals have no minus sign.
    keyboard = ' inputmode="decimal"' if column.numeric and column.low >= 0 else ""
    return f'<input type="text"{keyboard} {attributes}>'


def _hint(column: Column) -> str:
    """What a column means, its unit and its bounds."""
    bounded = column.numeric and not (math.isinf(column.low) and math.isinf(column.high))
    is_listed = column.kind in (ColumnKind.CATEGORY, ColumnKind.FLAG)
    facts = [] if is_listed else [column.unit, *([column.range] if bounded else [])]
    return f"{column.description} ({', '.join(facts)})" if facts else column.description
