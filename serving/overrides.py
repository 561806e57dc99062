"""Answer overrides: a person decides in the place of the model, and the decision is recorded before the answer."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path

from pydantic_core import to_json

from decision_log.errors import DecisionLogError, StandsError, UnknownDecisionError
from decision_log.format import Header
from decision_log.overrides import OverrideLog
from monitoring.recorder import LOG_VARIABLE
from monitoring.settings import RecordingSettings
from scoring.store import StoredModel
from serving.app import ScoringRoute
from serving.authentication import caller_name
from serving.problems import AlreadyStands, UnknownDecision, Unlogged, Unrecorded
from serving.request_metrics import Traffic
from serving.schemas import OverrideRequest, decode
from serving.settings import Limits

_THREAD = "overrides"


def override_log(
    model: StoredModel, settings: RecordingSettings, environment: Mapping[str, str] = os.environ
) -> OverrideLog | None:
    """Return the log of the overrides of a model's decisions; None where decisions are not logged.

    CheckpointError if the environment names a key or an address of checkpoints that cannot be used.
    """
    folder = environment.get(LOG_VARIABLE)
    if not folder or not settings.enabled:
        return None
    return OverrideLog(Path(folder), Header.of(model), settings.log, environment, clock=time.time)


class Overrides:
    """Answers the overrides of one worker.

    Parameters
    ----------
    log : records overrides; None where decisions are not logged
    """

    def __init__(self, log: OverrideLog | None, limits: Limits, traffic: Traffic) -> None:
        self._log = log
        self._limits = limits
        self._counts = traffic.overrides
        # One thread: a search reads whole files, and single requests go on meanwhile.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=_THREAD)

    @property
    def route(self) -> ScoringRoute:
        """Return the route of overrides."""
        return ScoringRoute(self._answer, self._limits.application_bytes, self._limits.in_flight)

    async def _answer(self, request_id: str, body: bytes) -> bytes:
        """Override a decision; Unlogged, UnknownDecision, AlreadyStands or Unrecorded if that cannot be done."""
        given = decode(OverrideRequest, body)
        if self._log is None:
            raise Unlogged("An override needs a decision log, and this service keeps none.")
        work = partial(
            self._log.override,
            request_id,
            given.index,
            actor=caller_name() or None,
            decision=given.decision,
            reason=given.reason,
        )
        try:
            record = await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except UnknownDecisionError as error:
            raise UnknownDecision(str(error)) from None
        except StandsError as error:
            raise AlreadyStands(str(error)) from None
        except DecisionLogError:
            raise Unrecorded.after(self._limits.retry_after_seconds) from None
        self._counts[record.was, record.decision].inc()
        return to_json(asdict(record))

    def close(self) -> None:
        """Finish what is under way, and close the log."""
        self._thread.shutdown()
        if self._log is not None:
            self._log.close()
