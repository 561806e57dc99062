"""Opening the recorder of a worker where the environment says."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from weakref import finalize

from prometheus_client import REGISTRY, CollectorRegistry

from features import Heartbeat
from monitoring.decision import ClientHash, Header
from monitoring.drift import DriftSettings
from monitoring.segments import WorkerId
from scoring import StoredModel

from .board import Board
from .checks import load_checks
from .journal import Journal
from .key import client_hash
from .log import Failure, make_folders
from .metrics import DecisionMetrics
from .recorder import Recorder
from .settings import LogSettings, RecordingSettings
from .windows import Windows

LOG_VARIABLE = "DECISION_LOG_DIR"
_SHARED = "PROMETHEUS_MULTIPROC_DIR"
"""What the workers of one service share; BentoML empties it when the service starts."""


def check_recording(settings: RecordingSettings, environment: Mapping[str, str]) -> None:
    """DecisionLogError or CheckError where `open_recorder` would raise it; the folders of the log are made."""
    load_checks(settings.checks)
    directory = environment.get(LOG_VARIABLE)
    if directory:
        _hash(settings.log, environment)
        make_folders(Path(directory))


def open_recorder(
    model: StoredModel,
    settings: RecordingSettings,
    drift: DriftSettings,
    environment: Mapping[str, str],
    *,
    clock: Callable[[], float] = time.time,
    registry: CollectorRegistry = REGISTRY,
) -> Recorder:
    """The recorder of this worker; DecisionLogError or CheckError if something of it cannot be had."""
    worker, header = WorkerId.this(), Header.of(model)
    checks = load_checks(settings.checks)
    metrics = DecisionMetrics(model.version, settings.probability_buckets, list(checks), registry=registry)
    journal = _journal(worker, header, settings.log, environment, metrics, registry)
    own = None if _SHARED in environment else tempfile.TemporaryDirectory(prefix="credit-scoring-counts-")
    directory = Path(own.name if own else environment[_SHARED]) / f"counts-{header.digest[:12]}"
    board = Board(
        directory,
        worker,
        model.scorer.artefact.reference,
        log=Path(environment[LOG_VARIABLE]) if journal else None,
        days=settings.default_rate_days,
    )
    windows = Windows(directory, board, settings.window, drift, checks, metrics.check_failed, clock=clock)
    recorder = Recorder(header, metrics, board, windows, journal, clock=clock, registry=registry)
    if own is not None:
        finalize(recorder, own.cleanup)
    return recorder


def _journal(
    worker: WorkerId,
    header: Header,
    settings: LogSettings,
    environment: Mapping[str, str],
    metrics: DecisionMetrics,
    registry: CollectorRegistry,
) -> Journal | None:
    """The decision log, if the environment names a directory for it."""
    directory = environment.get(LOG_VARIABLE)
    if not directory:
        return None
    return Journal(
        Path(directory),
        worker,
        header,
        settings,
        _hash(settings, environment),
        lost=lambda lines: metrics.failed(Failure.REMOVED, lines),
        heartbeat=Heartbeat("decision-log", registry=registry),
    )


def _hash(settings: LogSettings, environment: Mapping[str, str]) -> ClientHash | None:
    return client_hash(environment) if settings.hash_clients else None
