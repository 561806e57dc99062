"""Metrics that cost a request nothing to speak of.

prometheus_client's values of several workers are in mapped files, and a write to one takes two microseconds. What is
counted during a request is kept in plain numbers here and published four times a second.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from typing import Protocol, TypeVar

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from features import Heartbeat

_SECONDS = 0.25


class _Tally(Protocol):
    def publish(self) -> None:
        """Hand over what has been counted since the last time."""


AnyTally = TypeVar("AnyTally", bound=_Tally)


class Tallies:
    """Makes tallies of metrics, and publishes them while anything is counted."""

    def __init__(self, *, registry: CollectorRegistry = REGISTRY) -> None:
        self._tallies: list[_Tally] = []
        self._due = False
        self._heartbeat = Heartbeat("publishing", periodic=False, registry=registry)

    def counter(self, *metrics: Counter) -> CounterTally:
        """A tally of counters without labels, or with all of them given, that count the same."""
        return self._kept(CounterTally(*metrics))

    def gauge(self, metric: Gauge) -> GaugeTally:
        """A tally of such a gauge."""
        return self._kept(GaugeTally(metric))

    def histogram(self, *metrics: Histogram) -> HistogramTally:
        """A tally of such histograms, which have the same buckets."""
        return self._kept(HistogramTally(*metrics))

    def include(self, tally: _Tally) -> None:
        """Publish something else together with these tallies."""
        self._tallies.append(tally)

    def _kept(self, tally: AnyTally) -> AnyTally:
        self._tallies.append(tally)
        return tally

    def touch(self) -> None:
        """See to it that what has been counted is published soon."""
        if not self._due:
            self._due = True
            self._heartbeat.beat()
            asyncio.get_running_loop().call_later(_SECONDS, self.publish)

    def publish(self) -> None:
        """Publish now. A tally that cannot be published is counted, and the others are."""
        self._due = False
        with self._heartbeat.guarded():
            failed: Exception | None = None
            for tally in self._tallies:
                try:
                    tally.publish()
                except Exception as error:  # noqa: BLE001 - it is raised again when the others have had their turn
                    failed = error
            if failed is not None:
                raise failed


class CounterTally:
    """Adds up."""

    def __init__(self, *metrics: Counter) -> None:
        self._metrics = metrics
        self._count = 0

    def inc(self) -> None:
        """Count one more."""
        self._count += 1

    def publish(self) -> None:
        """Hand over what has been counted since the last time."""
        for metric in self._metrics:
            metric.inc(self._count)
        self._count = 0


class GaugeTally:
    """Is what it was set to last."""

    def __init__(self, metric: Gauge) -> None:
        self._metric = metric
        self.value = 0.0

    def publish(self) -> None:
        """Hand over the value."""
        self._metric.set(self.value)


class HistogramTally:
    """Counts values by bucket."""

    def __init__(self, *metrics: Histogram) -> None:
        self._metrics = metrics
        self._bounds = metrics[0]._upper_bounds  # noqa: SLF001 - a histogram has no public way to take several at once
        self._counts = [0] * len(self._bounds)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count a value; a bound belongs to the bucket below it."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def publish(self) -> None:
        """Hand over what has been counted since the last time."""
        for metric in self._metrics:
            for bucket, count in zip(metric._buckets, self._counts, strict=True):  # noqa: SLF001
                if count:
                    bucket.inc(count)
            metric._sum.inc(self._sum)  # noqa: SLF001
        self._counts = [0] * len(self._bounds)
        self._sum = 0.0
