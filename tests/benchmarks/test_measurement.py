"""One whole round against the smallest peer, with a real server and real load."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from pydantic_core import to_json

from benchmarks.environment import Environment
from benchmarks.errors import BenchmarkError
from benchmarks.measurement import Bench, check_all, measure, started
from benchmarks.measurement import check as check_answers
from benchmarks.peer import FLOOR
from benchmarks.process import HOST
from benchmarks.request_format import DECISIONS
from benchmarks.results import Round
from benchmarks.store import Store
from benchmarks.workload import Workload, workload
from configs.portfolios.home_credit.generator.dataset import APPLICATIONS, synthesize
from decision_log.format import Caller
from features.request import Applications
from scoring.scorer import Scorer
from scoring.store import StoredModel
from serving.schemas import decisions
from serving.variants import told
from tests.benchmarks.examples import SETTINGS
from tests.home_credit import APPLICATION

QUICK = SETTINGS.model_copy(
    update={"seconds": 0.5, "warm_up_requests": 20, "connections": (1, 4), "applications": 60, "batches": (10,)}
)
HERE = Environment(Path(sys.prefix), {})


@pytest.fixture(scope="module")
def scorer(stored: StoredModel) -> Scorer:
    return stored.scorer


@pytest.fixture(scope="module")
def asked(scorer: Scorer, tmp_path_factory: pytest.TempPathFactory) -> Workload:
    data = tmp_path_factory.mktemp("data") / "generated"
    synthesize(data, clients=200, seed=5, file_format="parquet", tables=APPLICATIONS)
    return workload(data, scorer, 60)


@pytest.fixture(scope="module")
def bench(scorer: Scorer, asked: Workload, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp("bench")
    scorer.artefact.write(folder / "artefact")
    return Bench(QUICK, Store(folder), asked, {"ARTEFACT": str(folder / "artefact"), "MODEL_URI": ""})


@pytest.fixture(scope="module")
def measured(bench: Bench) -> Round:
    return measure(bench, FLOOR, HERE)


def test_every_declared_column_of_every_application_is_filled(asked):
    assert [set(application) for application in asked.applications] == [{c.name for c in APPLICATION.stated}] * 60
    assert all(value == value and value is not None for one in asked.applications for value in one.values())


def test_all_windows_are_measured_without_errors(measured):
    windows = [*measured.closed, measured.open, *measured.batches]
    assert [window.applications for window in windows] == [1, 1, 1, 10]
    assert [window.connections for window in measured.closed] == [1, 4]
    assert [window.errors for window in windows] == [0, 0, 0, 0]


def test_an_answer_takes_cpu_time_and_starting_comes_before_it(measured):
    assert all(window.cpu_us > 0 for window in measured.closed)
    assert 0 < measured.start.ready < measured.start.answered


def test_throughput_times_latency_is_the_number_of_connections(measured):
    assert measured.closed[0].concurrency == pytest.approx(1, rel=0.25)


def test_an_answer_that_is_not_the_scorers_is_an_error(bench, asked):
    spoilt = replace(bench, workload=Workload(asked.applications[:1], [asked.probabilities[0] + 1e-9]))
    with (
        pytest.raises(BenchmarkError, match=r"^asgi_floor: 1 of 1 probabilities are wrong$"),
        started(spoilt, FLOOR, HERE) as server,
    ):
        check_answers(spoilt, FLOOR, DECISIONS, server, spoilt.workload)


def test_an_application_far_behind_is_checked_too(bench, asked):
    spoilt = replace(bench, workload=Workload(asked.applications, [*asked.probabilities[:-1], 0.5]))
    with (
        pytest.raises(BenchmarkError, match=r"^asgi_floor: 1 of 10 probabilities are wrong$"),
        started(spoilt, FLOOR, HERE) as server,
    ):
        check_all(spoilt, FLOOR, DECISIONS, server)


def test_the_applications_of_the_load_differ(bench):
    bodies = [DECISIONS.encode(one.applications) for one in bench.workload.batches(1)]
    assert len(set(bodies)) == 60
    assert [len(batch) for batch in bench.workload.batches(10)] == [10] * 6


def test_applications_that_fill_no_batch_are_left_out(asked):
    assert [len(batch) for batch in asked.batches(40)] == [40]
    assert [len(batch) for batch in asked.batches(1_000)] == [60]


def test_the_floor_answers_what_predict_answers(bench, scorer, asked):
    with started(bench, FLOOR, HERE) as server:
        url = f"http://{HOST}:{server.port}{DECISIONS.batch}"
        given = httpx.post(url, content=DECISIONS.encode(asked.applications), trust_env=False).json()["results"]
    reader = Applications(scorer.artefact.portfolio)
    rows = [reader.model.model_validate(application) for application in asked.applications]
    version, cutoff = (bench.store.folder / "artefact").name, scorer.artefact.policy.cutoff
    texts = told(StoredModel("any", version, scorer), "en")
    callers = [Caller(answer["request_id"], str(number)) for number, answer in enumerate(given)]
    scores = scorer.score(reader.columns_of(rows))
    expected = decisions(scores, callers, model_version=version, threshold=cutoff, told=texts)
    for answer, wanted in zip(given, expected, strict=True):
        assert answer == json.loads(to_json(wanted)) | {"timestamp": answer["timestamp"]}
    assert any(answer["reasons"] for answer in given)
