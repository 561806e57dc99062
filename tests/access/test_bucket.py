from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.authentication import TokenBucket


def test_a_full_bucket_gives_its_capacity_at_once_and_then_its_rate() -> None:
    bucket = TokenBucket(rate=10, capacity=3)
    assert [bucket.take(100.0) for _ in range(3)] == [0.0] * 3
    assert bucket.take(100.0) == pytest.approx(0.1)
    assert bucket.take(100.11) == 0.0
    assert bucket.take(100.11) > 0


def test_a_refused_request_costs_no_token() -> None:
    bucket = TokenBucket(rate=1, capacity=1)
    assert bucket.take(0.0) == 0.0
    assert {bucket.take(0.5) for _ in range(100)} == {0.5}
    assert bucket.take(1.0) == 0.0


def test_what_is_owed_is_made_up_for_before_anything_is_given() -> None:
    bucket = TokenBucket(rate=5, capacity=10)
    assert bucket.take(100.0) == 0.0
    bucket.owe(999, 100.0)
    assert bucket.take(100.0) == pytest.approx((1_000 - 9) / 5)
    assert bucket.take(298.0) > 0
    assert bucket.take(298.3) == 0.0


def test_nothing_is_owed_for_a_time_in_which_nothing_was_asked() -> None:
    bucket = TokenBucket(rate=1, capacity=1)
    bucket.owe(2, 50.0)
    assert bucket.take(51.9) == pytest.approx(0.1)
    assert bucket.take(52.0) == 0.0


@given(st.lists(st.floats(0, 5), min_size=1, max_size=60), st.integers(1, 20), st.integers(1, 20))
def test_no_stretch_of_time_gives_more_than_capacity_and_rate_allow(
    gaps: list[float], rate: int, capacity: int
) -> None:
    bucket, now, taken = TokenBucket(rate=rate, capacity=capacity), 0.0, []
    for gap in gaps:
        now += gap
        taken += [now for _ in range(3) if bucket.take(now) == 0.0]
    for first, start in enumerate(taken):
        for last in range(first, len(taken)):
            assert last - first + 1 <= capacity + rate * (taken[last] - start) + 1e-6
