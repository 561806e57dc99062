"""Errors, and what those of every package derive from.

ProjectError
  * SettingsError      a configuration file is not what its model declares
  * OutputError        a file or folder cannot be written
"""

from __future__ import annotations


class ProjectError(Exception):
    """What every error of the project derives from; a command tells it in one line and ends with 1."""


class SettingsError(ProjectError):
    """A configuration file cannot be read or does not fit its model."""


class OutputError(ProjectError):
    """The output exists already or cannot be written."""
