"""Lengths in days, and the data's code for a day that never was."""

from __future__ import annotations

DAYS_PER_YEAR = 365.25
DAYS_PER_MONTH = 30.44
NEVER = 365_243
