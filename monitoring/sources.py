"""The sources of a window of drift counts: a file of applications, running services, or the decision log."""

from __future__ import annotations

import os
import ssl
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import httpx
import numpy as np
from numpy.typing import NDArray

from decision_log.errors import SourceError
from decision_log.format import FEATURE_PREFIX, HISTORY
from decision_log.reader import DecisionLogReader
from features.files import open_file
from features.schema import Calendar
from features.store import HistorySource
from monitoring.drift import PERIODS, whole_periods
from monitoring.errors import WindowError
from monitoring.outcomes import NAMES, Keys, decision_codes, request_keys
from scoring.artefact import Artefact
from scoring.drift_reference import DriftReference, Window
from scoring.scorer import Scorer
from scoring.store import Trust, load_artefact

if TYPE_CHECKING:
    import pyarrow as pa


def load_model(name: str) -> Artefact:
    """Load the model in the artefact directory `name` or, without such a directory, of this tag in the BentoML store.

    ArtefactError if it is damaged, or is not one that the environment trusts. It is not made ready to score: what
    services and logs counted needs no scores.
    """
    directory = Path(name)
    if directory.is_dir():
        trust, artefact = Trust.of(os.environ), Artefact.read(directory)
        trust.require(directory, artefact.digest)
        return artefact
    return load_artefact(name)[2]


_ROWS_PER_BATCH = 20_000


@dataclass(frozen=True, slots=True)
class FileWindow:
    """The window of a file, and the faults of the file.

    Rows that break a rule are counted like the others, although the service refuses such requests: a broken feed looks
    like that.

    Attributes
    ----------
    broken_rules : how many rows break each declared rule
    never_stated : declared columns that are missing in every row
    ignored_columns : columns that are not declared
    unstated : roll-ups that the model reads and the file has no column for
    """

    window: Window
    broken_rules: dict[str, int]
    never_stated: tuple[str, ...]
    ignored_columns: tuple[str, ...]
    unstated: frozenset[str] = frozenset()


def window_of_file(path: Path, scorer: Scorer, progress: Callable[[int], object] = lambda _: None) -> FileWindow:
    """Score and count a .csv or .parquet file of raw applications; SourceError if it has no rows."""
    windows = None
    broken: Counter[str] = Counter()
    stated: set[str] = set()
    portfolio, features = scorer.artefact.portfolio, scorer.artefact.features
    file = open_file(path, portfolio)
    unstated = features.rolled_up.difference(file.header)
    for batch in file.batches(_ROWS_PER_BATCH):
        matrix = scorer.transformer.transform(batch.columns)
        window = Window.of(scorer.artefact.reference, matrix, scorer.score_matrix(matrix).probability)
        windows = window if windows is None else windows + window
        for violation in batch.violations:
            broken[f"{violation.column}: {violation.rule}"] += violation.count
        stated |= batch.stated
        progress(len(batch))
    if windows is None:
        raise SourceError(f"{path}: has no rows")
    known = {*portfolio.schema.beside, *NAMES}
    return FileWindow(
        windows,
        dict(broken.most_common()),
        tuple(
            column.name
            for column in portfolio.schema
            if column.name not in stated | unstated and features.expects(column)
        ),
        tuple(name for name in file.undeclared if name not in known),
        unstated,
    )


_SECONDS = 10
_KEY = "CREDIT_SCORING_API_KEY"
"""The environment variable with an API key of the scope `admin`, if the services ask for one."""


def window_of_services(
    urls: Sequence[str], model: Artefact, *, last: bool = False
) -> tuple[Window, frozenset[Calendar]]:
    """Add up the counts of the services at these addresses: since their start, or of their `last` complete windows.

    The second value holds the calendars whose periods all of the windows cover whole; none for counts since the start.
    SourceError if one does not answer or has no complete window yet; WindowError if one serves another model.
    """
    first, *others = (_window(url, model, last=last) for url in urls)
    window = sum((each for each, _ in others), first[0])
    return window, first[1].intersection(*(whole for _, whole in others))


