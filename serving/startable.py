"""Whether a service could start at all: seen once, before a worker is tried again and again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping
from pathlib import Path
from typing import TypeVar

from bentoml.exceptions import BentoMLConfigException

from features import Settings, SettingsError
from monitoring import MonitoringSettings
from monitoring.recording import CheckError, DecisionLogError, check_recording
from scoring import ScoringError, load_stored

from .encryption import check_encryption
from .listening import check_address, keys_or_loopback
from .settings import ServingSettings

_Settings = TypeVar("_Settings", bound=Settings)


def load_settings(kind: type[_Settings], path: Path) -> _Settings:
    """The settings at `path`; BentoMLConfigException, which BentoML's command says in one line, if they are wrong."""
    try:
        return kind.load(path)
    except SettingsError as error:
        raise BentoMLConfigException(str(error)) from None


def check_startable(settings: ServingSettings, monitoring: MonitoringSettings, environment: Mapping[str, str]) -> None:
    """BentoMLConfigException, which BentoML's command says in one line, where no worker could start.

    That is at a given address that is taken or is none, with a certificate and key that are none, without keys on an
    open address, with a model that is not there or was altered, or with a decision log that cannot be kept as it was
    asked for.
    """
    check_address()
    check_encryption()
    keys_or_loopback(environment)
    try:
        load_stored(settings.model)
        if monitoring.recording.enabled:
            check_recording(monitoring.recording, environment)
    except (ScoringError, DecisionLogError, CheckError) as error:
        raise BentoMLConfigException(str(error)) from None


def anchor(environment: MutableMapping[str, str], names: Iterable[str]) -> None:
    """Make the paths in these variables absolute: the workers of a Bento run in its folder, not in the command's."""
    for name in names:
        if environment.get(name):
            environment[name] = str(Path(environment[name]).absolute())
