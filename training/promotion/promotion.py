"""Putting a version in charge, and the one before it back.

Three things say who is champion: the alias in the registry, the history, and the latest version of the BentoML model
store, which is what gets served. They cannot be changed at once, so the order is what makes an interruption harmless:

promotion   alias, history, store    what is served changes last
rollback    store, history, alias    what is served changes first

In between, the older model is served and the same command, given again, finishes what was begun; a rollback after a
promotion that was interrupted takes it back, and a promotion after an interrupted rollback likewise.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

import bentoml
from mlflow import MlflowClient

from training.errors import GateError, RegistryError
from training.registry import (
    SIGNING_KEY_VARIABLE,
    Action,
    Registered,
    champion,
    champion_lock,
    changes,
    find,
    import_model,
    put_in_charge,
    reigning,
    remember,
    sign_version,
    succession,
)

from .judging import Verdict

_GATES = "gates"


def keep(verdict: Verdict) -> None:
    """Keep the figures of a verdict with the version that was judged."""
    judged = verdict.challenger.registered
    figures = json.dumps([asdict(gate) for gate in verdict.gates])
    MlflowClient().set_model_version_tag(judged.name, judged.version, _GATES, figures)


def promote(verdict: Verdict, now: datetime) -> bentoml.Tag:
    """Put the judged version in charge and return its tag in the BentoML store.

    GateError if it misses a gate; RegistryError if it was judged against a champion that is in charge no longer.
    """
    with champion_lock():
        return _promoted(verdict, now)


def _promoted(verdict: Verdict, now: datetime) -> bentoml.Tag:
    judged = verdict.challenger.registered
    incumbent = verdict.incumbent
    if reigning(judged.name) != incumbent:
        raise RegistryError(
            f"{judged} was judged against {incumbent or 'no champion'}, no longer in charge: judge again"
        )
    keep(verdict)
    if verdict.missed:
        raise GateError(f"{judged} is not promoted: it misses {'; '.join(gate.name for gate in verdict.missed)}")
    return enthrone(judged, now)


def enthrone(registered: Registered, now: datetime) -> bentoml.Tag:
    """Put a version in charge whose gates were passed, or finish doing so; it is signed if there is a key for that."""
    if key := os.environ.get(SIGNING_KEY_VARIABLE):
        sign_version(registered, Path(key))
    put_in_charge(registered)
    if succession(changes(registered.name))[-1:] != (registered.version,):
        remember(registered, Action.PROMOTED, now)
    return import_model(registered)


def rollback(name: str, now: datetime, say: Callable[[str], object] = lambda _: None) -> tuple[Registered, bentoml.Tag]:
    """Put the champion before the present one back in charge; RegistryError if there is none.

    A version that was deleted in the registry is passed over, which `say` is told.
    Where the alias names another version than the history (a promotion or a rollback was interrupted, or somebody set
    the alias by hand), the history's champion is put back.
    """
    with champion_lock():
        return _rolled_back(name, now, say)


def _rolled_back(name: str, now: datetime, say: Callable[[str], object]) -> tuple[Registered, bentoml.Tag]:
    current, line = champion(name), succession(changes(name))
    if current is None or not line:
        raise RegistryError(f"{name}: no version was promoted")
    undone = line[-1] == current.version
    if undone and len(line) == 1:
        raise RegistryError(f"{current} is the first champion: there is none before it")
    restored = _newest_that_is_there(name, line[:-1] if undone else line, say)
    tag = import_model(restored)
    if undone:
        remember(restored, Action.RESTORED, now)
    put_in_charge(restored)
    return restored, tag


def _newest_that_is_there(name: str, line: Sequence[str], say: Callable[[str], object]) -> Registered:
    for version in reversed(line):
        try:
            return find(name, version)
        except RegistryError as error:
            say(f"passed over: {error}")
    raise RegistryError(f"{name}: no earlier champion is in the registry any more")
