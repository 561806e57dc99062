"""Pods and cost from measured figures."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.results import Comparison
from deploy.capacity.__main__ import main
from deploy.capacity.page import section
from deploy.capacity.plan import Demand, plan, pod_load
from deploy.capacity.settings import CapacitySettings

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = CapacitySettings.load(ROOT / "configs" / "capacity.yaml")
ROUND = CapacitySettings.model_validate(
    {
        "pod": {"cores": 1.0, "memory_gb": 2.0},
        "utilisation": 0.5,
        "pods": {"min": 2, "max": 4},
        "loads": (1.0,),
        "prices": {
            "source": "none",
            "as_of": "2026-01",
            "core_hour": 1.0,
            "gb_hour": 0.5,
            "balancer_hour": 4.0,
            "balancer_unit_hour": 10.0,
        },
    }
)
MILLISECOND = Demand(cpu_us=1000.0, request_bytes=1000)


def test_a_pod_answers_what_its_utilisation_leaves_it() -> None:
    assert pod_load(MILLISECOND, ROUND) == 500.0


@pytest.mark.parametrize(("load", "pods"), [(1, 2), (500, 2), (1000, 3), (1500, 3), (1501, 4), (5000, 10)])
def test_pods_hold_the_utilisation_and_bear_the_loss_of_one(load: float, pods: int) -> None:
    assert plan(load, MILLISECOND, ROUND).pods == pods


def test_the_cost_is_of_pods_balancer_and_bytes() -> None:
    # 1,000 a second: three pods of 2 USD, 4 USD of balancer, 3.6 GB of 10 USD; 3.6 million decisions an hour
    assert plan(1000, MILLISECOND, ROUND).usd_per_million == pytest.approx((3 * 2 + 4 + 36) / 3.6)


@given(st.floats(min_value=0.1, max_value=1e5), st.floats(min_value=10, max_value=1e5))
def test_no_plan_is_above_its_utilisation_nor_saturated_when_a_pod_is_lost(load: float, cpu_us: float) -> None:
    planned = plan(load, Demand(cpu_us, 1000), ROUND)
    assert planned.utilisation <= ROUND.utilisation + 1e-6
    assert planned.without_one < 1
    assert planned.pods >= ROUND.pods.min
    assert math.isclose(planned.utilisation * planned.pods, planned.without_one * (planned.pods - 1))


def test_the_page_is_what_the_results_make_it() -> None:
    page = (ROOT / "docs" / "how-to" / "capacity.md").read_text()
    made = section(Comparison.read(ROOT / "benchmarks" / "results" / "comparison.json"), SETTINGS)
    assert f"<!-- capacity -->\n{made}\n<!-- /capacity -->" in page


def test_a_page_without_marks_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing\n")
    assert main(["--page", str(page)]) == 1
    assert capsys.readouterr().err == f"error: {page}: no lines <!-- capacity --> and <!-- /capacity -->\n"
    assert page.read_text() == "nothing\n"


def test_results_that_are_none_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--comparison", str(tmp_path / "none.json")]) == 1
    assert capsys.readouterr().err == f"error: {tmp_path}/none.json: cannot be read (No such file or directory)\n"
