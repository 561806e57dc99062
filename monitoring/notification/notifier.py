"""Telling of an alarm once, again while it lasts, and of its end."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from enum import StrEnum

from monitoring.notification.alarm import Alarm
from monitoring.notification.delivery import Webhook
from monitoring.notification.ledger import Ledger, Told
from monitoring.notification.message import message
from monitoring.notification.settings import NotificationSettings


class Outcome(StrEnum):
    """What became of a finding."""

    SENT = "sent"
    KNOWN = "known"
    """The receiver was told of this alarm not long ago."""
    RESOLVED = "resolved"
    """The receiver was told that the alarm has ended."""
    QUIET = "quiet"
    """No alarm, and none was told of."""


class Notifier:
    """Tells one receiver.

    Parameters
    ----------
    ledger : what it was told already
    """

    def __init__(self, webhook: Webhook, ledger: Ledger, settings: NotificationSettings) -> None:
        self._webhook = webhook
        self._ledger = ledger
        self._settings = settings
        self._repeat_after = timedelta(seconds=settings.repeat_after_seconds)

    def tell(self, alarm: Alarm, now: datetime) -> Outcome:
        """Send what the receiver does not know yet; NotificationError if it cannot be told.

        Only what was delivered is noted, so that the next run tries again what this one could not tell.
        """
        with self._ledger.opened() as entries:
            told = entries.get(alarm.key)
            if not alarm.firing:
                if told is None:
                    return Outcome.QUIET
                self._send(alarm, told.began, now)
                entries.remove(alarm.key)
                return Outcome.RESOLVED
            if told is not None and told.severity == alarm.severity and now - told.last < self._repeat_after:
                return Outcome.KNOWN
            began = told.began if told else now
            self._send(alarm, began, now)
            entries.put(alarm.key, Told(alarm.severity, began, now))
            return Outcome.SENT

    def _send(self, alarm: Alarm, began: datetime, now: datetime) -> None:
        body = message(alarm, self._settings.format, began=began, now=now)
        self._webhook.post(json.dumps(body).encode(), key=f"{alarm.key}-{alarm.status}-{now.timestamp():.0f}")