def _window(url: str, model: Artefact, *, last: bool) -> tuple[Window, frozenset[Calendar]]:
    answer = _answer(url)
    try:
        digest, counts = str(answer["digest"]), answer["window"] if last else answer
        if digest != model.digest:
            raise WindowError(f"{url}: serves the model {digest[:12]}, not {model.digest[:12]}")
        if counts is None:
            raise SourceError(f"{url}: no window is complete yet")
        covered = timedelta(seconds=counts["end"] - counts["start"]) if last else timedelta()
        return _counted(counts, model), whole_periods(covered)
    # the answer comes from another machine, and anything may listen there
    except (KeyError, OverflowError, TypeError, ValueError) as error:
        raise SourceError(f"{url}: not what GET /drift answers ({type(error).__name__})") from None


def _counted(counts: Mapping[str, Any], model: Artefact) -> Window:
    features = np.zeros_like(model.reference.counts)
    for name, part in model.reference.by_feature(features).items():
        part[:] = np.array(counts["features"][name], dtype=np.int64)
    # services of older versions count all of their applications alike
    return Window(features, np.array(counts["probability"], dtype=np.int64), int(counts.get("unavailable", 0)))


def _response(url: str) -> httpx.Response:
    # of all headers, httpx keeps this one alone from another host to which a service redirects
    key = {"Authorization": f"Bearer {secret}"} if (secret := os.environ.get(_KEY)) else {}
    tls = ssl.create_default_context()  # the machine's certificates: httpx would take those of certifi alone
    return httpx.get(f"{url.rstrip('/')}/drift", headers=key, follow_redirects=True, timeout=_SECONDS, verify=tls)


def _answer(url: str) -> Mapping[str, Any]:
    if not url.startswith(("http://", "https://")):
        raise SourceError(f"{url}: not an address of a service: http://... or https://...")
    try:
        response = _response(url)
        answer = response.json() if response.is_success else None
    except (httpx.ConnectError, httpx.TimeoutException) as error:
        raise SourceError(f"{url}: does not answer ({error})") from None
    except (httpx.RequestError, httpx.InvalidURL, OverflowError, ValueError) as error:
        raise SourceError(f"{url}: does not answer as expected ({type(error).__name__})") from None
    if not response.is_success:
        asks = response.status_code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
        hint = f": set {_KEY} to an API key of the scope admin" if asks else ""
        raise SourceError(f"{url}: refuses ({response.status_code} {response.reason_phrase}){hint}")
    if not isinstance(answer, dict):
        raise SourceError(f"{url}: not what GET /drift answers")
    return answer


_PROBABILITY = "probability"


@dataclass(frozen=True, slots=True)
class LogWindow:
    """The window of a log, and the calendars whose periods it covers whole.

    Features that follow a calendar are counted over the whole periods up to the last decision, or over all of the time
    if there is no whole period.
    """

    window: Window
    whole: frozenset[Calendar]


def window_of_log(
    log: DecisionLogReader, reference: DriftReference, progress: Callable[[int], object] = lambda _: None
) -> LogWindow:
    """Count the decisions of the log; SourceError if it has none of this model and time."""
    # The log is read twice, first for its times alone: the whole periods end at the last decision, which is known late.
    first, last = log.span()
    begin = {calendar: _begin(first, last, period) for calendar, period in PERIODS.items() if last - first >= period}
    features = np.zeros_like(reference.counts)
    probability = np.zeros(reference.probability.size, dtype=np.int64)
    unavailable = 0
    parts = reference.by_feature(features)
    columns = {
        f"{FEATURE_PREFIX}{name}": (bins, parts[name], reads)
        for (name, bins), reads in zip(reference.features.items(), reference.of_histories.tolist(), strict=True)
    }
    for table in log.tables(["time", _PROBABILITY, HISTORY, *columns]):
        available = _available(table) if reference.roll_ups else table
        for name, (bins, part, reads) in columns.items():
            followed = reference.calendars.get(name.removeprefix(FEATURE_PREFIX), frozenset())
            counted = _since(available if reads else table, [begin[each] for each in followed & begin.keys()])
            np.add(part, bins.count(counted[name].to_numpy()), out=part)
        probability += reference.probability.count(available[_PROBABILITY].to_numpy())
        unavailable += table.num_rows - available.num_rows
        progress(table.num_rows)
    window = Window(features, probability, unavailable)
    if not window.rows:
        raise SourceError(f"{log.directory}: no decision of this model and time")
    return LogWindow(window, frozenset(begin))


