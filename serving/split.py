"""The split of the clients among the models that decide, and what returns all of them to the champion."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import StrEnum
from hashlib import blake2b
from pathlib import Path
from threading import Lock
from typing import TypeVar

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge

from decision_log.format import CHAMPION
from jobs.errors import OutputError
from jobs.heartbeat import Heartbeat, PeriodicThread
from jobs.output import write_text
from jobs.settings import read_regular
from scoring.store import StoredModel
from serving.problems import HTTPProblem
from serving.schemas import Answer
from serving.settings import GuardSettings, SplitSettings
from serving.variants import Challenger, Variant, VariantState, same_matrix

_LOGGER = logging.getLogger("bentoml.credit_scoring")

HALT_VARIABLE = "CREDIT_SCORING_HALT_FILE"
"""The environment variable that names a file; while it has content, the champion decides on every application."""

Result = TypeVar("Result")


def variant_of(client_id: str, shares: Mapping[str, float], salt: str) -> str:
    """The name of the variant that decides for a client; `shares` has those of one or two challengers.

    It depends on nothing else, so it is the same in every process. Raising a share moves only clients of the champion,
    into that share: the first challenger has the clients whose hashes are the smallest, the second the largest.

    >>> variant_of("7", {"challenger": 0.5}, "a"), variant_of("7", {"challenger": 0.5}, "b")
    ('champion', 'challenger')
    """
    drawn = int.from_bytes(blake2b(client_id.encode(), digest_size=8, key=salt.encode()).digest()) / _DRAWS
    (first, share), *others = shares.items()
    if drawn < share:
        return first
    return others[0][0] if others and drawn >= 1 - others[0][1] else CHAMPION


_DRAWS = 1 << 64


class FailureBudget:
    """Counts the failures of a challenger among its last requests.

    >>> budget = FailureBudget(GuardSettings(failures=2, of=3))
    >>> [budget.spent(failed=failed) for failed in (True, False, False, True, True)]
    [False, False, False, False, True]
    """

    def __init__(self, settings: GuardSettings) -> None:
        self._settings = settings
        self._lock = Lock()
        self._requests = 0
        self._failures: deque[int] = deque()

    def spent(self, *, failed: bool) -> bool:
        """Count a request; whether there were too many failures."""
        with self._lock:  # batches are decided on another thread
            self._requests += 1
            if not failed:
                return False
            self._failures.append(self._requests)
            while self._failures[0] <= self._requests - self._settings.of:
                self._failures.popleft()
            return len(self._failures) >= self._settings.failures


_THREAD = "halt"
_LOOK_SECONDS = 1.0
_HALT_BYTES = 1 << 16


class HaltFile:
    """Watches the file that returns every client to the champion while it has content.

    A file that is there and cannot be read halts too.
    """

    def __init__(self, path: Path | None, *, registry: CollectorRegistry = REGISTRY) -> None:
        self._path = path
        self.halted = False
        if path is not None:
            self.look()
            heartbeat = Heartbeat(_THREAD, registry=registry)
            self._thread = PeriodicThread(heartbeat, self.look, _LOOK_SECONDS, name=_THREAD)

    def look(self) -> None:
        """Look whether the file has content."""
        halted = self._path is not None and _has_content(self._path)
        if halted is not self.halted:
            _LOGGER.warning(
                "%s: %s", HALT_VARIABLE, "the champion decides alone" if halted else "the split is in force"
            )
        self.halted = halted

    def write(self, reason: str) -> None:
        """Halt all workers that watch the file; one line in the service's log if it cannot be written."""
        if self._path is None or self.halted:
            return
        try:
            write_text(self._path, f"{reason}\n")
        except OutputError as error:
            _LOGGER.error("%s: %s", HALT_VARIABLE, error)  # noqa: TRY400 - one line, no traceback
        self.look()


def _has_content(path: Path) -> bool:
    try:
        return bool(read_regular(path, _HALT_BYTES).strip())
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True


class Fate(StrEnum):
    """What became of an application that fell to a variant of the split."""

    DECIDED = "decided"
    FAILED = "failed"
    """The challenger failed, and the champion decided."""
    HALTED = "halted"
    """The champion decides in its place at present."""
    UNREADABLE = "unreadable"
    """It came as a row of the champion's model matrix, which is not the challenger's."""
    UNNAMED = "unnamed"
    """It had no client id, so that it fell to the champion."""


class HaltReason(StrEnum):
    """Why the champion decides in the place of a challenger."""

    FILE = "halt_file"
    FAILURES = "failures"


