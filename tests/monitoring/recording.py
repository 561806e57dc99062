"""What the tests of recording share: real recorders of the delivered model, and applications to record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from decision_log.format import Caller
from features.store import HistorySource
from monitoring.recorder import Recorder, open_recorder
from monitoring.settings import MonitoringSettings
from scoring.store import StoredModel
from tests.server import ROOT

KEY = "0123456789abcdef" * 4


def settings(recording: Mapping[str, Any] | None = None, log: Mapping[str, Any] | None = None) -> MonitoringSettings:
    """The project's settings with smaller segments, and some of those of recording and of the log changed."""
    loaded = MonitoringSettings.load(ROOT / "configs" / "monitoring.yaml").model_dump(mode="json")
    loaded["recording"] |= recording or {}
    loaded["recording"]["log"] |= {"segment_bytes": 1 << 20, **(log or {})}
    return MonitoringSettings.checked(loaded, Path("changed"))


class Worker:
    """A recorder with a registry of its own, told of applications drawn at random."""

    def __init__(
        self,
        model: StoredModel,
        counts: Path,
        log: Path | None = None,
        changed: MonitoringSettings | None = None,
        now: float = 1_000_000.0,
        *,
        with_reasons: bool = True,
    ) -> None:
        chosen = changed or settings()
        environment = {"PROMETHEUS_MULTIPROC_DIR": str(counts)}
        if log is not None:
            environment |= {"DECISION_LOG_DIR": str(log), "DECISION_LOG_KEY": KEY}
        self.model = model
        self.now = now
        self.registry = CollectorRegistry()
        self._open = partial(
            open_recorder,
            settings=chosen.recording,
            drift=chosen.drift,
            environment=environment,
            with_reasons=with_reasons,
            registry=self.registry,
            clock=lambda: self.now,
        )
        self.recorder: Recorder = self._open(model)
        self._random = np.random.default_rng(7)
        self._asked = 0

    def beside(self, model: StoredModel, variant: str) -> Recorder:
        """The recorder of another variant."""
        return self._open(model, variant=variant, beside=self.recorder)

    def record(
        self, rows: int, matrix: NDArray[np.float64] | None = None, histories: Sequence[HistorySource] | None = None
    ) -> NDArray[np.float64]:
        """Record so many applications of one request; their model matrix."""
        if matrix is None:
            matrix = self._random.normal(size=(rows, len(self.model.scorer.features)))
        sources = histories or [None] * rows
        names = f"request-{self._asked}", f"client-{self._asked}"
        callers = [Caller(*names, row, source) for row, source in enumerate(sources)]
        self._asked += 1
        self.recorder.record("/predict", callers, matrix, self.model.scorer.score_matrix(matrix))
        return matrix

    def value(self, name: str, **labels: str) -> float | None:
        """A counter."""
        return self.registry.get_sample_value(f"credit_scoring_{name}", labels)

    def gauges(self) -> dict[str, dict[tuple[str, ...], float]]:
        """The computed metrics by name and label values."""
        found: dict[str, dict[tuple[str, ...], float]] = {}
        for metric in self.recorder.collect():
            name = metric.name.removeprefix("credit_scoring_")
            found[name] = {tuple(sample.labels.values()): sample.value for sample in metric.samples}
        return found
