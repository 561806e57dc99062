"""Arrivals, samples and Little's law."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.load import Sample, arrivals, held_back


def sample(starts_ms: list[float], latencies_ms: list[float]) -> Sample:
    def microseconds(values: list[float]) -> np.ndarray:
        return (np.array(values) * 1000).astype(np.int64)

    return Sample(microseconds(starts_ms), microseconds(latencies_ms), 0)


@given(rate=st.floats(1, 20_000), seconds=st.floats(1, 60))
def test_the_requests_of_all_connections_make_one_even_series(rate, seconds):
    plan = arrivals(rate, seconds=seconds, connections=127)
    slots = {plan.opening_ms * i * plan.turns % (plan.connections * plan.opening_ms) for i in range(plan.connections)}
    assert len(slots) == plan.connections  # no two connections send at the same moment
    assert math.gcd(plan.turns, plan.connections) == 1


@given(rate=st.floats(1, 20_000))
def test_the_rate_is_met_as_nearly_as_whole_milliseconds_allow(rate):
    assert arrivals(rate, seconds=10, connections=127).rate == pytest.approx(rate, rel=0.34 if rate < 200 else 0.25)


def test_the_full_rate_lasts_as_long_as_it_should():
    plan = arrivals(1000, seconds=6, connections=127)
    assert plan.requests / plan.rate >= plan.opening + 6


def test_throughput_times_mean_latency_is_the_number_of_busy_connections():
    one_after_the_other = sample([0, 10, 20, 30], [10, 10, 10, 10])
    assert one_after_the_other.throughput == pytest.approx(100)
    assert one_after_the_other.concurrency == pytest.approx(1)
    two_at_once = sample([0, 0, 10, 10], [10, 10, 10, 10])
    assert two_at_once.concurrency == pytest.approx(2)


def test_only_requests_of_the_full_rate_are_kept():
    kept = sample([100, 1100, 1200, 2300], [1, 2, 3, 4]).between(1, 2)
    assert kept.latencies.tolist() == [2000, 3000]


def test_an_answer_later_than_the_next_request_of_its_connection_held_that_back():
    plan = arrivals(1000, seconds=6, connections=127)
    beat_ms = plan.beat * 1000
    assert held_back(sample([0, 1, 2], [1, beat_ms - 1, beat_ms + 1]), plan) == 1


def test_percentiles_are_those_of_every_latency():
    latencies = sample(list(range(101)), list(range(101)))
    assert [latencies.milliseconds(p) for p in (50, 99, 100)] == [50, 99, 100]
