"""Where decisions come from when they are looked at again: the log, files of applications, running services."""

from __future__ import annotations

from monitoring.closed import closed_table, write_segment
from monitoring.decision import ClientHash, Header

from .files import FileWindow, window_of_file
from .keyed import Keyed, Keys, contested, decision_columns, decision_keys, keyed_tables, places, refuse_rows, unmatched
from .live import window_of_services
from .log import DecisionLog
from .logged import LogWindow, window_of_log

__all__ = [
    "ClientHash",
    "DecisionLog",
    "FileWindow",
    "Header",
    "Keyed",
    "Keys",
    "LogWindow",
    "closed_table",
    "contested",
    "decision_columns",
    "decision_keys",
    "keyed_tables",
    "places",
    "refuse_rows",
    "unmatched",
    "window_of_file",
    "window_of_log",
    "window_of_services",
    "write_segment",
]
