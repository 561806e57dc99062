"""Addresses of databases and servers, which may hold a user and a password."""

from __future__ import annotations

from urllib.parse import parse_qsl


def without_credentials(address: str) -> str:
    """The address as it may be shown and kept.

    >>> without_credentials("postgresql://user:secret@host/trials")
    'postgresql://host/trials'
    >>> without_credentials("postgresql://host/trials?password=secret")
    'postgresql://host/trials'
    """
    scheme, separator, rest = address.partition("?")[0].partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


def secrets_of(address: str) -> list[str]:
    """What of the address must not be shown: passwords and the values of its query.

    >>> secrets_of("postgresql://bob:a@b@host/trials?token=xyz")
    ['a@b', 'xyz']
    """
    place, _, query = address.partition("?")
    user, at, _ = place.partition("://")[2].rpartition("@")
    password = user.partition(":")[2]
    return [*([password] if at and password else []), *(value for _, value in parse_qsl(query) if value)]


def address_fault(address: str) -> str | None:
    """What is wrong with an address as it is written, None if nothing is.

    >>> address_fault("postgres://host/mlflow")
    'write postgresql:// for PostgreSQL'
    """
    return "write postgresql:// for PostgreSQL" if address.startswith("postgres://") else None
