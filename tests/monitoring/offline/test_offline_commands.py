"""`python -m monitoring drift|performance|fairness|report` on a decision log."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from sklearn.metrics import brier_score_loss, roc_auc_score

from benchmarks.decisions import OUTCOMES
from monitoring.cli import main
from monitoring.drift import Window, judge
from monitoring.performance import estimate
from monitoring.report import drift_section
from monitoring.settings import MonitoringSettings
from scoring import DriftReference, StoredModel, category_bins, quantile_bins
from tests.monitoring.offline.conftest import KEY
from tests.server import ROOT

Said = pytest.CaptureFixture[str]

COLOURS = {"red": ("50.0", "50.0"), "blue": ("50.0", "25.0"), "unseen": ("0.0", "25.0")}
"""Shares of the reference and of the window."""


@pytest.fixture
def command(log: Path, stored: StoredModel, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("DECISION_LOG_KEY", KEY)
    settings = str(ROOT / "configs" / "monitoring.yaml")
    return ["--log", str(log), "--model", f"{stored.name}:{stored.version}", "--settings", settings]


def decided(log: Path) -> pa.Table:
    return pa.concat_tables([parquet.read_table(path) for path in sorted((log / "closed").glob("*.parquet"))])


def written(path: Path, **columns: list[object]) -> str:
    parquet.write_table(pa.table(columns), path)
    return str(path)


def test_a_log_without_drift_raises_no_alarm(command: list[str], tmp_path: Path, capsys: Said) -> None:
    assert main(["drift", *command, "--json", str(tmp_path / "drift.json")]) == 0
    assert capsys.readouterr().out.splitlines()[:2] == ["3,000 applications against 3,000 of the reference", "no alarm"]
    assert json.loads((tmp_path / "drift.json").read_text())["alarm"] is False


def test_a_time_without_decisions_is_an_error(command: list[str], log: Path, capsys: Said) -> None:
    assert main(["drift", *command, "--until", "2025-01-01"]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == f"error: {log}: no decision of this model and time"


def test_realised_performance_is_that_of_the_joined_rows(command: list[str], log: Path, tmp_path: Path) -> None:
    output = tmp_path / "performance.json"
    outcomes = parquet.read_table(log / OUTCOMES)["outcome"].to_numpy()
    main(["performance", *command, "--outcomes", str(log / OUTCOMES), "--json", str(output)])
    found = json.loads(output.read_text())
    probability = decided(log)["probability"].to_numpy()
    estimates = found["realised"]["estimates"]
    assert (found["realised"]["rows"], found["realised"]["defaults"]) == (3_000, int(outcomes.sum()))
    assert estimates["auc"]["value"] == pytest.approx(roc_auc_score(outcomes, probability), abs=1e-9)
    assert estimates["brier"]["value"] == pytest.approx(brier_score_loss(outcomes, probability), abs=1e-9)
    assert estimates["auc"]["low"] < estimates["auc"]["value"] < estimates["auc"]["high"]
    assert sum(level["rows"] for level in found["realised"]["levels"]) == 3_000
    assert found["realised"]["accepted_only"] is False


def test_what_does_not_match_is_counted(command: list[str], tmp_path: Path) -> None:
    clients = [*map(str, range(1_000)), "0", "1", "nobody", "1002"]
    bad = [int(i % 3 == 0) for i in range(1_000)]
    outcomes = written(tmp_path / "o.parquet", client_id=clients, outcome=[*bad, bad[0], 1 - bad[1], 0, None])
    main(["performance", *command, "--outcomes", outcomes, "--json", str(tmp_path / "p.json")])
    assert json.loads((tmp_path / "p.json").read_text())["counts"] == {
        "outcome rows": 1_004,
        "not matured yet": 1,
        "doubled or contradictory": 3,  # client 0 agrees with itself and counts once, client 1 does not count at all
        "of no decision in the log": 1,
        "decisions without a known outcome": 2_001,
        "earlier decisions of the same client": 0,
    }


def test_outcomes_of_the_accepted_alone_are_called_so(
    command: list[str], log: Path, tmp_path: Path, capsys: Said
) -> None:
    rows = decided(log).select(["request_id", "decision"]).to_pylist()
    chosen = [row["request_id"] for row in rows if row["decision"] != "decline"]
    outcomes = written(
        tmp_path / "o.parquet", request_id=chosen, outcome=[int(i % 12 == 0) for i in range(len(chosen))]
    )
    main(["performance", *command, "--outcomes", outcomes])
    assert "ACCEPT-ONLY BIAS" in capsys.readouterr().out


@pytest.mark.parametrize(("noise", "code"), [(50.0, 3), (0.0, 0)])
def test_the_alarm_goes_off_only_below_the_floor(
    command: list[str], log: Path, tmp_path: Path, noise: float, code: int
) -> None:
    table = decided(log)
    worst = np.argsort(table["probability"].to_numpy() + np.random.default_rng(1).normal(0, noise, table.num_rows))[
        -300:
    ]
    outcomes = np.zeros(table.num_rows, dtype=np.int8)
    outcomes[worst] = 1
    file = written(tmp_path / "o.parquet", request_id=table["request_id"].to_pylist(), outcome=outcomes.tolist())
    assert main(["performance", *command, "--outcomes", file]) == code


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        ({"client_id": ["1"]}, "column missing: outcome"),
        ({"outcome": [1]}, "needs exactly one of the columns client_id and request_id"),
        ({"client_id": ["1"], "outcome": [2]}, "outcome is 1, 0 or empty"),
        ({"client_id": ["1", None], "outcome": [1, 0]}, "client_id is missing in 1 rows"),
    ],
)
def test_outcomes_that_are_not_as_stated_are_one_line(
    command: list[str], tmp_path: Path, capsys: Said, columns: dict[str, list[object]], line: str
) -> None:
    path = written(tmp_path / "o.parquet", **columns)
    assert main(["performance", *command, "--outcomes", path, "--json", str(tmp_path / "p.json")]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == f"error: {path}: {line}"
    assert not (tmp_path / "p.json").exists()


def test_the_estimate_is_what_outcomes_drawn_by_the_pds_come_to(rules: MonitoringSettings) -> None:
    random = np.random.default_rng(2)
    probability = random.beta(1, 8, 2_000)
    drawn = [roc_auc_score(random.random(2_000) < probability, probability) for _ in range(400)]
    found = estimate(probability, rules.performance)
    assert found.auc.value == pytest.approx(np.mean(drawn), abs=0.003)
    assert (found.auc.low, found.auc.high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=0.01)
    assert found.default_rate.value == pytest.approx(probability.mean())


def test_a_group_that_is_approved_less_is_signalled(
    command: list[str], log: Path, tmp_path: Path, capsys: Said
) -> None:
    table = decided(log)
    low = [
        "b" if decision == "decline" or i % 4 == 0 else "a" for i, decision in enumerate(table["decision"].to_pylist())
    ]
    protected = written(tmp_path / "g.parquet", request_id=table["request_id"].to_pylist(), group=low)
    assert main(["fairness", *command, "--protected", protected, "--json", str(tmp_path / "f.json")]) == 0
    (found,) = json.loads((tmp_path / "f.json").read_text())["attributes"]
    groups = {group["name"]: group for group in found["groups"]}
    assert groups["b"]["impact"]["value"] == pytest.approx(
        (groups["b"]["approved"] / groups["b"]["rows"]) / (groups["a"]["approved"] / groups["a"]["rows"])
    )
    assert len(found["signals"]) == 1
    assert found["true_positive_gap"] is None
    assert "\ngroup\n" in capsys.readouterr().out  # without outcomes nothing is said of what needs them


def test_the_report_is_one_file_that_needs_no_network(command: list[str], log: Path, tmp_path: Path) -> None:
    table = decided(log)
    groups = ["a" if i % 2 else "b" for i in range(table.num_rows)]
    protected = written(tmp_path / "g.parquet", client_id=table["request_id"].to_pylist(), group=groups)
    page = tmp_path / "report.html"
    more = ["--outcomes", str(log / OUTCOMES), "--protected", protected, "--output", str(page)]
    assert main(["report", *command, *more]) == 0
    html = page.read_text()
    for heading in ("<h2>Drift</h2>", "<h2>Performance</h2>", "<h2>Fairness</h2>"):
        assert html.count(heading) == 1
    assert "http" not in html.replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert "<script" not in html
    first, last = (f"{end:%Y-%m-%d %H:%M}" for end in (min(table["time"].to_pylist()), max(table["time"].to_pylist())))
    assert f"decisions from {first} to {last};" in html


def test_the_charts_of_the_report_name_the_levels_of_a_category(rules: MonitoringSettings) -> None:
    codes, pds = np.arange(1_000.0) % 2, np.linspace(0.01, 0.5, 1_000)
    bins = {"COLOUR": category_bins(codes, 2)}
    reference = DriftReference(bins, quantile_bins(pds, 10), {"COLOUR": 1.0}, len(codes))
    window = Window.of(reference, np.repeat([[0.0], [0.0], [1.0], [2.0]], 100, axis=0), pds[:400])
    section = drift_section(judge(reference, window, rules.drift), reference, window, {"COLOUR": ("red", "blue")})
    charted = re.findall(r"<title>(red|blue|unseen|missing): ([\d.]+)%", "".join(section))
    assert charted == [(name, share) for name, both in COLOURS.items() for share in both]


def test_client_ids_that_match_nothing_make_one_think_of_the_key(
    command: list[str], tmp_path: Path, capsys: Said
) -> None:
    outcomes = written(tmp_path / "o.parquet", client_id=["nobody"], outcome=[1])
    assert main(["performance", *command, "--outcomes", outcomes]) == 1
    assert capsys.readouterr().err.endswith("; is DECISION_LOG_KEY the key that the log was written with?\n")
