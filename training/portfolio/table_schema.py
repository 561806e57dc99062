"""Table Schema (Frictionless, version 2): one may be read as a hint for a draft, and a portfolio is written as one.

https://datapackage.org/standard/table-schema/. It knows types, bounds, levels and codes for missing, but not protected
attributes, outcomes, features or settings.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from features.portfolio import Portfolio
from features.schema import Column, ColumnKind, day_text, is_missing_word
from jobs.errors import SettingsError
from jobs.settings import SETTINGS_BYTES, read_regular

PROFILE = "https://datapackage.org/profiles/2.0/tableschema.json"

_KINDS = {
    "integer": ColumnKind.COUNT,
    "number": ColumnKind.NUMBER,
    "boolean": ColumnKind.FLAG,
    "string": ColumnKind.CATEGORY,
    "date": ColumnKind.DATE,
    "datetime": ColumnKind.DATE,
    "year": ColumnKind.COUNT,
}
_TYPES = {
    ColumnKind.COUNT: "integer",
    ColumnKind.NUMBER: "number",
    ColumnKind.FLAG: "boolean",
    ColumnKind.CATEGORY: "string",
    ColumnKind.DATE: "date",
}


class _Lenient(BaseModel):
    # The standard lets everybody add properties of their own.
    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)


class _Labelled(_Lenient):
    """A value with a label for people."""

    value: str | int


class Constraints(_Lenient):
    """What a field's values must keep."""

    required: bool = False
    enum: tuple[str | int | float, ...] = ()
    minimum: float | str | None = None
    maximum: float | str | None = None


class FieldHint(_Lenient):
    """One field of a Table Schema, as far as a draft can use it."""

    name: str
    type: str = "any"
    title: str = ""
    description: str = ""
    unit: str = ""
    constraints: Constraints = Constraints()
    categories: tuple[str | int | _Labelled, ...] = ()
    missing_values: tuple[str | _Labelled, ...] | None = Field(default=None, alias="missingValues")

    @property
    def kind(self) -> ColumnKind | None:
        """The kind of column; None where the type says nothing."""
        if self.levels and self.type in ("string", "integer"):
            return ColumnKind.CATEGORY
        return _KINDS.get(self.type)

    @property
    def levels(self) -> tuple[str | int, ...]:
        """The values that are listed: all whole numbers, or all texts."""
        values = tuple(map(_value, self.categories or self.constraints.enum))
        whole = self.type == "integer" and all(isinstance(value, int) for value in values)
        return tuple(int(value) if whole else str(value) for value in values)

    def codes(self) -> tuple[str, ...]:
        """The texts that mean missing in this field, without those that mean it everywhere."""
        return tuple(text for text in map(str, map(_value, self.missing_values or ())) if not is_missing_word(text))


class TableSchema(_Lenient):
    """A Table Schema, as far as a draft can use it."""

    fields: tuple[FieldHint, ...]
    missing_values: tuple[str | _Labelled, ...] = Field(default=(), alias="missingValues")
    primary_key: str | tuple[str, ...] = Field(default=(), alias="primaryKey")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Return the schema in the JSON file at `path`; SettingsError if it cannot be read or is none."""
        try:
            read = cls.model_validate_json(read_regular(path, SETTINGS_BYTES))
        except OSError as error:
            raise SettingsError(f"{path}: cannot be read ({error.strerror})") from None
        except ValidationError as error:
            fault = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(map(str, fault["loc"])) or "file"
            raise SettingsError(f"{path}: no Table Schema: {place}: {fault['msg']}") from None
        return read

    @model_validator(mode="after")
    def _fields_inherit_the_codes(self) -> Self:
        codes = {"missing_values": self.missing_values}
        fields = [one.model_copy(update=codes) if one.missing_values is None else one for one in self.fields]
        return self.model_copy(update={"fields": tuple(fields)})

    @property
    def identity(self) -> str | None:
        """The one column of the primary key; None if there is no key, or one of several columns."""
        key = (self.primary_key,) if isinstance(self.primary_key, str) else self.primary_key
        return key[0] if len(key) == 1 else None

    @property
    def by_name(self) -> dict[str, FieldHint]:
        """The fields by their names."""
        return {field.name: field for field in self.fields}


def _value(stated: str | float | _Labelled) -> str | int | float:
    return stated.value if isinstance(stated, _Labelled) else stated


def table_schema(portfolio: Portfolio) -> dict[str, Any]:
    """Return the Table Schema of a portfolio's labelled file, JSON-ready."""
    declared = portfolio.declared
    fields, key = [], {}
    if declared.identity is not None:
        stored = "integer" if declared.identity.kind == "whole" else "string"
        constraints = {"required": True, "unique": True}
        fields.append({"name": declared.identity.column, "type": stored, "constraints": constraints})
        key = {"primaryKey": [declared.identity.column]}
    fields += [_field(column, declared.files.decimal) for column in portfolio.schema.stated]
    outcome = declared.outcome
    values = {"required": True, "enum": [*outcome.good, *outcome.bad]}
    fields.append({"name": outcome.column, "type": "string", "description": outcome.means, "constraints": values})
    return {"$schema": PROFILE, "fields": fields, "missingValues": ["", "NA", "NaN", "null"], **key}


def _field(column: Column, decimal: str) -> dict[str, Any]:
    field = {"name": column.name, "type": _TYPES[column.kind], "description": column.description, "unit": column.unit}
    if column.coded and column.levels:
        field["type"] = "integer"
    if decimal != "." and column.kind is ColumnKind.NUMBER:
        field["decimalChar"] = decimal
    constraints = dict(_constraints(column))
    codes = [f"{code:.12g}" if isinstance(code, float) else code for code in column.missing]
    return (
        field
        | ({"constraints": constraints} if constraints else {})
        | ({"missingValues": ["", "NA", "NaN", "null", *codes]} if codes else {})
    )


def _constraints(column: Column) -> Iterator[tuple[str, Any]]:
    if column.required:
        yield "required", True
    if column.levels:
        yield "enum", [int(level) if column.coded else level for level in column.levels]
    if column.kind is ColumnKind.FLAG:
        return
    for name, bound in (("minimum", column.low), ("maximum", column.high)):
        if math.isfinite(bound):
            yield name, _bound(column, bound)


def _bound(column: Column, bound: float) -> float | int | str:
    if column.kind is ColumnKind.DATE:
        return day_text(bound)
    return int(bound) if bound.is_integer() else bound
