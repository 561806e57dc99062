"""Errors of access.

AccessError
  * KeyFileError       a file of keys that cannot be read or written, or does not hold what was asked for
"""

from __future__ import annotations


class AccessError(Exception):
    """What every error of this package derives from. None shows a key."""


class KeyFileError(AccessError):
    """A file of keys cannot be read or written, or does not hold the key that was named."""
