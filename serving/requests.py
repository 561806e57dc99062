"""What callers send: the typed bodies of the three scoring routes, and how the bytes of single ones become them."""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from collections import Counter
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, Field, ValidationError

from features import APPLICATION, Application, ClientId, Record

from .errors import Fault, Invalid, NotJson, faults

Number = Annotated[float, Field(strict=True)]
Body = TypeVar("Body", bound=BaseModel)

NOT_JSON = "The body is not JSON in UTF-8."


class PredictRequest(Record):
    """One application to score."""

    client_id: ClientId | None = Field(default=None, description="The caller's name for the applicant, given back")
    application: Application  # type: ignore[valid-type]  # a model made from the declaration


class FeaturesRequest(Record):
    """One row of the model matrix, for callers that keep features themselves."""

    client_id: ClientId | None = Field(default=None, description="The caller's name for the applicant, given back")
    features: list[Number | None] = Field(description="In the order of /model/info; null is missing")


class BatchRequest(Record):
    """Applications to score together; see `batches` for how they are read."""

    applications: list[PredictRequest] = Field(min_length=1)


def decode(model: type[Body], body: bytes) -> Body:
    """The body as a request; NotJson or Invalid if it is none. A byte order mark before it is passed over."""
    try:
        request = model.model_validate_json(body)
    except ValidationError as error:
        if body.startswith(BOM_UTF8):
            return decode(model, body.removeprefix(BOM_UTF8))
        raise refusal(error) from None
    # Every name has a colon, so as many colons as names that were read mean that none was stated twice. Most bodies
    # have no colon more; those that do, in a level or a client id, are looked at closely.
    if body.count(b":") != _names_read(request):
        require_distinct_names(body)
    return request


def _names_read(request: BaseModel) -> int:
    count = len(request.model_fields_set)
    application = getattr(request, "application", None)
    return count if application is None else count + len(application.model_fields_set)


def require_distinct_names(body: bytes) -> None:
    """Invalid if an object states a name more than once: of two values others might have taken the other one.

    The body is one that was accepted, so that a name of it is a declared one.
    """
    repeated: list[Fault] = []

    def read(pairs: list[tuple[str, Any]]) -> None:
        counts = Counter(name for name, _ in pairs)
        for name in (name for name, count in counts.items() if count > 1):
            loc = ["application", name] if name in APPLICATION else [name]
            repeated.append({"loc": loc, "msg": "is stated more than once"})

    json.loads(body, object_pairs_hook=read)
    if repeated:
        raise Invalid.because(repeated)


def refusal(error: ValidationError) -> NotJson | Invalid:
    """What is said of a body that is invalid."""
    return NotJson(NOT_JSON) if not_json(error) else Invalid.because(faults(error))


def not_json(error: ValidationError) -> bool:
    """Whether a body is invalid because it is no JSON at all."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    return error.error_count() == 1 and first["type"] == "json_invalid"
