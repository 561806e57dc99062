"""Addresses of databases and servers, which may hold a user and a password."""

from __future__ import annotations


def without_credentials(address: str) -> str:
    """The address as it may be shown and kept.

    >>> without_credentials("postgresql://user:secret@host/trials")
    'postgresql://host/trials'
    >>> without_credentials("postgresql://host/trials?password=secret")
    'postgresql://host/trials'
    """
    scheme, separator, rest = address.partition("?")[0].partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"
