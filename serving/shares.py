"""Dividing what is scarce between callers."""

from __future__ import annotations

from collections.abc import Hashable


class Shares:
    """Room for so much, of which no caller gets all.

    With n callers that hold some of it, each may hold a part in n + 1: there is always room for one who comes new.

    >>> room = Shares(4)
    >>> [room.take("loud") for _ in range(3)], room.take("polite")
    ([True, True, False], True)
    """

    def __init__(self, room: int) -> None:
        self._room = room
        self._held: dict[Hashable, int] = {}
        self._total = 0

    def take(self, caller: Hashable, amount: int = 1) -> bool:
        """Take some for the caller; False where there is no room, or the caller has its share."""
        if not amount:
            return True
        held = self._held.get(caller, 0)
        callers = len(self._held) + (held == 0)
        if self._total + amount > self._room or (held and held + amount > self._room // (callers + 1)):
            return False
        self._held[caller] = held + amount
        self._total += amount
        return True

    def give(self, caller: Hashable, amount: int = 1) -> None:
        """Give back what was taken."""
        if not amount:
            return
        self._total -= amount
        self._held[caller] -= amount
        if not self._held[caller]:
            del self._held[caller]
