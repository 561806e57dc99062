"""The bars, on figures that can be worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.bars import verdicts
from benchmarks.peer import FLOOR, SERVICE
from tests.benchmarks.examples import COMPARISON, SETTINGS, SOAK, comparison, load, measured, peer_result

MEASURED = {verdict.figure: verdict for verdict in verdicts(COMPARISON, SOAK, SETTINGS.bars)}


@pytest.mark.parametrize(
    ("figure", "value", "met"),
    [
        ("CPU per request, against FastAPI with this scorer", (400 / 500 + 440 / 400) / 2, True),
        ("CPU per request, against bare ASGI with this scorer", (400 / 200 + 440 / 200) / 2, False),
        ("CPU per application in batches of 100, against single requests", 0.1, True),
        ("model load, ms", 55.0, True),
        ("time until ready, against an empty BentoML service", 1.1, True),
        ("memory of the worker, against an empty BentoML service", 1.25, True),
        ("open-loop p99 at half of saturation, ms", 0.84, True),
        ("errors in the soak", 0, True),
        ("growth of memory over the soak", 0.01, True),
        ("p99 at the soak's end, against its start", 1.1, True),
    ],
)
def test_a_bar_is_judged_by_the_median_over_rounds(figure, value, met):
    assert MEASURED[figure].value == pytest.approx(value)
    assert MEASURED[figure].met is met


@pytest.mark.parametrize(
    "figure", ["CPU per request, against the original design", "CPU per request, against stock BentoML with the pyfunc"]
)
def test_a_bar_without_its_peer_is_not_judged(figure):
    assert MEASURED[figure].value is None
    assert MEASURED[figure].met is None


def test_without_a_soak_its_bars_are_not_judged():
    judged = {verdict.figure: verdict.met for verdict in verdicts(COMPARISON, None, SETTINGS.bars)}
    assert judged["errors in the soak"] is None
    assert judged["growth of memory over the soak"] is None


def test_a_cpu_ratio_is_that_at_the_worst_number_of_connections():
    ours = replace(measured(400.0), closed=(load(400.0), load(300.0, connections=64)))
    floor = replace(measured(400.0), closed=(load(400.0), load(100.0, connections=64)))
    found = verdicts(comparison(peer_result(SERVICE, ours), peer_result(FLOOR, floor)), None, SETTINGS.bars)
    assert {v.figure: v.value for v in found}["CPU per request, against bare ASGI with this scorer"] == 3.0