def _available(table: pa.Table) -> pa.Table:
    """The rows but those whose history was not available."""
    import pyarrow.compute as pc

    unavailable = pc.equal(table[HISTORY].cast("string"), str(HistorySource.UNAVAILABLE))
    return table.filter(pc.invert(pc.fill_null(unavailable, False)))


def _begin(first: datetime, last: datetime, period: timedelta) -> datetime:
    return last - (last - first) // period * period


def _since(table: pa.Table, times: Sequence[datetime]) -> pa.Table:
    import pyarrow.compute as pc

    return table.filter(pc.greater(table["time"], max(times))) if times else table


_SHADOW = ("request_id", "index", "model", "model_version", "probability", "decision", "reasons")
_LATE = timedelta(hours=1)
"""How much later than its answer a shadow's record may have been written."""


@dataclass(frozen=True, slots=True, eq=False)
class ChallengerRows:
    """What a challenger makes of some rows; arrays have shape (n,), `reasons` holds texts of codes."""

    probability: NDArray[np.float64]
    decision: NDArray[np.int8]
    reasons: NDArray[np.object_]

    def take(self, rows: NDArray[np.intp]) -> ChallengerRows:
        """The chosen rows."""
        return ChallengerRows(self.probability[rows], self.decision[rows], self.reasons[rows])


@dataclass(frozen=True, slots=True, eq=False)
class ShadowDecisions:
    """What a shadow recorded, by the sorted keys of requests; those with several different records are left out."""

    tag: str
    keys: Keys
    rows: ChallengerRows

    @classmethod
    def read(cls, log: DecisionLogReader, advance: Callable[[int], object] = lambda _: None) -> Self:
        """Read the log of a shadow; SourceError if it has no decision, or those of several models."""
        tables = []
        tags: set[str] = set()
        for table in log.tables(_SHADOW):
            tags.add(f"{table['model'][0].as_py()}:{table['model_version'][0].as_py()}")  # a segment has one model
            tables.append(table)
            advance(table.num_rows)
        if len(tags) != 1:
            several = f"records of several models, give --version: {', '.join(sorted(tags))}"
            raise SourceError(f"{log.directory}: {several if tags else 'no decision of this model and time'}")
        rows = ChallengerRows(
            np.concatenate([table["probability"].to_numpy() for table in tables]),
            np.concatenate([decision_codes(table["decision"]) for table in tables]),
            np.concatenate([texts_of(table["reasons"]) for table in tables]),
        )
        keys = np.concatenate([request_keys(table) for table in tables])
        order, known = _without_doubt(keys, rows.probability)
        return cls(tags.pop(), keys[order][known], rows.take(order[known]))


def _without_doubt(keys: Keys, probability: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """The order of the keys, and which of them stay: the first of each whose PDs are all the same."""
    # A request that is sent again after a timeout is recorded twice, with the same PD.
    order = np.argsort(keys[:, 0], kind="stable")
    ordered, shown = keys[order], probability[order]
    first = np.append(True, (ordered[1:] != ordered[:-1]).any(axis=1))
    starts = np.flatnonzero(first)
    same = np.minimum.reduceat(shown, starts) == np.maximum.reduceat(shown, starts)
    known = np.zeros(len(keys), dtype=np.bool_)
    known[starts[same]] = True
    return order, known


def shadow_log(folder: Path, log: DecisionLogReader, digest: str | None) -> DecisionLogReader:
    """The reader of a shadow's log for the time of another log: a shadow records after the answer."""
    until = None if log.until is None else log.until + _LATE
    return DecisionLogReader(folder, digest=digest, since=log.since, until=until)


def texts_of(column: pa.ChunkedArray[Any]) -> NDArray[np.object_]:
    """The texts of a column, shape (n,); None for null."""
    return np.asarray(column.cast("string").to_numpy(zero_copy_only=False), dtype=object)
