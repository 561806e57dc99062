"""Tallies publish what prometheus_client would have counted at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from serving.request_metrics import Tallies

BUCKETS = (0.5, 1.0, 2.0)
VALUES = st.lists(st.floats(0, 4) | st.sampled_from(BUCKETS), max_size=20)


def histogram(registry: CollectorRegistry) -> Histogram:
    return Histogram("seconds", "Time", registry=registry, buckets=BUCKETS)


def counts(registry: CollectorRegistry) -> list[float]:
    (metric,) = registry.collect()
    return [sample.value for sample in metric.samples if sample.name in ("seconds_bucket", "seconds_count")]


@pytest.mark.slow
@given(rounds=st.lists(VALUES, max_size=3))
def test_a_histogram_tally_publishes_what_the_histogram_would_have_observed(rounds: Sequence[Sequence[float]]) -> None:
    tallied, observed = CollectorRegistry(), CollectorRegistry()
    tallies, direct = Tallies(), histogram(observed)
    tally = tallies.histogram(histogram(tallied))
    for values in rounds:
        for value in values:
            tally.observe(value)
        tallies.publish()
    for value in [value for values in rounds for value in values]:
        direct.observe(value)
    assert counts(tallied) == counts(observed)
    assert tallied.get_sample_value("seconds_sum") == pytest.approx(observed.get_sample_value("seconds_sum"))


def test_what_is_counted_is_published_by_itself() -> None:
    registry = CollectorRegistry()
    tallies = Tallies()
    counter = tallies.counter(Counter("asked", "Asked", registry=registry))
    gauge = tallies.gauge(Gauge("level", "Level", registry=registry))

    async def run() -> None:
        counter.inc()
        counter.inc()
        gauge.value = 7
        tallies.touch()
        tallies.touch()
        while not registry.get_sample_value("asked_total"):
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(run(), 300))
    assert registry.get_sample_value("asked_total") == 2
    assert registry.get_sample_value("level") == 7
    tallies.publish()
    assert registry.get_sample_value("asked_total") == 2


def test_a_tally_that_cannot_be_published_does_not_stop_the_others() -> None:
    registry = CollectorRegistry()
    tallies = Tallies(registry=registry)

    class Broken:
        turns = 0

        def publish(self) -> None:
            self.turns += 1
            raise RuntimeError

    broken = Broken()
    tallies.include(broken)
    counter = tallies.counter(Counter("asked", "Asked", registry=registry))

    async def run() -> None:
        for turn in (1, 2):
            counter.inc()
            tallies.touch()
            while broken.turns < turn:
                await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(run(), 10))
    assert registry.get_sample_value("asked_total") == 2
    assert registry.get_sample_value("credit_scoring_thread_failures_total", {"thread": "publishing"}) == 2
