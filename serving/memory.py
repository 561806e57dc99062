"""Keeping the memory of a worker from growing."""

from __future__ import annotations

import ctypes

_M_ARENA_MAX = -8
"""Of glibc's malloc.h."""


def share_one_arena() -> None:
    """Let all threads of this process allocate from one arena, where glibc is the C library.

    glibc gives threads arenas of their own, which hardly ever shrink. What that makes of a worker is in
    docs/explanation/serving.md.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)
