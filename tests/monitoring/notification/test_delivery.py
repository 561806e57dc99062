"""Posting to a receiver that fails first."""

from __future__ import annotations

import re

import pytest

from monitoring.errors import NotificationError
from monitoring.notification.delivery import Webhook
from monitoring.notification.settings import Format, NotificationSettings
from tests.monitoring.receiver import Receiver, receiving
from tests.server import free_port

SETTINGS = NotificationSettings(
    format=Format.SLACK, attempts=4, timeout_seconds=5, first_pause_seconds=1, longest_pause_seconds=3,
    repeat_after_seconds=60,
)  # fmt: skip


def post(receiver: Receiver, settings: NotificationSettings = SETTINGS) -> list[float]:
    """Post a body to a secret path of the receiver; the pauses that were made."""
    pauses: list[float] = []
    Webhook(f"{receiver.url}/T0/B0/secret", settings, sleep=pauses.append).post(b'{"text": "x"}', key="k")
    return pauses


def test_what_is_taken_at_once_is_posted_once():
    with receiving() as receiver:
        assert post(receiver) == []
    (posted,) = receiver.posted
    assert (posted.path, posted.body) == ("/T0/B0/secret", {"text": "x"})
    assert posted.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("answer", [(500, {}), (503, {}), (429, {}), (408, {}), None])
def test_a_receiver_that_fails_is_asked_again(answer):
    with receiving(answer, answer) as receiver:
        assert post(receiver) == [1, 2]
    assert len(receiver.posted) == 3


def test_every_attempt_carries_the_same_key():
    with receiving((500, {})) as receiver:
        post(receiver)
    assert [posted.headers["Idempotency-Key"] for posted in receiver.posted] == ["k", "k"]


@pytest.mark.parametrize(
    ("asked", "pause"),
    [("2", 2), ("0.5", 1), ("600", 3), ("-1", 1), ("nan", 1), ("Wed, 21 Oct 2026 07:28:00 GMT", 1)],
)
def test_the_pause_is_what_the_receiver_asks_for_within_limits(asked, pause):
    with receiving((429, {"Retry-After": asked})) as receiver:
        assert post(receiver) == [pause]


def test_pauses_double_up_to_the_longest():
    with receiving((500, {}), (500, {}), (500, {})) as receiver:
        assert post(receiver) == [1, 2, 3]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_a_refusal_is_not_repeated(status):
    with receiving((status, {})) as receiver, pytest.raises(NotificationError, match=f"1 attempts: status {status}$"):
        post(receiver)
    assert len(receiver.posted) == 1


def test_a_redirect_is_not_followed():
    with receiving() as other, receiving((302, {"Location": other.url})) as receiver:
        with pytest.raises(NotificationError, match=r"status 302$"):
            post(receiver)
        assert other.posted == []


def test_after_the_last_attempt_it_is_an_error():
    with receiving(*[(503, {})] * 5) as receiver, pytest.raises(NotificationError, match=r"4 attempts: status 503$"):
        post(receiver)
    assert len(receiver.posted) == 4


def test_nobody_who_listens_is_an_error_without_the_address():
    pauses: list[float] = []
    address = f"http://127.0.0.1:{free_port()}/T0/B0/secret"
    with pytest.raises(NotificationError) as raised:
        Webhook(address, SETTINGS, sleep=pauses.append).post(b"{}", key="k")
    assert str(raised.value) == "the receiver did not take the message in 4 attempts: ConnectionRefusedError"
    assert raised.value.__cause__ is None
    assert pauses == [1, 2, 3]


@pytest.mark.parametrize("address", ["", "file:///etc/passwd", "ftp://host/x", "hooks.example.com/secret", "https://"])
def test_only_addresses_of_the_web_are_accepted(address):
    with pytest.raises(NotificationError, match=re.escape("must begin with http:// or https://")) as raised:
        Webhook(address, SETTINGS)
    assert "secret" not in str(raised.value)
