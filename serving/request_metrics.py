"""Metrics that cost a request nothing to speak of.

prometheus_client's values of several workers are in mapped files, and a write to one takes two microseconds. What is
counted during a request is kept in plain numbers here and published four times a second.
"""

from __future__ import annotations

import asyncio
import os
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Protocol, TypeVar

import bentoml
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from jobs.heartbeat import Heartbeat

_SECONDS = 0.25


class _Tally(Protocol):
    def publish(self) -> None:
        """Hand over what has been counted since the last time."""


AnyTally = TypeVar("AnyTally", bound=_Tally)


class Tallies:
    """Makes tallies of metrics, and publishes them while anything is counted."""

    def __init__(self, *, registry: CollectorRegistry = REGISTRY) -> None:
        self._tallies: list[_Tally] = []
        self._due = False
        self._heartbeat = Heartbeat("publishing", periodic=False, registry=registry)

    def counter(self, *metrics: Counter) -> CounterTally:
        """A tally of counters without labels, or with all of them given, that count the same."""
        return self._kept(CounterTally(*metrics))

    def gauge(self, metric: Gauge) -> GaugeTally:
        """A tally of such a gauge."""
        return self._kept(GaugeTally(metric))

    def histogram(self, *metrics: Histogram) -> HistogramTally:
        """A tally of such histograms, which have the same buckets."""
        return self._kept(HistogramTally(*metrics))

    def include(self, tally: _Tally) -> None:
        """Publish something else together with these tallies."""
        self._tallies.append(tally)

    def _kept(self, tally: AnyTally) -> AnyTally:
        self._tallies.append(tally)
        return tally

    def touch(self) -> None:
        """See to it that what has been counted is published soon."""
        if not self._due:
            self._due = True
            self._heartbeat.beat()
            asyncio.get_running_loop().call_later(_SECONDS, self.publish)

    def publish(self) -> None:
        """Publish now. A tally that cannot be published is counted, and the others are."""
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
    """Adds up."""

    def __init__(self, *metrics: Counter) -> None:
        self._metrics = metrics
        self._count = 0

    def inc(self) -> None:
        """Count one more."""
        self._count += 1

    def publish(self) -> None:
        """Hand over what has been counted since the last time."""
        for metric in self._metrics:
            metric.inc(self._count)
        self._count = 0


class GaugeTally:
    """Is what it was set to last."""

    def __init__(self, metric: Gauge) -> None:
        self._metric = metric
        self.value = 0.0

    def publish(self) -> None:
        """Hand over the value."""
        self._metric.set(self.value)


class HistogramTally:
    """Counts values by bucket."""

    def __init__(self, *metrics: Histogram) -> None:
        self._metrics = metrics
        self._bounds = metrics[0]._upper_bounds  # noqa: SLF001 - a histogram has no public way to take several at once
        self._counts = [0] * len(self._bounds)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count a value; a bound belongs to the bucket below it."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def publish(self) -> None:
        """Hand over what has been counted since the last time."""
        for metric in self._metrics:
            for bucket, count in zip(metric._buckets, self._counts, strict=True):  # noqa: SLF001
                if count:
                    bucket.inc(count)
            metric._sum.inc(self._sum)  # noqa: SLF001
        self._counts = [0] * len(self._bounds)
        self._sum = 0.0


SCORING = ("/predict", "/predict/features", "/predict/batch")
KNOWN = {*SCORING, "/", "/docs.json", "/model/info", "/drift", "/health", "/livez", "/readyz", "/healthz"}
"""The paths that are endpoint labels of their own. /metrics is not measured."""

OTHER = "other"
"""The endpoint label of every other path."""

_NAMESPACE = "bentoml_service"
_SERVICE = ("service_name", "service_version", "runner_name")


