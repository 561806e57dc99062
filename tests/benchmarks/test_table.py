"""The tables, cell by cell."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.bars import verdicts
from benchmarks.peer import FASTAPI, FLOOR, SERVICE
from benchmarks.table import bars, batches_and_start, by_cpu, document, single_requests
from tests.benchmarks.examples import COMPARISON, SETTINGS, SOAK, comparison, load, measured, peer_result


def cells(table: str) -> list[list[str]]:
    return [line.strip("| ").split(" | ") for line in table.splitlines()]


def test_the_cheapest_peer_comes_first_whoever_it_is():
    assert [peer.name for peer in by_cpu(COMPARISON.peers)] == [FLOOR.name, SERVICE.name, FASTAPI.name]


def test_a_peer_is_shown_with_its_medians_and_their_range():
    service = cells(single_requests(COMPARISON.peers[:1]))[2]
    assert service == [
        "this service",
        "420 [400, 440] / 210 [200, 220]",
        "2,386 [2,273, 2,500] / 4,773 [4,545, 5,000]",
        "0.42 / 0.21",
        "0.84 / 0.42",
        "0.84 (2,386)",
        "0",
    ]


def test_errors_of_every_window_are_added_up():
    failing = replace(measured(400.0), closed=(replace(load(400.0), errors=2),), open=replace(load(400.0), errors=3))
    assert cells(single_requests([peer_result(SERVICE, failing, failing)]))[2][-1] == "10"


def test_a_server_without_a_model_has_a_start_and_memory_only():
    assert cells(batches_and_start(COMPARISON.peers))[-1] == [
        "empty BentoML service", "-", "2.00 [2.00, 2.00]", "-", "160 (80.0)",
    ]  # fmt: skip


def test_a_bar_that_is_missed_is_said_to_be():
    rows = {row[0]: row[1:] for row in cells(bars(verdicts(COMPARISON, SOAK, SETTINGS.bars)))}
    assert rows["CPU per request, against bare ASGI with this scorer"] == ["2.10", "2.00", "1.40", "**no**"]
    assert rows["errors in the soak"] == ["0", "0", "0", "yes"]
    assert rows["CPU per request, against the original design"] == ["-", "0.10", "0.050", "-"]


@pytest.mark.parametrize(
    ("concurrency", "said"),
    [
        (15.2, "Little's law holds within 5.0% in every closed window."),
        (12.0, "Little's law is off by more than 10% in a window of: this service."),
    ],
)
def test_littles_law_is_checked_in_every_closed_window(concurrency, said):
    round_ = replace(measured(400.0), closed=(load(400.0), load(400.0, connections=16, concurrency=concurrency)))
    text = document(comparison(peer_result(SERVICE, round_)), None, [], "chart.svg")
    assert said in text.splitlines()


def test_only_who_takes_tables_has_figures_of_them():
    takes = replace(measured(400.0), tables=(load(12.0, applications=1_000),))
    rows = cells(batches_and_start([peer_result(SERVICE, takes, takes), peer_result(FLOOR, measured(200.0))]))
    assert [row[2] for row in rows] == ["Arrow table of 1,000: the same", "---", "0.012 (12.0)", "-"]
    found = {
        row[0]: row[1] for row in cells(bars(verdicts(comparison(peer_result(SERVICE, takes)), None, SETTINGS.bars)))
    }
    assert found["CPU per application in Arrow tables of 1,000, µs"] == "12.0"


def test_the_circumstances_say_what_the_generator_took():
    late = replace(load(400.0), generator_cores=0.25, late_ms=0.5, held_back=3)
    text = document(comparison(peer_result(SERVICE, replace(measured(400.0), open=late))), None, [], "chart.svg")
    assert "The load generator kept at most 25% of one core busy.\n" in text
    assert "In the open loop 3 arrivals found no free connection, and 99% were sent within 0.50 ms." in text


@pytest.mark.parametrize(
    ("applications", "said"),
    [(1, "The request is one application of 120"), (2000, "one of 2,000 different applications, in turn, of 120")],
)
def test_the_circumstances_say_how_many_applications_are_asked_about(applications, said):
    asked = replace(COMPARISON, model=replace(COMPARISON.model, applications=applications))
    assert said in document(asked, None, [], "chart.svg")
