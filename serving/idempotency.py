"""Answer a request that carries an Idempotency-Key once: its repetitions get the answer of the first one.

draft-ietf-httpapi-idempotency-key-header-07. A key belongs to one caller, the holder of an API key. Only answers are
kept: an error frees the key, so that the request can be sent again. A repetition makes no second record. Work that has
begun goes on after its time limit, since it may have been recorded: its answer is kept when it ends.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from decision_log.answers import Claim, KeptAnswers, Standing
from decision_log.errors import AnswersError
from monitoring.recorder import LOG_VARIABLE
from serving.problems import BadRequest, InFlight, KeyReused, NotOffered, Unkept
from serving.request_metrics import Repeated, Traffic
from serving.settings import Limits

Result = TypeVar("Result")

_LOGGER = logging.getLogger("bentoml.credit_scoring")

KEY_FIELD = b"idempotency-key"
REPLAYED = (b"idempotency-replayed", b"true")
"""The header field of an answer that was given before."""

_THREAD = "idempotency"
_LONGEST_KEY = 128
# The draft has a quoted string of RFC 8941, with \" and \\ in it; many callers send the bare text.
_KEY = re.compile(rb'"((?:[\x21\x23-\x5b\x5d-\x7e]|\\["\\])+)"|([\x21\x23-\x7e]+)')
_ESCAPED = re.compile(rb'\\(["\\])')
_SECONDS_PER_HOUR = 3600.0


def read_key(field: bytes) -> str:
    r"""Return the key in a header field, without quotes; BadRequest if it is malformed.

    >>> read_key(b"8e03978e"), read_key(b'"8e03978e"'), read_key(rb'"a\"b"')
    ('8e03978e', '8e03978e', 'a"b')
    """
    found = _KEY.fullmatch(field.strip(b" \t"))
    key = b"" if found is None else _ESCAPED.sub(rb"\1", found[1]) if found[1] else found[2]
    if not 0 < len(key) <= _LONGEST_KEY:
        raise BadRequest(
            f"The header field Idempotency-Key must be 1 to {_LONGEST_KEY} visible ASCII characters, all in quotes or"
            " without any."
        )
    return key.decode("ascii")


def kept_answers(
    environment: Mapping[str, str], limits: Limits, hours: float, *, clock: Callable[[], float] = time.time
) -> KeptAnswers | None:
    """Return the answers that are kept beside the decision log; None without a log. No file is opened yet."""
    folder = environment.get(LOG_VARIABLE)
    if not folder:
        return None
    # A request ends at its time limit, or a little later: its lease must not end before.
    lease = 1.0 + 1.1 * limits.timeout_seconds
    return KeptAnswers(Path(folder), lease_seconds=lease, seconds=hours * _SECONDS_PER_HOUR, clock=clock)


class Idempotency:
    """Answers requests that carry an Idempotency-Key.

    Parameters
    ----------
    answers : those that are kept; None where none can be, and then such a request is refused
    retry_after_seconds : after which a request in flight may be asked for again
    """

    def __init__(self, answers: KeptAnswers | None, traffic: Traffic, retry_after_seconds: int) -> None:
        self._answers = answers
        self._repeated = traffic.repeated
        self._retry_after_seconds = retry_after_seconds
        # SQLite waits for the disk and for other workers, which the event loop must not.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=_THREAD)
        self._failing: str | None = None
        self._under_way: set[asyncio.Task[tuple[bytes, bool]]] = set()

    def begin(
        self, field: bytes, caller: str, path: str, body: bytes, work: Callable[[bytes], Awaitable[bytes]]
    ) -> asyncio.Task[tuple[bytes, bool]]:
        """Begin to answer a request; the task gives its answer, and whether it was given before.

        Await it under `asyncio.shield`: who gives up must not end work that may have been recorded. BadRequest,
        InFlight, KeyReused or Unkept if there is no answer; `work` makes the first one, and its errors are passed on.
        """
        task = asyncio.ensure_future(self._answer(field, caller, path, body, work))
        self._under_way.add(task)  # the event loop itself holds no task
        task.add_done_callback(self._under_way.discard)
        return task

    async def _answer(
        self, field: bytes, caller: str, path: str, body: bytes, work: Callable[[bytes], Awaitable[bytes]]
    ) -> tuple[bytes, bool]:
        key = read_key(field)
        if self._answers is None:
            raise NotOffered("Idempotency-Key needs a decision log, and this service keeps none: leave it out.")
        claim = Claim.of(caller, key, path, body)
        found = await self._claimed(self._answers, claim)
        if found is not Standing.FREE:
            return self._given_before(found), True
        try:
            answer = await work(body)
        except Exception:
            # Not when it is cancelled, as the event loop does at its end: what was recorded by then has no answer here.
            self._thread.submit(self._try, self._answers.release, claim)
            raise
        # Waited for: a repetition that follows the answer must find it. If it cannot be kept, the caller has it at
        # least: a refusal would make the caller ask again, and be decided on twice.
        await self._in_thread(self._try, self._answers.keep, claim, answer)
        return answer, False

    async def _claimed(self, answers: KeptAnswers, claim: Claim) -> bytes | Standing:
        try:
            found = await self._in_thread(answers.claim, claim)
        except AnswersError as error:
            self._failed(error)
            raise Unkept.after(self._retry_after_seconds) from None
        self._failing = None
        return found

    def _given_before(self, found: bytes | Standing) -> bytes:
        """Return the kept answer; the problem if there is none for this request."""
        if isinstance(found, bytes):
            self._repeated[Repeated.REPLAYED].inc()
            return found
        if found is Standing.OTHER_REQUEST:
            self._repeated[Repeated.MISMATCH].inc()
            raise KeyReused("The Idempotency-Key was used for another request: send a new one.")
        self._repeated[Repeated.CONFLICT].inc()
        raise InFlight.after(self._retry_after_seconds)

    def _try(self, change: Callable[..., None], *arguments: object) -> None:
        try:
            change(*arguments)
        except AnswersError as error:
            self._failed(error)

    def _failed(self, error: AnswersError) -> None:
        """Count a failure, and log it once until all goes well again."""
        self._repeated[Repeated.FAILED].inc()
        if self._failing != str(error):
            _LOGGER.error("answers are not kept: %s", error)
        self._failing = str(error)

    async def _in_thread(self, function: Callable[..., Result], *arguments: object) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    async def settled(self, seconds: float) -> None:
        """Wait, for so many seconds at most, until no work is under way."""
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=seconds)

    def close(self) -> None:
        """End the thread and close the file; no request may be answered afterwards."""
        if self._answers is not None:
            self._thread.submit(self._answers.close)
        self._thread.shutdown()
