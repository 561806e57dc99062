"""The pydantic model of one raw application, which the API, the client and the documentation share."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from operator import itemgetter
from typing import Annotated, Any, Literal, Self, cast

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool, create_model, model_validator
from pydantic_core import PydanticCustomError

from features.application import APPLICATION
from features.schema import Column, ColumnKind, Order, Schema
from features.transformer import Columns

LONGEST_LEVEL = 100
"""The most characters that a category may have."""

LONGEST_CLIENT_ID = 64
"""The most characters that a caller's name for an applicant may have."""

ClientId = Annotated[str, Field(strict=True, min_length=1, max_length=LONGEST_CLIENT_ID, pattern=r"\S")]
"""A caller's name for an applicant, in requests and in files; it must not be blank."""


class Record(BaseModel):
    """Base of `Application`: it refuses unknown fields, NaN and infinity, and no error message quotes a value."""

    # A misspelt column must not pass as a missing one, and an applicant's value must not reach a log.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True)


def _number(column: Column) -> Any:
    multiple = 1 if column.whole else None
    legal = Annotated[float, Field(strict=True, ge=column.low, le=column.high, multiple_of=multiple)]
    if column.kind is ColumnKind.FLAG:
        return Annotated[legal | StrictBool, Field(union_mode="left_to_right")]
    codes = [code for code in column.missing if isinstance(code, float) and not column.low <= code <= column.high]
    # A code such as 365243 lies beyond the bounds. Type checkers allow no float in a Literal (PEP 586).
    return Literal[tuple(map(int, codes))] | legal if codes else legal


def _level(column: Column) -> Any:
    legal = Annotated[str, Field(strict=True, max_length=LONGEST_LEVEL)]
    return Annotated[legal, AfterValidator(partial(_present, column))] if column.required else legal


def _present(column: Column, level: str) -> str:
    # A declared level never means missing, and nearly every level is declared: the cheap test comes first.
    if level not in column.levels and column.is_missing(level):
        raise PydanticCustomError("missing", "Field required")
    return level


def _field(column: Column) -> tuple[Any, Any]:
    annotation = _number(column) if column.numeric else _level(column)
    description = f"{column.description} [{column.unit}]"
    if column.required:
        return annotation, Field(description=description)
    return annotation | None, Field(default=None, description=description)


class _Ordered(Record):
    """Checks the declared orders, each between two columns."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        stated = self.__dict__
        for order in APPLICATION.orders:
            smaller, larger = stated[order.smaller], stated[order.larger]
            if smaller is not None and larger is not None and smaller > larger and not _are_codes(order, stated):
                raise PydanticCustomError("order", "{name} {rule}", {"name": order.smaller, "rule": order.rule})
        return self


def _are_codes(order: Order, stated: dict[str, Any]) -> bool:
    """Whether one of the two columns holds a code for missing."""
    return any(stated[name] in APPLICATION[name].missing for name in (order.smaller, order.larger))


def _model(schema: Schema) -> type[Record]:
    fields: Any = {column.name: _field(column) for column in schema}
    return cast("type[Record]", create_model("Application", __base__=_Ordered, __doc__=_DOC, **fields))


_DOC = (
    "One raw loan application. A column that is absent, null or a word for missing is missing; `required` columns must "
    "be there."
)

Application = _model(APPLICATION)
"""The pydantic model of one raw application, derived from the declaration."""

_numbers = itemgetter(*(column.name for column in APPLICATION.numeric))
_levels = itemgetter(*(column.name for column in APPLICATION.categorical))


def columns_of(applications: Sequence[Record]) -> Columns:
    """The records as columns, one row each, in order; None becomes NaN in the numeric columns."""
    values = [application.__dict__ for application in applications]
    levels = np.empty((len(values), len(APPLICATION.categorical)), dtype=object)
    for row, value in enumerate(values):
        levels[row] = _levels(value)
    numbers = np.array([_numbers(value) for value in values], dtype=np.float64)
    return Columns(numbers.reshape(len(values), len(APPLICATION.numeric)), levels)
