"""What callers send: the typed bodies of the three scoring routes, and how bytes become them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, Field, ValidationError
from pydantic_core import from_json

from features import Application, ClientId, Record

from .errors import Fault, Invalid, NotJson, faults

Number = Annotated[float, Field(strict=True)]
Body = TypeVar("Body", bound=BaseModel)


class PredictRequest(Record):
    """One application to score."""

    client_id: ClientId | None = Field(default=None, description="The caller's name for the applicant, given back")
    application: Application  # type: ignore[valid-type]  # a model made from the declaration


class FeaturesRequest(Record):
    """One row of the model matrix, for callers that keep features themselves."""

    client_id: ClientId | None = Field(default=None, description="The caller's name for the applicant, given back")
    features: list[Number | None] = Field(description="In the order of /model/info; null is missing")


class BatchRequest(Record):
    """Applications to score together."""

    applications: list[PredictRequest] = Field(min_length=1)


class _Items(Record):
    """The envelope of a batch. Its applications are validated one by one: that takes no longer, and others get on."""

    applications: list[Any] = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class Batch:
    """The applications of a batch that can be scored, their positions, and why the others cannot."""

    size: int
    positions: Sequence[int]
    requests: Sequence[PredictRequest]
    rejected: dict[int, list[Fault]]


def decode(model: type[Body], body: bytes) -> Body:
    """The body as a request; NotJson or Invalid if it is none."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise _refusal(error) from None


def decode_batch(body: bytes, *, limit: int) -> Batch:
    """The body as a batch of at most `limit` applications; one that is invalid does not spoil the others."""
    items = _items(body)
    if len(items) > limit:
        fault = {"loc": ["applications"], "msg": f"holds {len(items)} applications, at most {limit} are answered"}
        raise Invalid.because([fault])
    requests: dict[int, PredictRequest] = {}
    rejected: dict[int, list[Fault]] = {}
    for position, item in enumerate(items):
        try:
            requests[position] = PredictRequest.model_validate(item)
        except ValidationError as invalid:
            rejected[position] = faults(invalid)
    return Batch(len(items), list(requests), list(requests.values()), rejected)


def _items(body: bytes) -> list[Any]:
    try:
        return _Items.model_validate(from_json(body)).applications  # twice as fast as model_validate_json
    except ValidationError as error:
        raise _refusal(error) from None
    except ValueError:
        raise NotJson("The body is not JSON.") from None


def _refusal(error: ValidationError) -> NotJson | Invalid:
    if error.error_count() == 1 and error.errors(include_url=False, include_input=False)[0]["type"] == "json_invalid":
        return NotJson("The body is not JSON.")
    return Invalid.because(faults(error))
