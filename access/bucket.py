"""How often something may be done."""

from __future__ import annotations


class TokenBucket:
    """A token bucket: `rate` tokens a second come in, `capacity` of them fit, and it is full at first.

    Kept as the moment at which it will be full again, which makes taking a token one addition (the virtual scheduling
    form of the generic cell rate algorithm, ITU-T I.371).

    Examples
    --------
    >>> bucket = TokenBucket(rate=2, capacity=1)
    >>> bucket.take(now=10.0), bucket.take(now=10.0), bucket.take(now=10.5)
    (0.0, 0.5, 0.0)
    """

    __slots__ = ("_full_at", "_interval", "_tolerance")

    def __init__(self, *, rate: float, capacity: float) -> None:
        self._interval = 1 / rate
        self._tolerance = (capacity - 1) / rate
        self._full_at = 0.0

    def take(self, now: float) -> float:
        """Take a token; 0.0 if there was one, elsewhere the seconds until there will be. `now` never goes back."""
        full_at = max(self._full_at, now)
        wait = full_at - now - self._tolerance
        if wait > 0:
            return wait
        self._full_at = full_at + self._interval
        return 0.0

    def owe(self, tokens: int, now: float) -> None:
        """Take tokens for what was let in before its size was known. What is not there is owed: `take` waits for it."""
        self._full_at = max(self._full_at, now) + tokens * self._interval
