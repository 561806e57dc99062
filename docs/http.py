"""The page of the HTTP interface, made from the OpenAPI document that the service publishes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from features.portfolio import Portfolio
from serving.pages import openapi_document
from serving.preflight import load_settings
from serving.schemas import Requests, example_of
from serving.settings import ServingSettings

_HEAD = """# HTTP interface

Requests and answers are JSON; batches may be [tables](../how-to/serve.md#send-a-table) too. Errors are problems after
[RFC 9457](https://www.rfc-editor.org/rfc/rfc9457), of the media type `application/problem+json`. Every answer carries
`X-Request-ID`: the caller's, if one was sent.

This page is made from the OpenAPI document that the service publishes at `/docs.json`. The service shows the same
document at `/`, where requests can be tried. Probes are `/livez` and `/readyz`; Prometheus reads `/metrics`.
"""


_PLACES = {"header": "Header field", "path": "Path"}


def http_page(root: Path) -> str:
    """Every route with its body, answers and errors, then every schema."""
    settings = load_settings(ServingSettings, root / "configs/serving.yaml")
    portfolio = Portfolio.named_in(root / "configs/training.yaml")
    document = openapi_document(
        Requests(portfolio),
        example_of(portfolio),
        version="VERSION",
        batch_limit=settings.limits.batch_applications,
        opened=settings.access.open,
    )
    routes = [_route(path, verb, what) for path, verbs in document["paths"].items() for verb, what in verbs.items()]
    schemas = [_schema(name, schema) for name, schema in sorted(document["components"]["schemas"].items())]
    return "\n\n".join([_HEAD, "## Routes", *routes, "## Schemas", *schemas]) + "\n"


def _route(path: str, verb: str, what: dict[str, Any]) -> str:
    parts = [f"### {verb.upper()} {path}", f"{what['summary']}."]
    parts += [_parameter(field) for field in what.get("parameters", ())]
    if "requestBody" in what:
        contents = what["requestBody"]["content"]
        media = contents["application/json"]
        others = "".join(f", or a table as `{name}`" for name in contents if name != "application/json")
        parts.append(f"Body: {_type(media['schema'])}{others}.")
        if "example" in media:
            parts.append(f"```json\n{json.dumps(media['example'], indent=2)}\n```")
    rows = [
        f"| {status} | {answer['description']} | {_answer(answer)} |" for status, answer in what["responses"].items()
    ]
    return "\n\n".join([*parts, "\n".join(["| status | when | body |", "|---|---|---|", *rows])])


def _parameter(field: dict[str, Any]) -> str:
    bounds = f"{_type(field['schema'])}, {_bounds(field['schema'])}"
    return f"{_PLACES[field['in']]} `{field['name']}`: {bounds}. {field['description']}."


def _answer(answer: dict[str, Any]) -> str:
    return ", ".join(map(_media, answer.get("content", {}).items())) or "none"


def _media(content: tuple[str, dict[str, Any]]) -> str:
    """The type of a body, or its media type where the schema says no more."""
    name, media = content
    return f"`{name}`" if "contentMediaType" in media["schema"] else _type(media["schema"])


def _schema(name: str, schema: dict[str, Any]) -> str:
    said = schema.get("description", "").partition("\n")[0]
    required = set(schema.get("required", ()))
    rows = [
        f"| `{field}` | {_type(what)} | {'yes' if field in required else 'no'} | {_bounds(what)} |"
        for field, what in schema.get("properties", {}).items()
    ]
    table = "\n".join(["| field | type | required | bounds |", "|---|---|---|---|", *rows]) if rows else _type(schema)
    return "\n\n".join(part for part in [f"### {name}", said, table] if part)


def _type(what: dict[str, Any]) -> str:
    """The type in a word, with a link where it is a schema of this page."""
    if "$ref" in what:
        name = what["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    for several in ("anyOf", "oneOf"):
        if several in what:
            return " or ".join(dict.fromkeys(_type(one) for one in what[several]))
    if "enum" in what:
        return ", ".join(f"`{value}`" for value in what["enum"])
    if "const" in what:
        return f"`{what['const']}`"
    if what.get("type") == "array":
        return f"list of {_type(what.get('items', {}))}"
    return str(what.get("type", "any"))


def _bounds(what: dict[str, Any]) -> str:
    """The bounds of a number, a text or a list, wherever in a union they are."""
    parts = [what, *what.get("anyOf", ())]
    words = {
        "minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below",
        "minLength": "length at least", "maxLength": "length at most", "minItems": "items at least",
        "maxItems": "items at most",
    }  # fmt: skip
    return ", ".join(f"{word} {part[key]}" for part in parts for key, word in words.items() if key in part)
