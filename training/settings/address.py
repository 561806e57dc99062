"""Addresses of databases and servers, which may hold a user and a password."""

from __future__ import annotations

import re
from urllib.parse import unquote

_PARAMETERS = re.compile(r"[?#;&]")


def without_credentials(address: str) -> str:
    """The address as it may be shown and kept; its scheme alone where a password may reach beyond a ? or #.

    >>> without_credentials("postgresql://user:secret@host/trials")
    'postgresql://host/trials'
    >>> without_credentials("postgresql://host/trials?password=secret")
    'postgresql://host/trials'
    >>> without_credentials("postgresql://user:sec?ret@host/trials")
    'postgresql://...'
    """
    scheme, separator, rest = address.partition("://")
    if scheme.startswith("sqlite") or not separator:
        return address.partition("?")[0]
    place = _PARAMETERS.split(rest, maxsplit=1)[0]
    if "@" in rest[len(place) :]:
        return f"{scheme}://..."
    return f"{scheme}://{place.rpartition('@')[2]}"


def secrets_of(address: str) -> list[str]:
    """What of the address must not be quoted: passwords, tokens and values of parameters, as written and as decoded.

    >>> secrets_of("postgresql://bob:a@b@host/trials?token=xyz")
    ['a@b', 'xyz']
    """
    scheme, _, rest = address.partition("://")
    if scheme.startswith("sqlite"):
        return []
    place, *parameters = _PARAMETERS.split(rest)
    if "@" in "".join(parameters):
        found = re.split(r"[:@/?#;&=]", rest)
    else:
        user, _, _ = place.rpartition("@")
        found = [user.partition(":")[2] or user, *(one.rpartition("=")[2] for one in parameters)]
    return list(dict.fromkeys(form for one in found if one for form in (one, unquote(one))))


def address_fault(address: str) -> str | None:
    """What is wrong with an address as it is written, None if nothing is.

    >>> address_fault("postgres://host/mlflow")
    'write postgresql:// for PostgreSQL'
    """
    return "write postgresql:// for PostgreSQL" if address.startswith("postgres://") else None