class Traffic:
    """Counts requests by endpoint and status, measures how long they take, and how single ones are batched.

    Parameters
    ----------
    buckets : upper bounds of the durations, in seconds
    """

    def __init__(self, buckets: Sequence[float], *, registry: CollectorRegistry = REGISTRY) -> None:
        context = bentoml.server_context
        self.service = (context.bento_name, context.bento_version, str(context.service_name))
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
        self._endpoints: dict[str, Endpoint] = {}
        for path in SCORING:
            for status in ("200", "500"):
                self.total.labels(path, *self.service, status)  # so that a rate has a start
                self.requests.labels(path, status)

    def begin(self, path: str) -> Endpoint:
        """Note a request to the path; its endpoint is to be told of the end."""
        endpoint = self._endpoints.get(path) or self._endpoint(path if path in KNOWN else OTHER)
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
        """Note a batch: how many rows it has, and how long its first one waited, in seconds."""
        self._rows.observe(rows)
        self._waited.observe(waited)


class Endpoint:
    """The metrics of one endpoint."""

    def __init__(self, traffic: Traffic, label: str) -> None:
        self.in_progress = traffic.tallies.gauge(traffic.in_progress.labels(label, *traffic.service))
        self._traffic = traffic
        self._label = label
        self._answered: dict[int, tuple[CounterTally, HistogramTally]] = {}

    def shed(self) -> None:
        """Note that a request was refused for want of room."""
        self._shed.inc()

    @cached_property
    def _shed(self) -> CounterTally:
        return self._traffic.tallies.counter(self._traffic.shed.labels(self._label))

    def end(self, status: int | None, seconds: float) -> None:
        """Note that a request ended; `status` is None where nothing was answered."""
        self.in_progress.value -= 1
        if status is not None:
            total, duration = self._answered.get(status) or self._with(status)
            total.inc()
            duration.observe(seconds)
            self._traffic.tallies.touch()

    def _with(self, status: int) -> tuple[CounterTally, HistogramTally]:
        traffic, labels = self._traffic, (self._label, *self._traffic.service, str(status))
        total = traffic.tallies.counter(
            traffic.total.labels(*labels), traffic.requests.labels(self._label, str(status))
        )
        duration = traffic.tallies.histogram(traffic.duration.labels(*labels), traffic.response.labels(self._label))
        return self._answered.setdefault(status, (total, duration))


class Exposition:
    """The metrics of all workers in Prometheus' text format, and those that are computed for the occasion.

    What cannot be had is left out and counted: the rest is told.

    Parameters
    ----------
    directory : where the workers of this service keep their metrics; None where there is one worker
    """

    def __init__(self, directory: str | None, *, registry: CollectorRegistry = REGISTRY) -> None:
        self._directory = directory
        self._registry = registry
        self._heartbeat = Heartbeat("metrics", periodic=False, registry=registry)

    def text(self, *computed: Collector) -> bytes:
        """The metrics as they are now."""
        kept = self._registry if self._directory is None else _Workers(Path(self._directory), self._heartbeat)
        return b"".join(self._told(collector) for collector in (kept, *computed))

    def _told(self, collector: Collector) -> bytes:
        with self._heartbeat.guarded():
            if isinstance(collector, CollectorRegistry):
                return generate_latest(collector)
            asked = CollectorRegistry()
            asked.register(collector)
            return generate_latest(asked)
        return b""

    def fault(self) -> str | None:
        """Why what this worker counts cannot be seen; None if it can."""
        if self._directory is None or Path(self._directory, f"counter_{os.getpid()}.db").exists():
            return None
        return "the files of its metrics are gone"


class _Workers(Collector):
    """The metrics that workers keep in files, but for files that are none."""

    def __init__(self, directory: Path, heartbeat: Heartbeat) -> None:
        self._directory = directory
        self._heartbeat = heartbeat

    def collect(self) -> Iterator[Metric]:
        for file in self._directory.glob("gauge_live*_*.db"):
            pid = file.stem.rpartition("_")[2]
            if pid.isdecimal() and not _alive(int(pid)):  # it was killed, so that what it was doing will not end
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