class ClientSplit:
    """Chooses the variant that decides on an application, and lets the champion decide where it fails.

    Parameters
    ----------
    challengers : those that decide, with their shares; None for one that is not there, whose clients the champion has
    """

    def __init__(
        self,
        champion: Variant,
        challengers: Mapping[str, tuple[Variant | None, float]],
        settings: SplitSettings,
        halt: HaltFile | None = None,
        *,
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        self.champion = champion
        self.challengers = {name: variant for name, (variant, _) in challengers.items() if variant is not None}
        self.variants = (champion, *self.challengers.values())
        # Of those that are not here too: otherwise one worker would give their clients to another challenger.
        self._shares = {name: share for name, (_, share) in challengers.items()}
        self._salt = settings.salt
        self._halt = halt or HaltFile(None, registry=registry)
        self._budgets = {name: FailureBudget(settings.guard) for name in challengers}
        self._stopped: set[str] = set()
        if not self.challengers:  # nothing is counted, so that a service without challengers has no empty series
            return
        applications = Counter(
            "credit_scoring_split_applications_total", "Applications that fell to a variant of the split",
            ("variant", "outcome"), registry=registry,
        )  # fmt: skip
        self._fates = {
            (name, fate): applications.labels(name, fate) for name in (CHAMPION, *challengers) for fate in Fate
        }
        self._halted = Gauge(
            "credit_scoring_variant_halted", "1 while the champion decides in the place of this challenger",
            ("variant", "reason"), registry=registry, multiprocess_mode="livemax",
        )  # fmt: skip
        self.publish()

    def publish(self) -> None:
        """Set the gauges of halted challengers."""
        for name in self.challengers:
            self._halted.labels(name, HaltReason.FILE).set(self._halt.halted)
            self._halted.labels(name, HaltReason.FAILURES).set(name in self._stopped)

    def named(self, name: str) -> Variant:
        """The variant of this name."""
        return self.challengers.get(name, self.champion)

    def halted(self, name: str) -> HaltReason | None:
        """Why the champion decides in the place of a challenger; None if it does not."""
        if self._halt.halted:
            return HaltReason.FILE
        return HaltReason.FAILURES if name in self._stopped else None

    def of(self, client_id: str | None, *, of_matrix: bool = False, count: int = 1) -> Variant:
        """The variant that decides on `count` applications of a client.

        `of_matrix` says that they are rows of the champion's model matrix.
        """
        if not self.challengers:
            return self.champion
        if client_id is None:
            self._fates[CHAMPION, Fate.UNNAMED].inc(count)
            return self.champion
        name = variant_of(client_id, self._shares, self._salt)
        chosen = self.challengers.get(name, self.champion)
        if chosen is self.champion:
            self._fates[CHAMPION, Fate.DECIDED].inc(count)
        elif self.halted(name) is not None:
            self._fates[name, Fate.HALTED].inc(count)
            return self.champion
        elif of_matrix and not same_matrix(chosen.served, self.champion.served):
            self._fates[name, Fate.UNREADABLE].inc(count)
            return self.champion
        return chosen

    async def decided(
        self, client_id: str | None, score: Callable[[Variant], Awaitable[Result]], *, of_matrix: bool = False
    ) -> tuple[Variant, Result]:
        """What the variant of the client makes of an application, recorded; the champion's if it fails."""
        chosen = self.of(client_id, of_matrix=of_matrix)
        if chosen is not self.champion:
            try:
                result = await score(chosen)
            except HTTPProblem:
                raise
            except Exception as error:  # noqa: BLE001 - whatever a challenger does, the applicant gets a decision
                self.failed(chosen, error)
                chosen = self.champion
                result = await score(chosen)
            else:
                self.succeeded(chosen)
        else:
            result = await score(chosen)
        await chosen.confirmed()
        return chosen, result

    def succeeded(self, variant: Variant, count: int = 1) -> None:
        """Count applications that a challenger has decided."""
        self._fates[variant.name, Fate.DECIDED].inc(count)
        self._budgets[variant.name].spent(failed=False)

    def failed(self, variant: Variant, error: Exception, count: int = 1) -> None:
        """Count applications that a challenger has failed on; too many failures return its clients to the champion."""
        name = variant.name
        self._fates[name, Fate.FAILED].inc(count)
        if not self._budgets[name].spent(failed=True) or name in self._stopped:
            return
        self._stopped.add(name)
        _LOGGER.error("the challenger %s fails (%s): the champion decides in its place", name, type(error).__name__)
        self._halt.write(f"the challenger {name} failed too often")
        self.publish()


def described(challengers: Sequence[Challenger], split: ClientSplit) -> list[Answer]:
    """The variants of this worker, ready for JSON; see `schemas.VariantInfo`."""
    shares = sum(one.settings.share for one in challengers if one.settings.name in split.challengers)
    champion = _described(CHAMPION, split.champion.served, 1 - shares, VariantState.DECIDES)
    return [champion, *(_as_loaded(one, split) for one in challengers)]


def _as_loaded(one: Challenger, split: ClientSplit) -> Answer:
    name, state = one.settings.name, one.state
    if name in split.challengers and split.halted(name) is not None:
        state = VariantState.HALTED
    return _described(name, one.served, one.settings.share, state)


def _described(name: str, served: StoredModel | None, share: float, state: VariantState) -> Answer:
    version: Answer = {"model": None, "version": None, "digest": None}
    if served is not None:
        version = {"model": served.name, "version": served.version, "digest": served.scorer.artefact.digest}
    return {"name": name, **version, "share": share, "state": state}
