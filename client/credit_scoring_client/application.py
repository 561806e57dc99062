"""Encode applications and feature vectors as JSON values."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from decimal import Decimal

Application = Mapping[str, object]
"""Value of each column: a number, text, bool, None, or a numpy scalar of these; None, NaN, and pandas' NA and NaT mean
missing. A Decimal is sent as the nearest float."""

Identified = tuple[str | None, Application]
"""A client_id and its application."""

_PANDAS_MISSING = ("NAType", "NaTType")

JsonValue = str | int | float | bool | None


def encoded_application(application: object, where: str = "") -> dict[str, JsonValue]:
    """Return the JSON value of each column; None where missing. `where` precedes the column's name in errors.

    Raises
    ------
    ValueError
        A value is infinite.
    TypeError
        `application` is no mapping, or a value is neither number, text, bool nor None.

    Examples
    --------
    >>> encoded_application({"AMT_CREDIT": 4e5, "OWN_CAR_AGE": float("nan")})
    {'AMT_CREDIT': 400000.0, 'OWN_CAR_AGE': None}
    """
    if not isinstance(application, Mapping):
        raise TypeError(f"{where}application must be a mapping of columns to values")
    return {column: _encoded(value, f"{where}{column}") for column, value in application.items()}


def encoded_features(features: Iterable[object]) -> list[JsonValue]:
    """Return the JSON values of a feature vector; errors as in `encoded_application`.

    >>> encoded_features([1, float("-inf")])
    Traceback (most recent call last):
    ValueError: features[1] is infinite; a number must be finite, or NaN where it is missing
    """
    return [_encoded(value, f"features[{position}]") for position, value in enumerate(features)]


def encoded_client_id(client_id: object, where: str = "") -> dict[str, str]:
    """Return the client_id as part of a body, which is empty for None; TypeError if it is not text."""
    if client_id is None:
        return {}
    if not isinstance(client_id, str):
        raise TypeError(f"{where}client_id must be text or None")
    return {"client_id": client_id}


def encoded_item(application: object, client_id: object, where: str = "") -> dict[str, object]:
    """Return one application with its client_id, which is left out if it is None."""
    return {**encoded_client_id(client_id, where), "application": encoded_application(application, where)}


def encoded_items(applications: Iterable[Application | Identified]) -> list[dict[str, object]]:
    """Return the items of a batch, in order; errors name the item's position, else as in `encoded_application`."""
    return [_encoded_item(item, f"applications[{position}].") for position, item in enumerate(applications)]


def _encoded_item(item: Application | Identified, where: str) -> dict[str, object]:
    match item:
        case Mapping():
            return encoded_item(item, None, where)
        case (client_id, application):
            return encoded_item(application, client_id, where)
    raise TypeError(f"{where.rstrip('.')} must be a mapping of columns or a pair (client_id, mapping)")


def _encoded(value: object, name: str) -> JsonValue:
    plain = _plain(value)
    if isinstance(plain, float) and math.isinf(plain):
        raise ValueError(f"{name} is infinite; a number must be finite, or NaN where it is missing")
    if isinstance(plain, float) and math.isnan(plain):
        return None
    if plain is None or isinstance(plain, str | int | float):
        return plain
    raise TypeError(f"{name} must be a number, text, bool or None")


def _plain(value: object) -> object:
    if isinstance(value, Decimal):
        return float(value)
    # Found by name, since pandas need not be installed. `NA != NA` is NA, so the usual test for NaN fails on it.
    if type(value).__name__ in _PANDAS_MISSING and type(value).__module__.startswith("pandas."):
        return None
    # Arrays have .item() too, but also __len__; numpy's masked constant is one and would become a silent 0.
    item = getattr(value, "item", None)
    return item() if callable(item) and not hasattr(value, "__len__") else value
