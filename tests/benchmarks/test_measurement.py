"""One whole round against the smallest peer, with a real server and real load."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.environment import Environment
from benchmarks.errors import BenchmarkError
from benchmarks.measurement import Bench, measure, started
from benchmarks.measurement import check as check_answers
from benchmarks.peer import FLOOR
from benchmarks.request_format import DECISIONS
from benchmarks.results import Round
from benchmarks.store import Store
from benchmarks.workload import Workload, workload
from configs.portfolios.home_credit.generator.dataset import APPLICATIONS, synthesize
from scoring.scorer import Scorer
from scoring.store import StoredModel
from tests.benchmarks.examples import SETTINGS
from tests.home_credit import APPLICATION
from tests.skipped import needs

pytestmark = needs("h2load")

QUICK = SETTINGS.model_copy(update={"seconds": 0.5, "warm_up_requests": 20, "connections": (1, 4), "batches": (10,)})
HERE = Environment(Path(sys.prefix), {})


@pytest.fixture(scope="module")
def scorer(stored: StoredModel) -> Scorer:
    return stored.scorer


@pytest.fixture(scope="module")
def asked(scorer: Scorer, tmp_path_factory: pytest.TempPathFactory) -> Workload:
    data = tmp_path_factory.mktemp("data") / "generated"
    synthesize(data, clients=200, seed=5, file_format="parquet", tables=APPLICATIONS)
    return workload(data, scorer, 10)


@pytest.fixture(scope="module")
def bench(scorer: Scorer, asked: Workload, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp("bench")
    scorer.artefact.write(folder / "artefact")
    return Bench(QUICK, Store(folder), asked, {"ARTEFACT": str(folder / "artefact"), "MODEL_URI": ""})


@pytest.fixture(scope="module")
def measured(bench: Bench) -> Round:
    return measure(bench, FLOOR, HERE)


def test_every_declared_column_of_every_application_is_filled(asked):
    assert [set(application) for application in asked.applications] == [{c.name for c in APPLICATION}] * 10
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
    spoilt = replace(bench, workload=Workload(asked.applications, [asked.probabilities[0] + 1e-9]))
    with (
        pytest.raises(BenchmarkError, match=r"^asgi_floor: 1 of 1 probabilities are wrong$"),
        started(spoilt, FLOOR, HERE) as server,
    ):
        check_answers(spoilt, FLOOR, DECISIONS, server, sizes=(1,))
