"""Who is told what, and how often."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from monitoring.errors import NotificationError
from monitoring.notification.alarm import Alarm
from monitoring.notification.delivery import Webhook
from monitoring.notification.ledger import Ledger
from monitoring.notification.notifier import Notifier, Outcome
from monitoring.notification.settings import Format, NotificationSettings
from tests.monitoring.receiver import Receiver, receiving

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
DRIFT = Alarm("drift", True, "warning", "3 features have drifted", "amt_credit: PSI 0.31", {"model_version": "4-abc"})
GONE = replace(DRIFT, firing=False, summary="no feature has drifted")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as listening:
        yield listening


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "state" / "told.json")


def notifier(receiver: Receiver, ledger: Ledger, form: Format = Format.SLACK) -> Notifier:
    settings = NotificationSettings(
        format=form, attempts=1, timeout_seconds=5, first_pause_seconds=0, longest_pause_seconds=0,
        repeat_after_seconds=DAY.total_seconds(),
    )  # fmt: skip
    return Notifier(Webhook(receiver.url, settings), ledger, settings)


def test_an_alarm_is_told_once_and_again_after_a_day(receiver, ledger):
    times = [NOW, NOW + DAY / 2, NOW + DAY, NOW + 1.5 * DAY]
    outcomes = [notifier(receiver, ledger).tell(DRIFT, time) for time in times]
    assert outcomes == [Outcome.SENT, Outcome.KNOWN, Outcome.SENT, Outcome.KNOWN]
    assert len(receiver.posted) == 2


def test_its_end_is_told_once(receiver, ledger):
    tell = notifier(receiver, ledger).tell
    assert [tell(finding, NOW) for finding in (GONE, DRIFT, GONE, GONE, DRIFT)] == [
        Outcome.QUIET, Outcome.SENT, Outcome.RESOLVED, Outcome.QUIET, Outcome.SENT,
    ]  # fmt: skip
    assert [posted.body["text"][:10] for posted in receiver.posted] == ["[FIRING] d", "[RESOLVED]", "[FIRING] d"]


def test_an_alarm_that_grows_graver_is_told_at_once(receiver, ledger):
    tell = notifier(receiver, ledger).tell
    assert tell(DRIFT, NOW) is Outcome.SENT
    assert tell(replace(DRIFT, severity="critical"), NOW) is Outcome.SENT
    assert tell(replace(DRIFT, severity="critical"), NOW) is Outcome.KNOWN


def test_other_figures_are_the_same_alarm(receiver, ledger):
    tell = notifier(receiver, ledger).tell
    assert tell(DRIFT, NOW) is Outcome.SENT
    assert tell(replace(DRIFT, summary="4 features have drifted"), NOW) is Outcome.KNOWN


def test_another_model_is_another_alarm(receiver, ledger):
    tell = notifier(receiver, ledger).tell
    assert tell(DRIFT, NOW) is Outcome.SENT
    assert tell(replace(DRIFT, labels={"model_version": "5-def"}), NOW) is Outcome.SENT


def test_what_could_not_be_told_is_told_the_next_time(ledger):
    with receiving((500, {})) as receiver:
        tell = notifier(receiver, ledger).tell
        with pytest.raises(NotificationError, match="status 500"):
            tell(DRIFT, NOW)
        assert tell(DRIFT, NOW) is Outcome.SENT


def test_an_end_that_could_not_be_told_is_told_the_next_time(ledger):
    with receiving((200, {}), (500, {})) as receiver:
        tell = notifier(receiver, ledger).tell
        tell(DRIFT, NOW)
        with pytest.raises(NotificationError):
            tell(GONE, NOW)
        assert tell(GONE, NOW) is Outcome.RESOLVED


def test_of_many_at_once_one_tells(receiver, ledger):
    def tell(_: int) -> Outcome:
        return notifier(receiver, ledger).tell(DRIFT, NOW)

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(tell, range(24)))
    assert outcomes.count(Outcome.SENT) == 1
    assert len(receiver.posted) == 1


def test_a_message_for_slack(receiver, ledger):
    notifier(receiver, ledger).tell(DRIFT, NOW)
    head = "[FIRING] drift: 3 features have drifted"
    fields = [
        {"title": "severity", "value": "warning", "short": True},
        {"title": "model_version", "value": "4-abc", "short": True},
    ]
    attachment = {"color": "warning", "fallback": head, "text": "amt_credit: PSI 0.31", "fields": fields}
    assert receiver.posted[0].body == {"text": head, "attachments": [attachment]}


def test_a_message_like_those_of_alertmanager(receiver, ledger):
    tell = notifier(receiver, ledger, Format.ALERTMANAGER).tell
    tell(DRIFT, NOW)
    tell(GONE, NOW + DAY)
    (fired,), (ended,) = (posted.body["alerts"] for posted in receiver.posted)
    assert fired["labels"] == {"alertname": "drift", "severity": "warning", "model_version": "4-abc"}
    assert (fired["status"], fired["startsAt"], fired["endsAt"]) == ("firing", NOW.isoformat(), "0001-01-01T00:00:00Z")
    assert (ended["status"], ended["startsAt"], ended["endsAt"]) == (
        "resolved", NOW.isoformat(), (NOW + DAY).isoformat(),
    )  # fmt: skip
    assert fired["fingerprint"] == ended["fingerprint"]


@pytest.mark.parametrize("content", ["", "[]", "{", '{"k": {"severity": "warning"}}', '{"k": 1}'])
def test_a_file_that_is_no_ledger_is_refused_and_left_alone(receiver, ledger, content):
    ledger.path.parent.mkdir()
    ledger.path.write_text(content)
    with pytest.raises(NotificationError, match="remove it to begin anew"):
        notifier(receiver, ledger).tell(DRIFT, NOW)
    assert receiver.posted == []
    assert ledger.path.read_text() == content
