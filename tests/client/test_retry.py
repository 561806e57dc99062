"""The policy alone: how long to wait, and after what."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime

import httpx
import pytest
from credit_scoring_client.retry import Retry, is_transient, retry_after
from hypothesis import given
from hypothesis import strategies as st

seconds = st.floats(min_value=0, max_value=1e6)


@given(
    first=seconds,
    longest=seconds,
    most_asked=seconds,
    asked=st.none() | seconds,
    failures=st.integers(1, 10_000),
    seed=st.integers(),
)
def test_a_pause_is_bounded_from_both_sides(first, longest, most_asked, asked, failures, seed):
    retry = Retry(
        first_pause=first,
        longest_pause=longest,
        longest_retry_after=most_asked,
        draw=random.Random(seed).random,
    )
    honoured = min(asked or 0.0, most_asked)
    assert honoured <= retry.pause(failures, asked) <= honoured + longest


@pytest.mark.parametrize(
    ("failures", "asked", "pause"),
    [
        (1, None, 0.05),
        (2, None, 0.1),
        (3, None, 0.2),
        (4, None, 0.25),
        (99, None, 0.25),
        (1, 2.0, 2.05),
        (1, 9.0, 3.05),
    ],
)
def test_pauses_double_up_to_the_longest_and_come_after_retry_after(failures, asked, pause):
    retry = Retry(first_pause=0.1, longest_pause=0.5, longest_retry_after=3.0, draw=lambda: 0.5)
    assert retry.pause(failures, asked) == pytest.approx(pause)


def test_the_same_seed_gives_the_same_pauses():
    first, second = (Retry(draw=random.Random(7).random) for _ in range(2))
    assert [first.pause(k) for k in range(1, 9)] == [second.pause(k) for k in range(1, 9)]


@pytest.mark.parametrize("name", ["within", "first_pause", "longest_pause", "longest_retry_after"])
@pytest.mark.parametrize("value", [-1.0, math.inf, math.nan])
def test_a_time_is_a_finite_number_of_seconds(name, value):
    with pytest.raises(ValueError, match=rf"^{name} must be a finite number of seconds, 0 or more$"):
        Retry(**{name: value})


@pytest.mark.parametrize(
    ("reply", "transient"),
    [
        *((httpx.Response(status), True) for status in (429, 503)),
        (httpx.Response(409, headers={"Retry-After": "1"}), True),
        (httpx.Response(422, headers={"Retry-After": "1"}), False),
        *((httpx.Response(status), False) for status in (200, 302, 400, 401, 404, 408, 409, 422, 500, 502, 504)),
        (httpx.ConnectError(""), True),
        (httpx.ConnectTimeout(""), True),
        (httpx.PoolTimeout(""), True),
        (httpx.ReadError(""), True),
        (httpx.WriteError(""), True),
        (httpx.RemoteProtocolError(""), True),
        (httpx.ReadTimeout(""), False),
        (httpx.WriteTimeout(""), False),
        (httpx.LocalProtocolError(""), False),
        (httpx.ProxyError(""), False),
        (httpx.DecodingError(""), False),
    ],
    ids=repr,
)
def test_only_what_may_pass_is_transient(reply, transient):
    assert is_transient(reply) is transient


NOW = datetime(2025, 11, 22, 13, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0", 0.0),
        ("120", 120.0),
        ("Sat, 22 Nov 2025 13:00:30 GMT", 30.0),
        ("Sat, 22 Nov 2025 13:00:30 -0000", 30.0),
        ("Sat, 22 Nov 2025 12:00:00 GMT", 0.0),
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("²", None),
        ("soon", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value, expected):
    response = httpx.Response(503, headers=[(b"Retry-After", value.encode())])
    assert retry_after(response, lambda: NOW) == expected


def test_nobody_asks_to_wait_without_retry_after():
    assert retry_after(httpx.Response(503), lambda: NOW) is None
    assert retry_after(httpx.ConnectError(""), lambda: NOW) is None


@given(st.text() | st.from_regex(r"(Sat, )?\d{1,3} Nov \d{1,6} \d\d:\d\d:\d\d [+-]?\w{0,6}", fullmatch=True))
def test_no_retry_after_breaks_the_client(value):
    response = httpx.Response(503, headers=[(b"Retry-After", value.encode())])
    asked = retry_after(response, lambda: NOW)
    assert asked is None or asked >= 0
