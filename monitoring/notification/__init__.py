"""Telling a webhook of alarms: with retries, once, and of their end."""

from __future__ import annotations

from .alarm import Alarm
from .delivery import Webhook
from .ledger import Ledger
from .notifier import Notifier, Outcome
from .settings import Format, NotificationSettings

__all__ = ["Alarm", "Format", "Ledger", "NotificationSettings", "Notifier", "Outcome", "Webhook"]
