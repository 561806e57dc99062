"""Telling a webhook of alarms: with retries, once, and of their end."""
