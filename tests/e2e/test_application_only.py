"""A real service of two models: one reads histories, and one decides where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
import yaml

from decision_log.format import APPLICATION_ONLY, CHAMPION
from decision_log.reader import DecisionLogReader
from scoring.store import StoredModel, write_alias
from serving.schemas import ModelInfo
from tests.decision_log.models import kept
from tests.e2e.test_refused_starts import start
from tests.features.histories import FOLDER
from tests.monitoring.recording import KEY
from tests.portfolios.test_portfolio import artefact_of
from tests.scoring.history_models import second_artefact
from tests.server import ROOT, serve_with
from tests.serving.histories import fill

NAME = "lender_of_two_models"
ITEMS = [{"application": {"income": 2000.0}, "client_id": client} for client in ("anna", "nobody")]
SETTINGS = {"without": APPLICATION_ONLY, "model": f"{NAME}:application_only"}


@pytest.fixture(scope="module")
def models() -> Iterator[list[StoredModel]]:
    """The champion, and the model of the application alone that the alias names."""
    with ExitStack() as stack:
        second = stack.enter_context(kept(NAME, second_artefact(), version="2"))
        champion = stack.enter_context(kept(NAME, artefact_of(FOLDER), version="1"))
        write_alias(NAME, "application_only", second.version)
        yield [champion, second]


def test_each_model_decides_on_its_own_applications(models: list[StoredModel], tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path}/features.sqlite"
    fill(address, tmp_path, datetime.now(UTC))
    environment = {"FEATURE_STORE": address, "DECISION_LOG_DIR": str(tmp_path / "log"), "DECISION_LOG_KEY": KEY}
    with (
        serve_with(tmp_path, {"model": NAME, "histories": SETTINGS}, environment) as server,
        httpx.Client(base_url=server.url, timeout=600) as http,
    ):
        single = [http.post("/predict", json=item).json() for item in ITEMS]
        results = http.post("/predict/batch", json={"applications": ITEMS}).json()["results"]
        explained = [http.post("/explain", json=item).json() for item in ITEMS]
        info = ModelInfo.model_validate_json(http.get("/model/info").content)
        metrics = http.get("/metrics").text
    versions = [one.version for one in models]
    for answers in (single, results, explained):
        assert [one["history"] for one in answers] == ["store", "missing"]
        assert [one["model_version"] for one in answers] == versions
        assert [one["probability"] for one in answers] == [one["probability"] for one in single]
    assert info.histories == ["credits"]
    assert [(one.name, one.version, one.state) for one in info.variants] == [
        (CHAMPION, versions[0], "decides"),
        (APPLICATION_ONLY, versions[1], "decides"),
    ]
    assert all(f'model_version="{version}"' in metrics for version in versions)
    names = ["variant", "model_version", "history"]
    tables = DecisionLogReader(tmp_path / "log").tables(names)
    rows = sorted(row for table in tables for row in zip(*table.select(names).to_pydict().values(), strict=True))
    assert rows == [(APPLICATION_ONLY, versions[1], "missing")] * 3 + [(CHAMPION, versions[0], "store")] * 3


@pytest.mark.usefixtures("models")
def test_a_second_model_that_reads_histories_is_refused_in_one_line(tmp_path: Path) -> None:
    written = yaml.safe_load((ROOT / "configs" / "serving.yaml").read_text())
    written |= {"model": NAME, "histories": written["histories"] | SETTINGS | {"model": f"{NAME}:latest"}}
    (tmp_path / "serving.yaml").write_text(yaml.safe_dump(written))
    code, errors = start(CREDIT_SCORING_SETTINGS=str(tmp_path / "serving.yaml"))
    assert (code, "Traceback" in errors) == (1, False)
    said = f"histories.model: {NAME}:latest cannot decide without a history: it reads the histories credits"
    assert errors.splitlines()[-1].endswith(said)
