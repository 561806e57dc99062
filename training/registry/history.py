"""Who was champion when: one tag on the registered model for each promotion and each rollback."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from mlflow import MlflowClient

from training.errors import RegistryError
from training.registry.registry import Registered, champion, find, registered_model

_KEY = "champion."
_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"
_TICK = timedelta(microseconds=1)


class Action(StrEnum):
    """How a version came to be in charge."""

    PROMOTED = "promoted"
    RESTORED = "restored"
    """By a rollback."""


@dataclass(frozen=True, slots=True, order=True)
class Change:
    """One change of champion; `at` is when, ISO 8601 in UTC."""

    at: str
    action: Action
    version: str

    def __str__(self) -> str:
        return f"{self.at[:19]}Z  version {self.version} {self.action}"


def remember(registered: Registered, action: Action, now: datetime) -> None:
    """Add a change to the history, as its last. `now` is in UTC.

    It is later than the change before in any case: a command that waited for another has an older `now`, and clocks of
    two machines differ.
    """
    before = changes(registered.name)[-1:]
    at = max([now, *(_moment(change.at) + _TICK for change in before)])
    key = f"{_KEY}{at.strftime(_TIME)}"
    MlflowClient().set_registered_model_tag(registered.name, key, f"{action} {registered.version}")


def changes(name: str) -> list[Change]:
    """Every change of champion, the oldest first."""
    model = registered_model(name)
    tags = model.tags if model else {}
    return sorted(_change(key.removeprefix(_KEY), tags[key]) for key in tags if key.startswith(_KEY))


def succession(history: Iterable[Change]) -> tuple[str, ...]:
    """The champions that a rollback can go back through, the one in charge last.

    A promotion puts a version on top, a rollback takes away what is above the version that it restores.

    >>> promoted = [Change(f"2026-01-0{day}", Action.PROMOTED, str(day)) for day in (1, 2, 3)]
    >>> succession([*promoted, Change("2026-01-04", Action.RESTORED, "2")])
    ('1', '2')
    """
    line: list[str] = []
    for change in history:
        if change.action is Action.PROMOTED:
            line.append(change.version)
        else:
            del line[-1:]
            while change.version in line and line[-1] != change.version:  # deleted in the registry meanwhile
                del line[-1]
    return tuple(line)


def current_champion(name: str) -> Registered | None:
    """The version in charge as the history has it, which the alias may be ahead of; by the alias where it has none."""
    line = succession(changes(name))
    return find(name, line[-1]) if line else champion(name)


def _change(at: str, value: str) -> Change:
    action, _, version = value.partition(" ")
    try:
        _moment(at)
        return Change(at, Action(action), version)
    except ValueError:
        raise RegistryError(f"the tag {_KEY}{at} is not one that a promotion or a rollback wrote") from None


def _moment(at: str) -> datetime:
    return datetime.strptime(at, _TIME).replace(tzinfo=UTC)
