"""A service whose model reads histories, and a feature store for it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from prometheus_client import CollectorRegistry

from decision_log.reader import DecisionLogReader
from features.materialize import materialize, roll_up_clients
from jobs.commandline import Progress
from scoring.store import StoredModel
from serving.histories import ClientHistories
from serving.request_metrics import Traffic
from serving.schemas import Requests
from serving.settings import HistorySettings
from tests.features.histories import CREDITS, LENDER, MONTHS, write_histories
from tests.scoring.history_models import NAMES, model
from tests.serving.test_engine import SERVING, Service

NOW = datetime(2026, 11, 29, tzinfo=UTC)
INCOME = {"income": 2000.0}
ARROW = "application/vnd.apache.arrow.stream"
JSON = "application/json"


def history(client: str) -> dict[str, list[dict[str, Any]]]:
    """The rows of a client, as a request states them."""
    rows = [dict(zip(CREDITS, row, strict=True)) for row in zip(*CREDITS.values(), strict=True)]
    mine = [row for row in rows if row.pop("client") == client]
    months = [dict(zip(MONTHS, row, strict=True)) for row in zip(*MONTHS.values(), strict=True)]
    names = {row["credit"] for row in mine}
    return {"credits": mine, "months": [row for row in months if row["credit"] in names]}


@dataclass
class Asked:
    """A service whose clock stands still, and its metrics."""

    service: Service
    registry: CollectorRegistry

    def post(self, path: str, body: object, media_type: str = JSON) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": media_type, "Accept": JSON}
        return asyncio.run(self.service.send(path, content, headers))

    def predict(self, **parts: object) -> httpx.Response:
        return self.post("/predict", {"application": INCOME, **parts})

    def roll_ups(self) -> list[dict[str, float | None]]:
        """Those of the recorded decisions."""
        columns = [f"feature_{name}" for name in NAMES]
        rows = [row for table in DecisionLogReader(self.service.folder).tables(columns) for row in table.to_pylist()]
        return [
            {name: None if np.isnan(row[f"feature_{name}"]) else row[f"feature_{name}"] for name in NAMES}
            for row in rows
        ]

    def recorded(self) -> list[str | None]:
        tables = DecisionLogReader(self.service.folder).tables(["history"])
        return [source for table in tables for source in table["history"].to_pylist()]

    def counted(self, source: str) -> float | None:
        return self.registry.get_sample_value("credit_scoring_histories_total", {"source": source})


class Services:
    """Makes services, and closes them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: list[Service] = []

    def __call__(
        self, address: str | None = None, *, application_only: StoredModel | None = None, **settings: Any
    ) -> Asked:
        registry, requests = CollectorRegistry(), Requests(LENDER)
        chosen = HistorySettings.model_validate(SERVING.histories.model_dump() | settings)
        assert requests.histories is not None
        traffic = Traffic([0.1], registry=registry)
        histories = ClientHistories(
            LENDER, requests.histories, chosen, address, traffic, retry_after=1, clock=NOW.timestamp
        )
        service = Service(
            model(), self._folder / str(len(self._open)), {},
            histories=histories, traffic=traffic, application_only=application_only,
        )  # fmt: skip
        self._open.append(service)
        return Asked(service, registry)

    def close(self) -> None:
        for service in self._open:
            service.close()


def fill(address: str, folder: Path, as_of: datetime) -> None:
    data = write_histories(folder / "data")
    materialize(address, LENDER, roll_up_clients(data, LENDER, as_of, Progress(quiet=True)), as_of)
