"""Errors of the tools that commands share, and the base of the errors of every package.

ProjectError
  * SettingsError      a configuration file is not what its model declares
  * SecretError        a secret is in two places, or its file cannot be read or trusted
  * OutputError        a file or folder cannot be written
  * ProcessError       a process of a command was killed
"""

from __future__ import annotations

from typing import ClassVar


class ProjectError(Exception):
    """Base of every error of the project; a command prints it in one line and exits with `exit_code`."""

    exit_code: ClassVar[int] = 1


class SettingsError(ProjectError):
    """A configuration file cannot be read or does not fit its model."""


class SecretError(ProjectError):
    """A secret is in two places, or its file cannot be read or trusted; the message never shows it."""


class OutputError(ProjectError):
    """The output exists already or cannot be written."""


class ProcessError(ProjectError):
    """A process that a command has started was killed."""
