"""Count requests cheaply, and write the metrics of all workers for Prometheus.

prometheus_client keeps the values of several workers in mapped files, and a write to one takes two microseconds. So
counts are kept in plain numbers during a request, and published to the files four times a second.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import suppress
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Protocol, TypeVar

import bentoml
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from features.store import HistorySource
from jobs.heartbeat import Heartbeat
from scoring.policy import DecisionKind
from serving.settings import DECIDE_PATH

OVERRIDE = "/decisions/{request_id}/override"
"""The path of an override, with the request id of the decision in its place."""
_OVERRIDE = re.compile(r"/decisions/([\w.:-]{1,128})/override", re.ASCII)
SCORING = ("/predict", "/predict/features", "/predict/batch", "/explain")
_PROBES = ("/health", "/livez", "/readyz", "/healthz")
KNOWN = {*SCORING, *_PROBES, OVERRIDE, DECIDE_PATH, "/", "/docs.json", "/model/info", "/drift"}
"""The paths that have an endpoint label of their own. /metrics is not measured."""

# BentoML 1.4.39 labels with the raw path: a scanner of paths makes series without bound.
OTHER = "other"
"""The endpoint label of every other path."""


def overridden(path: str) -> str | None:
    """Return the request id in the path of an override; None for another path.

    >>> overridden("/decisions/r-1/override"), overridden("/decisions/r-1"), overridden("/decisions/a/b/override")
    ('r-1', None, None)
    """
    found = _OVERRIDE.fullmatch(path)
    return None if found is None else found[1]


def label_of(path: str) -> str:
    """Return the endpoint label of a path."""
    route = path if path in KNOWN else route_of(path)
    return route if route in KNOWN else OTHER


def route_of(path: str) -> str:
    """Return the route of a path, the path itself unless it names a decision.

    >>> route_of("/predict"), route_of("/decisions/r-1/override")
    ('/predict', '/decisions/{request_id}/override')
    """
    return path if overridden(path) is None else OVERRIDE


_NAMESPACE = "bentoml_service"
_SERVICE = ("service_name", "service_version", "runner_name")


class Repeated(StrEnum):
    """The end of a request whose Idempotency-Key was known, or could not be looked up."""

    REPLAYED = "replayed"
    CONFLICT = "conflict"
    """The first request with the key was in flight."""
    MISMATCH = "mismatch"
    """The key stood for another request."""
    FAILED = "failed"
    """Kept answers could not be read or written."""


class Traffic:
    """Counts requests by endpoint and status, and measures their durations and the batches of single requests.

    Parameters
    ----------
    buckets : upper bounds of the durations, in seconds
    """

    def __init__(self, buckets: Sequence[float], *, registry: CollectorRegistry = REGISTRY) -> None:
        context = bentoml.server_context
        self.service = (context.bento_name, context.bento_version, str(context.service_name))
        # BentoML's names and labels, so that dashboards made for BentoML show this service too.
        by_endpoint, by_status = ("endpoint", *_SERVICE), ("endpoint", *_SERVICE, "http_response_code")
        self.total = Counter("request_total", "Requests answered", by_status, namespace=_NAMESPACE, registry=registry)
        self.duration = Histogram(
            "request_duration_seconds", "Time from the headers of a request to the end of its answer", by_status,
            namespace=_NAMESPACE, registry=registry, buckets=buckets,
        )  # fmt: skip
        self.in_progress = Gauge(
            "request_in_progress", "Requests being answered", by_endpoint,
            namespace=_NAMESPACE, registry=registry, multiprocess_mode="livesum",
        )  # fmt: skip
        last = Gauge(
            "last_request_timestamp_seconds", "When the last request came", _SERVICE,
            namespace=_NAMESPACE, registry=registry,
        )  # fmt: skip
        self.requests = Counter(
            "credit_scoring_requests_total", "Requests answered", ("endpoint", "status"), registry=registry
        )
        self.response = Histogram(
            "credit_scoring_response_seconds", "Time from the headers of a request to the end of its answer",
            ("endpoint",), registry=registry, buckets=buckets,
        )  # fmt: skip
        self.shed = Counter(
            "credit_scoring_requests_shed_total", "Requests refused because too many were under way", ("endpoint",),
            registry=registry,
        )  # fmt: skip
        repeats = Counter(
            "credit_scoring_repeated_requests_total", "Requests whose Idempotency-Key was used before", ("outcome",),
            registry=registry,
        )  # fmt: skip
        rows = Histogram(
            "credit_scoring_batch_size", "Single requests scored in one call", registry=registry,
            buckets=(1, 2, 4, 8, 16, 32, 64),
        )  # fmt: skip
        waited = Histogram(
            "credit_scoring_queue_wait_seconds", "Longest wait for its turn in a batch", registry=registry,
            buckets=(0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5),
        )  # fmt: skip
        self.tallies = Tallies(registry=registry)
        self._last = self.tallies.gauge(last.labels(*self.service))
        self._rows = self.tallies.histogram(rows)
        self._waited = self.tallies.histogram(waited)
        overrides = Counter(
            "credit_scoring_overrides_total", "Decisions that a person overrode", ("was", "decision"), registry=registry
        )
        self.overrides = {
            (was, decision): self.tallies.counter(overrides.labels(was, decision))
            for was in DecisionKind
            for decision in (DecisionKind.APPROVE, DecisionKind.DECLINE)
            if was is not decision
        }
        self._histories = Counter(
            "credit_scoring_histories_total", "Applications by where the roll-ups of the client came from", ("source",),
            registry=registry,
        )  # fmt: skip
        self.repeated = {each: self.tallies.counter(repeats.labels(each)) for each in Repeated}
        self._endpoints: dict[str, Endpoint] = {}
        for path in SCORING:
            for status in ("200", "500"):
                self.total.labels(path, *self.service, status)  # rate() misses an increase to a series' first value
                self.requests.labels(path, status)

    def history(self, source: HistorySource) -> CounterTally:
        """The count of applications whose roll-ups came from there."""
        return self.tallies.counter(self._histories.labels(source))

    def begin(self, path: str) -> Endpoint:
        """Count a request to the path as begun; call `end` of the returned endpoint when it ends."""
        endpoint = self._endpoints.get(path) or self._endpoint(label_of(path))
        endpoint.in_progress.value += 1
        if path in SCORING:
            self._last.value = time.time()
        self.tallies.touch()
        return endpoint

    def _endpoint(self, label: str) -> Endpoint:
        if label not in self._endpoints:
            self._endpoints[label] = Endpoint(self, label)
        return self._endpoints[label]

    def batch(self, rows: int, waited: float) -> None:
        """Count a batch: its number of rows, and the seconds that its first row waited."""
        self._rows.observe(rows)
        self._waited.observe(waited)


class Endpoint:
    """Counts the requests to one endpoint."""

    def __init__(self, traffic: Traffic, label: str) -> None:
        self.in_progress = traffic.tallies.gauge(traffic.in_progress.labels(label, *traffic.service))
        self._traffic = traffic
        self._label = label
        self._answered: dict[int, tuple[CounterTally, HistogramTally]] = {}

    def shed(self) -> None:
        """Count a request that was refused because there was no room."""
        self._shed.inc()

    @cached_property
    def _shed(self) -> CounterTally:
        return self._traffic.tallies.counter(self._traffic.shed.labels(self._label))

    def end(self, status: int | None, seconds: float) -> None:
        """Count a request as ended; `status` is None if nothing was answered."""
        self.in_progress.value -= 1
        if status is not None:
            total, duration = self._answered.get(status) or self._tallies_of(status)
            total.inc()
            duration.observe(seconds)
            self._traffic.tallies.touch()

    def _tallies_of(self, status: int) -> tuple[CounterTally, HistogramTally]:
        traffic, labels = self._traffic, (self._label, *self._traffic.service, str(status))
        total = traffic.tallies.counter(
            traffic.total.labels(*labels), traffic.requests.labels(self._label, str(status))
        )
        duration = traffic.tallies.histogram(traffic.duration.labels(*labels), traffic.response.labels(self._label))
        return self._answered.setdefault(status, (total, duration))


class Exposition:
    """Writes the metrics of all workers, and metrics that are computed at a scrape, in Prometheus' text format.

    A collector that fails is left out, and its failure is counted.

    Parameters
    ----------
    directory : the folder in which the workers keep their metrics; None if there is one worker
    """

    def __init__(self, directory: str | None, *, registry: CollectorRegistry = REGISTRY) -> None:
        self._directory = directory
        self._registry = registry
        self._heartbeat = Heartbeat("metrics", periodic=False, registry=registry)

    def text(self, *computed: Collector) -> bytes:
        """Return the metrics as they are now."""
        kept = self._registry if self._directory is None else _Workers(Path(self._directory), self._heartbeat)
        return b"".join(self._text_of(collector) for collector in (kept, *computed))

    def _text_of(self, collector: Collector) -> bytes:
        with self._heartbeat.guarded():
            if isinstance(collector, CollectorRegistry):
                return generate_latest(collector)
            chosen = CollectorRegistry()
            chosen.register(collector)
            return generate_latest(chosen)
        return b""

    def fault(self) -> str | None:
        """Return why the counts of this worker cannot be seen; None if they can."""
        # prometheus_client goes on writing into a mapped file that was removed, and no scrape finds it.
        if self._directory is None or Path(self._directory, f"counter_{os.getpid()}.db").exists():
            return None
        return "the files of its metrics are gone"


class _Workers(Collector):
    """Collects the metrics from the files of the workers, and skips broken files."""

    def __init__(self, directory: Path, heartbeat: Heartbeat) -> None:
        self._directory = directory
        self._heartbeat = heartbeat

    def collect(self) -> Iterator[Metric]:
        for file in self._directory.glob("gauge_live*_*.db"):
            pid = file.stem.rpartition("_")[2]
            # A killed worker leaves its gauges behind: requests in progress would be shown for good.
            if pid.isdecimal() and not _alive(int(pid)):
                with suppress(FileNotFoundError):  # another worker was first
                    mark_process_dead(int(pid), str(self._directory))  # type: ignore[no-untyped-call]
        files = [str(file) for file in self._directory.glob("*.db")]
        try:
            yield from _merged(files)
        except Exception:  # noqa: BLE001 - of whatever kind it is, one file must not hide what the others hold
            yield from _merged([file for file in files if self._is_readable(file)])

    def _is_readable(self, file: str) -> bool:
        with self._heartbeat.guarded():
            _merged([file])
            return True
        return False


def _merged(files: list[str]) -> list[Metric]:
    return list(MultiProcessCollector.merge(files, accumulate=True))  # type: ignore[no-untyped-call]


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


_SECONDS = 0.25
"""Seconds from a count until it is published."""


class _Tally(Protocol):
    def publish(self) -> None:
        """Add the counts since the last call to the metrics."""


AnyTally = TypeVar("AnyTally", bound=_Tally)


class Tallies:
    """Makes tallies of metrics, and publishes them a quarter of a second after a count."""

    def __init__(self, *, registry: CollectorRegistry = REGISTRY) -> None:
        self._tallies: list[_Tally] = []
        self._due = False
        self._heartbeat = Heartbeat("publishing", periodic=False, registry=registry)

    def counter(self, *metrics: Counter) -> CounterTally:
        """Return one tally for several counters that count the same; all their labels must be given."""
        return self._kept(CounterTally(*metrics))

    def gauge(self, metric: Gauge) -> GaugeTally:
        """Return a tally of a gauge; all its labels must be given."""
        return self._kept(GaugeTally(metric))

    def histogram(self, *metrics: Histogram) -> HistogramTally:
        """Return one tally for several histograms with the same buckets; all their labels must be given."""
        return self._kept(HistogramTally(*metrics))

    def include(self, tally: _Tally) -> None:
        """Publish another tally together with these."""
        self._tallies.append(tally)

    def _kept(self, tally: AnyTally) -> AnyTally:
        self._tallies.append(tally)
        return tally

    def touch(self) -> None:
        """Publish within a quarter of a second."""
        if not self._due:
            self._due = True
            self._heartbeat.beat()
            asyncio.get_running_loop().call_later(_SECONDS, self.publish)

    def publish(self) -> None:
        """Publish now. A tally that fails does not hold up the others; its failure is counted."""
        self._due = False
        with self._heartbeat.guarded():
            failed: Exception | None = None
            for tally in self._tallies:
                try:
                    tally.publish()
                except Exception as error:  # noqa: BLE001 - it is raised again when the others have had their turn
                    failed = error
            if failed is not None:
                raise failed


class CounterTally:
    """Counts in a plain number."""

    def __init__(self, *metrics: Counter) -> None:
        self._metrics = metrics
        self._count = 0

    def inc(self) -> None:
        """Count one."""
        self._count += 1

    def publish(self) -> None:
        """Add the count since the last call to the metrics."""
        for metric in self._metrics:
            metric.inc(self._count)
        self._count = 0


class GaugeTally:
    """Holds the last value of a gauge."""

    def __init__(self, metric: Gauge) -> None:
        self._metric = metric
        self.value = 0.0

    def publish(self) -> None:
        """Set the metric to the value."""
        self._metric.set(self.value)


class HistogramTally:
    """Counts values by bucket in plain numbers."""

    def __init__(self, *metrics: Histogram) -> None:
        self._metrics = metrics
        self._bounds = metrics[0]._upper_bounds  # noqa: SLF001 - a histogram has no public way to take several at once
        self._counts = [0] * len(self._bounds)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count a value; a value equal to a bound belongs to the bucket that the bound closes."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def publish(self) -> None:
        """Add the counts since the last call to the metrics."""
        for metric in self._metrics:
            # Private attributes: `observe` takes one value at a time, at two microseconds each.
            for bucket, count in zip(metric._buckets, self._counts, strict=True):  # noqa: SLF001
                if count:
                    bucket.inc(count)
            metric._sum.inc(self._sum)  # noqa: SLF001
        self._counts = [0] * len(self._bounds)
        self._sum = 0.0
