"""Errors of the tools that every command shares.

JobError
  * SettingsError      a configuration file is not what its model declares
  * OutputError        a file or folder cannot be written
"""

from __future__ import annotations


class JobError(Exception):
    """Base of every error of this package."""


class SettingsError(JobError):
    """A configuration file cannot be read or does not fit its model."""


class OutputError(JobError):
    """The output exists already or cannot be written."""
