"""The split of the clients among the models that decide, and what returns all of them to the champion."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from enum import StrEnum
from hashlib import blake2b
from pathlib import Path
from threading import Lock
from types import MappingProxyType
from typing import Any, TypeVar

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge

from decision_log.format import APPLICATION_ONLY, CHAMPION
from features.store import HistorySource
from features.transformer import Columns
from jobs.errors import OutputError
from jobs.heartbeat import Heartbeat, PeriodicThread
from jobs.output import write_text
from jobs.settings import read_regular
from scoring.scorer import Scores
from scoring.store import StoredModel
from serving.problems import HTTPProblem, Unrecorded
from serving.runner import Results, Runner
from serving.schemas import Answer
from serving.settings import GuardSettings, HashEnd, SplitSettings, VariantSettings
from serving.variants import CallerRows, Challenger, Rows, Variant, VariantState, same_matrix

_LOGGER = logging.getLogger("bentoml.credit_scoring")

HALT_VARIABLE = "CREDIT_SCORING_HALT_FILE"
"""The environment variable that names a file; while it has content, the champion decides on every application."""

Told = TypeVar("Told")


def variant_of(
    client_id: str, low: Mapping[str, float], salt: str, *, high: Mapping[str, float] = MappingProxyType({})
) -> str:
    """The name of the variant that decides for a client.

    `low` has the share of the challenger whose clients have the smallest hashes, `high` of the one with the largest;
    either may be empty. The name depends on nothing else, so it is the same in every process. Changing a share moves
    only clients between it and the champion.

    >>> variant_of("7", {"challenger": 0.5}, "a"), variant_of("7", {"challenger": 0.5}, "b")
    ('champion', 'challenger')
    """
    drawn = int.from_bytes(blake2b(client_id.encode(), digest_size=8, key=salt.encode()).digest()) / _DRAWS
    for name, share in low.items():
        if drawn < share:
            return name
    for name, share in high.items():
        if drawn >= 1 - share:
            return name
    return CHAMPION


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

    A file that is there and cannot be read halts too. Only a thread reads and writes it: on a shared volume either may
    take long.
    """

    def __init__(self, path: Path | None, *, registry: CollectorRegistry = REGISTRY) -> None:
        self._path = path
        self.halted = False
        self._reason: str | None = None
        self._failing: str | None = None
        self._looked: Callable[[], None] = lambda: None
        if path is not None:
            self.look()
            heartbeat = Heartbeat(_THREAD, registry=registry)
            self._thread = PeriodicThread(heartbeat, self.look, _LOOK_SECONDS, name=_THREAD)

    def tell(self, looked: Callable[[], None]) -> None:
        """Call this after each look."""
        self._looked = looked

    def write(self, reason: str) -> None:
        """Have the thread halt all workers that watch the file, within a second."""
        self._reason = reason

    def look(self) -> None:
        """Write what is to be written, and look whether the file has content."""
        path, reason = self._path, self._reason
        if path is None:
            return
        halted = _has_content(path) or (reason is not None and self._written(path, reason))
        if halted:
            self._reason = None
        if halted is not self.halted:
            _LOGGER.warning(
                "%s: %s", HALT_VARIABLE, "the champion decides alone" if halted else "the split is in force"
            )
        self.halted = halted
        self._looked()

    def _written(self, path: Path, reason: str) -> bool:
        """Whether the file could be written; if not, it is tried again, and each new error is logged in one line."""
        try:
            write_text(path, f"{reason}\n")
        except OutputError as error:
            if self._failing != str(error):
                _LOGGER.error("%s: %s", HALT_VARIABLE, error)  # noqa: TRY400 - one line, no traceback
            self._failing = str(error)
            return False
        self._failing = None
        return True


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
    """The challenger failed or took too long, and the champion decided; or it could not record or tell its decision."""
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
    challengers : those that decide, with their settings; None for one that is not there, whose clients the champion has
    application_only : decides where no history of the client is known; None where the split holds for these too
    """

    # A caller who hangs up is never a failure: nothing is cancelled then. What the service's own time limit cancels is
    # none either, since a challenger has less time than that, unless it was asked late.

    def __init__(
        self,
        champion: Variant,
        challengers: Sequence[tuple[VariantSettings, Variant | None]],
        settings: SplitSettings,
        halt: HaltFile | None = None,
        *,
        application_only: Variant | None = None,
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        self.champion = champion
        self.challengers = {one.name: variant for one, variant in challengers if variant is not None}
        self.application_only = application_only
        beside = () if application_only is None else (application_only,)
        self.variants = (champion, *beside, *self.challengers.values())
        # Of those that are not here too: otherwise one worker would give their clients to another challenger.
        self._low, self._high = (
            {one.name: one.share for one, _ in challengers if one.end is end} for end in (HashEnd.LOW, HashEnd.HIGH)
        )
        self._salt = settings.salt
        self._seconds = settings.seconds
        self._halt = halt or HaltFile(None, registry=registry)
        names = [one.name for one, _ in challengers]
        self._budgets = {name: FailureBudget(settings.guard) for name in names}
        self._stopped: set[str] = set()
        self._late: dict[str, Future[Scores]] = {}
        if not self.challengers:  # nothing is counted, so that a service without challengers has no empty series
            return
        applications = Counter(
            "credit_scoring_split_applications_total", "Applications that fell to a variant of the split",
            ("variant", "outcome"), registry=registry,
        )  # fmt: skip
        counted = (CHAMPION, *(one.name for one in beside), *names)
        self._fates = {(name, fate): applications.labels(name, fate) for name in counted for fate in Fate}
        self._halted = Gauge(
            "credit_scoring_variant_halted", "1 while the champion decides in the place of this challenger",
            ("variant", "reason"), registry=registry, multiprocess_mode="livemax",
        )  # fmt: skip
        self.publish()
        self._halt.tell(self.publish)

    def publish(self) -> None:
        """Set the gauges of halted challengers."""
        for name in self.challengers:
            self._halted.labels(name, HaltReason.FILE).set(self._halt.halted)
            self._halted.labels(name, HaltReason.FAILURES).set(name in self._stopped)

    def named(self, name: str) -> Variant:
        """The variant of this name; the champion if there is none."""
        return next((one for one in self.variants if one.name == name), self.champion)

    def falls_back(self, variant: Variant) -> bool:
        """Whether the champion decides where this variant fails: it is a challenger."""
        return variant.name in self.challengers

    def halted(self, name: str) -> HaltReason | None:
        """Why the champion decides in the place of a challenger; None if it does not."""
        if self._halt.halted:
            return HaltReason.FILE
        return HaltReason.FAILURES if name in self._stopped else None

    def of(
        self,
        client_id: str | None,
        *,
        history: HistorySource | None = None,
        of_matrix: bool = False,
        count: int = 1,
    ) -> Variant:
        """The variant that decides on `count` applications of a client.

        `history` says where the roll-ups come from, and `of_matrix` that these are rows of the champion's model matrix.
        """
        if self.application_only is not None and history is not None and not history.known:
            if self.challengers:
                self._fates[APPLICATION_ONLY, Fate.DECIDED].inc(count)
            return self.application_only
        if not self.challengers:
            return self.champion
        if client_id is None:
            self._fates[CHAMPION, Fate.UNNAMED].inc(count)
            return self.champion
        name = variant_of(client_id, self._low, self._salt, high=self._high)
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
        self,
        given: CallerRows[Rows],
        runner: Callable[[Variant], Runner[CallerRows[Rows], Results]],
        *,
        of_matrix: bool = False,
    ) -> tuple[Variant, Results]:
        """What the variant of the client makes of an application, recorded; the champion's if it fails."""
        caller = given.callers[0]
        chosen = self.of(caller.client_id, history=caller.history, of_matrix=of_matrix)
        if self.falls_back(chosen):
            found = await self._by_challenger(chosen, given, runner(chosen))
            if found is not None:
                return chosen, found
            chosen = self.champion
        result = await runner(chosen).score(given)
        await chosen.confirmed()
        return chosen, result

    async def _by_challenger(
        self, variant: Variant, given: CallerRows[Rows], runner: Runner[CallerRows[Rows], Results]
    ) -> Results | None:
        claim, found = Lock(), None
        deciding = asyncio.ensure_future(runner.score(given._replace(claims=(claim,))))
        try:
            with self._judged(variant):
                await asyncio.wait([deciding], timeout=self._seconds)
                _require_in_time(claim, done=deciding.done())
                found = await deciding
                await variant.confirmed()
        finally:  # of a request that was cancelled, too, nothing is recorded any more
            claim.acquire(blocking=False)
            deciding.cancel()
        return found

    def of_batch(self, variant: Variant, given: CallerRows[Columns]) -> Scores | None:
        """What a challenger makes of applications of a batch, recorded; None if it fails. Called on another thread."""
        claim, late = Lock(), self._late.get(variant.name)
        with self._judged(variant, len(given.callers)):
            if late is not None and not late.done():  # the parts of a large batch must not all wait for it
                raise TimeoutError
            deciding = self._late[variant.name] = variant.begin_batch(given._replace(claims=(claim,)))
            wait([deciding], self._seconds)
            _require_in_time(claim, done=deciding.done())
            return deciding.result()
        return None

    async def confirmed(self, variant: Variant) -> None:
        """Wait for the records of a batch as `Variant.confirmed` does; a failure counts against a challenger."""
        try:
            await variant.confirmed()
        except Unrecorded as error:
            self._count_against(variant, error)
            raise

    def told(self, variant: Variant, tell: Callable[..., Told], *given: Any) -> Told:
        """What is told of a recorded decision; an error counts against a challenger, and its decision stands."""
        try:
            return tell(*given)
        except Exception as error:
            self._count_against(variant, error)
            raise

    def _count_against(self, variant: Variant, error: Exception) -> None:
        if self.falls_back(variant):
            self.failed(variant, error)

    @contextmanager
    def _judged(self, variant: Variant, count: int = 1) -> Iterator[None]:
        """Count what becomes of applications; an error is passed on only if the champion must not decide instead."""
        try:
            yield
        except Unrecorded as error:
            self.failed(variant, error, count)
            raise
        except HTTPProblem:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a challenger does, the applicants get decisions
            self.failed(variant, error, count)
        else:
            self.succeeded(variant, count)

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


def _require_in_time(claim: Lock, *, done: bool) -> None:
    """Raise TimeoutError unless a decision is there, or is being recorded."""
    if not done and claim.acquire(blocking=False):
        raise TimeoutError


def described(challengers: Sequence[Challenger], split: ClientSplit) -> list[Answer]:
    """The variants of this worker, ready for JSON; see `schemas.VariantInfo`."""
    shares = sum(one.settings.share for one in challengers if one.settings.name in split.challengers)
    found = [_described(CHAMPION, split.champion.served, 1 - shares, VariantState.DECIDES)]
    if split.application_only is not None:
        found.append(_described(APPLICATION_ONLY, split.application_only.served, 0.0, VariantState.DECIDES))
    return [*found, *(_as_loaded(one, split) for one in challengers)]


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
