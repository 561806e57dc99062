"""`python -m monitoring drift|performance|fairness|report` on a decision log."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet
from sklearn.metrics import brier_score_loss, roc_auc_score

from benchmarks.decisions import OUTCOMES
from decision_log.closed_segments import write_segment
from decision_log.format import ClientHash
from decision_log.overrides import OverrideRecord
from decision_log.reader import DecisionLogReader
from monitoring.cli import main
from monitoring.drift import judge
from monitoring.fairness import FairnessScreening, GroupRates, read_protected
from monitoring.measures import Estimate, share_estimate
from monitoring.outcomes import Outcomes, client_keys, match, read_outcomes
from monitoring.performance import Performance
from monitoring.realised import estimate
from monitoring.report import drift_charts, monitoring_report
from monitoring.settings import MonitoringSettings
from scoring.drift_reference import DriftReference, Window, category_bins, quantile_bins
from scoring.policy import DecisionKind
from scoring.scorer import Scorer
from scoring.store import StoredModel
from tests.monitoring.offline.conftest import KEY
from tests.server import ROOT

Said = pytest.CaptureFixture[str]

COLOURS = {"&lt;red&gt;": ("50.0", "50.0"), "blue": ("50.0", "25.0"), "unseen": ("0.0", "25.0")}
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


def test_overrides_are_told_by_direction(command: list[str], log: Path, tmp_path: Path, capsys: Said) -> None:
    copied = tmp_path / "log"
    shutil.copytree(log, copied)
    record = OverrideRecord(
        "r", 0, "2026-02-02T12:00:00.000000Z", "anna", DecisionKind.REFER, DecisionKind.APPROVE, "x"
    )
    again = replace(record, was=DecisionKind.DECLINE)
    (copied / "overrides" / "open").mkdir(parents=True)
    segment = copied / "overrides" / "open" / "20260202T120000000000Z-host-1-0.jsonl"
    segment.write_bytes(record.line() + again.line() + record.line())
    said = "  persons have overridden 1 from decline to approve, 2 from refer to approve"
    for folder, expected in ((copied, 1), (log, 0)):
        main(["performance", *command, "--log", str(folder)])
        assert capsys.readouterr().out.count(f"{said}; these figures are of the model's decisions\n") == expected


def test_a_log_without_drift_raises_no_alarm(command: list[str], tmp_path: Path, capsys: Said) -> None:
    assert main(["drift", *command, "--json", str(tmp_path / "drift.json")]) == 0
    assert capsys.readouterr().out.splitlines()[:2] == ["3,000 applications against 3,000 of the reference", "no alarm"]
    assert json.loads((tmp_path / "drift.json").read_text())["alarm"] is False


def test_a_time_without_decisions_is_an_error(command: list[str], log: Path, capsys: Said) -> None:
    assert main(["drift", *command, "--until", "2025-01-01"]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == f"error: {log}: no decision of this model and time"


def test_columns_of_a_file_that_are_not_declared_or_hold_nothing_are_named(
    command: list[str], generated: Path, tmp_path: Path, capsys: Said
) -> None:
    table = csv.read_csv(generated / "application_train.csv")
    for name in ("EXT_SOURCE_1", "OCCUPATION_TYPE"):
        place = table.schema.get_field_index(name)
        table = table.set_column(place, name, pa.nulls(len(table), table.schema.field(place).type))
    table = table.append_column("request_id", pa.array(["r"] * len(table))).append_column(
        "AMT_INCOME", table["AMT_CREDIT"]
    )
    parquet.write_table(table, tmp_path / "current.parquet")
    assert main(["drift", *command[2:], "--current", str(tmp_path / "current.parquet")]) == 3
    said = capsys.readouterr().out.splitlines()
    assert [line for line in said if "current.parquet" in line] == [
        f"{tmp_path / 'current.parquet'}: missing in every row: OCCUPATION_TYPE, EXT_SOURCE_1",
        f"{tmp_path / 'current.parquet'}: not declared and ignored: AMT_INCOME",
    ]


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
        "of several decisions under one request_id": 0,
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
        ({"client_id": ["1"], "outcome": [2]}, "outcome: must be 1, 0, true, false or empty (1 row: 1)"),
        ({"client_id": ["1", None], "outcome": [1, 0]}, "client_id: is missing (1 row: 2)"),
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


def test_the_charts_of_the_report_name_the_levels_of_a_category_and_escape_them(rules: MonitoringSettings) -> None:
    codes, pds = np.arange(1_000.0) % 2, np.linspace(0.01, 0.5, 1_000)
    bins = {"COLOUR": category_bins(codes, 2)}
    reference = DriftReference(bins, quantile_bins(pds, 10), {"COLOUR": 1.0}, len(codes))
    window = Window.of(reference, np.repeat([[0.0], [0.0], [1.0], [2.0]], 100, axis=0), pds[:400])
    judgement = judge(reference, window, rules.drift)
    charts = [*drift_charts(judgement, reference, window, {"COLOUR": ("<red>", "blue")})]
    performance = Performance(0.95, 0.6, estimate(pds, rules.performance), None, {}, ())
    page = monitoring_report("of a test", judgement, charts, performance, None)
    charted = re.findall(r"<title>(&lt;red&gt;|blue|unseen|missing): ([\d.]+)%", page)
    assert charted == [(name, share) for name, both in COLOURS.items() for share in both]
    assert "<red>" not in page
    assert "<h2>Fairness</h2>" not in page


def test_the_report_does_not_say_that_nothing_stands_out_where_nothing_was_screened(rules: MonitoringSettings) -> None:
    pds = np.linspace(0.01, 0.5, 400)
    codes = np.arange(400.0) % 2
    reference = DriftReference({"COLOUR": category_bins(codes, 2)}, quantile_bins(pds, 10), {"COLOUR": 1.0}, 400)
    judgement = judge(reference, Window.of(reference, codes[:, np.newaxis], pds), rules.drift)
    performance = Performance(0.95, 0.6, estimate(pds, rules.performance), None, {}, ())
    unknown = (None, 0, 0, None, None, None, None)
    women, men = (GroupRates(name, 9, 5, share_estimate(5, 9, 0.95), *unknown) for name in ("F", "M"))
    few = FairnessScreening("sex", (women, men), None, None, ())
    enough = replace(few, attribute="age", groups=(women, replace(men, impact=Estimate(1.0, 0.9, 1.1))))

    def said(*screenings: FairnessScreening) -> tuple[bool, bool]:
        page = monitoring_report("of a test", judgement, [], performance, screenings)
        return "No group stands out." in page, "Not screened, since fewer than two groups" in page

    assert (said(few), said(enough), said(few, enough)) == ((False, True), (True, False), (True, True))


def test_client_ids_that_match_nothing_make_one_think_of_the_key(
    command: list[str], tmp_path: Path, capsys: Said
) -> None:
    outcomes = written(tmp_path / "o.parquet", client_id=["nobody"], outcome=[1])
    assert main(["performance", *command, "--outcomes", outcomes]) == 1
    assert capsys.readouterr().err.endswith("; is DECISION_LOG_KEY the key that the log was written with?\n")


HEADED = "client_id,outcome\n"
LATE = "client_id,outcome,note\n" + "".join(f"z{i},0,{i % 9}\n" for i in range(300_000)) + "1,0,a note\n2,1,a note\n"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("client_id,outcome,outcome\n1,0,0\n", "column repeated: outcome"),
        ("client_id;outcome\n1;0\n", "is ';' its separator? A comma separates columns"),
        ("", "is empty"),
        (HEADED, "has no rows"),
        (HEADED + "1,0\n2\n", "row 2 has 1 of 2 fields"),
        (HEADED + "1,0\n ,1\n", "client_id: is missing (1 row: 2)"),
        (HEADED + "1,0\nNA,1\n", "client_id: is missing (1 row: 2)"),
        (HEADED + "1,0\n2,0.5\n3,yes\n", "outcome: must be 1, 0, true, false or empty (2 rows: 2, 3)"),
        (HEADED + "1,-1\n", "outcome: must be 1, 0, true, false or empty (1 row: 1)"),
        (HEADED + f"1,0\n{'x' * 65},0\n", "client_id: must be a text of 1 to 64 characters (1 row: 2)"),
        ("request_id,index,outcome\na,0,1\nb,,1\nc,x,1\n", "index: must be a whole number (2 rows: 2, 3)"),
        ("4711,4711\n1,1\n", "it has none of the expected columns: does its first line name the columns?"),
    ],
)
def test_an_outcomes_file_that_cannot_be_read_is_one_line(
    command: list[str], tmp_path: Path, capsys: Said, text: str, line: str
) -> None:
    path = tmp_path / "o.csv"
    path.write_text(text)
    assert main(["performance", *command, "--outcomes", str(path)]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == f"error: {path}: {line}"


def hashed() -> ClientHash:
    return ClientHash(bytes.fromhex(KEY))


@pytest.mark.parametrize("late", ["csv", "parquet"])
def test_the_forms_of_an_outcome_are_the_same_in_every_container(tmp_path: Path, late: str) -> None:
    texts = ["1", "0", "1.0", " 0 ", "true", "False", "TRUE", "1e0", "", "NA", "null", "nan"]
    path = tmp_path / f"o.{late}"
    if late == "csv":
        path.write_text(HEADED + "".join(f"c{i},{text}\n" for i, text in enumerate(texts)))
    else:
        written(path, client_id=[f"c{i}" for i in range(len(texts))], outcome=list(texts))
    found = read_outcomes(path, hashed())
    expected = np.array([1, 0, 1, 0, 1, 0, 1, 1])
    digests = np.frombuffer(b"".join(hashed().digest(f"c{i}") for i in range(8)), dtype=np.uint64).reshape(-1, 2)
    by_key = dict(zip(map(tuple, found.keys.tolist()), found.outcome.tolist(), strict=True))
    assert [by_key[tuple(key)] for key in digests.tolist()] == expected.tolist()
    assert (found.rows, found.immature) == (12, 4)


@pytest.mark.parametrize(
    "stored",
    [
        pa.array([True, False, None]),
        pa.array([1, 0, None], pa.int8()),
        pa.array([1.0, 0.0, float("nan")]),
        pa.array(["1", "false", "-nan"], pa.string_view()),
        pa.array(["true", "0", " "], pa.large_string()).dictionary_encode(),
        pa.array([1, 0, None]).cast(pa.decimal128(20, 0)),
    ],
    ids=lambda stored: str(stored.type),
)
def test_an_outcome_is_the_same_however_it_is_stored(tmp_path: Path, stored: pa.Array) -> None:
    parquet.write_table(pa.table({"client_id": pa.array([1.0, 2.0, 3.0]), "outcome": stored}), tmp_path / "o.parquet")
    (tmp_path / "o.csv").write_text(HEADED + "1,1\n2,0\n3,\n")
    found, expected = (read_outcomes(tmp_path / name, hashed()) for name in ("o.parquet", "o.csv"))
    assert found.keys.tobytes() == expected.keys.tobytes()
    assert (found.outcome.tolist(), found.immature) == (expected.outcome.tolist(), 1)


def test_a_column_that_nobody_asked_for_may_change_its_type(tmp_path: Path) -> None:
    (tmp_path / "o.csv").write_text(LATE)
    found = read_outcomes(tmp_path / "o.csv", hashed())
    assert (found.rows, int(found.outcome.sum())) == (300_002, 1)


def test_an_attribute_may_look_like_a_number_for_long(tmp_path: Path) -> None:
    bands = [f"p{i},{20 + i % 20}\n" for i in range(300_000)]
    (tmp_path / "g.csv").write_text("client_id,age\n" + "".join(bands) + "q,40+\n")
    assert set(read_protected(tmp_path / "g.csv", hashed()).groups["age"]) == {*map(str, range(20, 40)), "40+"}


@pytest.mark.parametrize("nothing", ["", " ", "NA", "null", "None", "<NA>", "nan"])
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_group_that_is_not_stated_is_called_so_in_every_container(tmp_path: Path, nothing: str, suffix: str) -> None:
    path = tmp_path / f"g.{suffix}"
    if suffix == "csv":
        path.write_text(f"client_id,sex\n1,F\n2,{nothing}\n3, F\n")
    else:
        written(path, client_id=["1", "2", "3"], sex=["F", nothing, "F"])
    assert sorted(read_protected(path, hashed()).groups["sex"]) == ["F", "F", "not stated"]


@pytest.mark.parametrize(
    ("stored", "groups"),
    [
        (pa.array([25.0, None, float("nan")]), ["25", "not stated", "not stated"]),
        (pa.array([25, 30, None]), ["25", "30", "not stated"]),
        (pa.array([True, False, None]), ["false", "not stated", "true"]),
        (pa.array(["F", None, "M"]).dictionary_encode(), ["F", "M", "not stated"]),
        (pa.array([25, 30, None]).cast(pa.decimal128(20, 0)), ["25", "30", "not stated"]),
    ],
    ids=lambda value: str(getattr(value, "type", "")),
)
def test_a_group_is_the_same_however_it_is_stored(tmp_path: Path, stored: pa.Array, groups: list[str]) -> None:
    parquet.write_table(pa.table({"client_id": ["1", "2", "3"], "age": stored}), tmp_path / "g.parquet")
    assert sorted(read_protected(tmp_path / "g.parquet", hashed()).groups["age"]) == groups


def test_a_repeated_attribute_is_one_line(command: list[str], tmp_path: Path, capsys: Said) -> None:
    path = tmp_path / "g.csv"
    path.write_text("client_id,sex,sex\n1,F,F\n")
    assert main(["fairness", *command, "--protected", str(path)]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == f"error: {path}: column repeated: sex"


@pytest.mark.parametrize("option", ["performance", "fairness"])
def test_ids_that_became_floats_are_counted_before_the_key_is_suspected(
    command: list[str], tmp_path: Path, capsys: Said, option: str
) -> None:
    path = tmp_path / "f.csv"
    path.write_text("client_id,outcome\n" + "".join(f"{i}.0,{i % 2}\n" for i in range(1, 5)) + "x,0\n")
    flag = "--outcomes" if option == "performance" else "--protected"
    assert main([option, *command, flag, str(path)]) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.endswith("; 4 of the client ids in the file look like floats, as 7.0 for 7: write them as in requests")
    assert "DECISION_LOG_KEY" not in said


@pytest.fixture
def doubled(log: Path, tmp_path: Path) -> tuple[Path, list[str]]:
    """A log of which two decisions that differ share a request id, one is there twice, and two clients came twice."""
    table = decided(log).slice(0, 200).combine_chunks()
    margin = table["margin"].to_numpy()
    first = next(place for place in range(1, 200) if margin[place] != margin[0])
    ids = [f"r-{place}" for place in range(200)]
    ids[first] = ids[0]
    place = table.schema.get_field_index("request_id")
    table = table.set_column(place, table.schema.field(place), pa.array(ids))
    (tmp_path / "log" / "closed").mkdir(parents=True)
    write_segment(
        pa.concat_tables([table, table.slice(50, 1)]), tmp_path / "log" / "closed" / f"20260101T{0:012}Z-h-1-0.parquet"
    )
    return tmp_path / "log", ids


def test_outcomes_of_a_request_id_that_names_two_decisions_are_left_out(
    command: list[str], doubled: tuple[Path, list[str]], tmp_path: Path, capsys: Said
) -> None:
    log, ids = doubled
    known = sorted(set(ids))
    outcomes = written(tmp_path / "o.parquet", request_id=known, outcome=[place % 2 for place in range(len(known))])
    main(["performance", *command, "--log", str(log), "--outcomes", outcomes, "--json", str(tmp_path / "p.json")])
    counts = json.loads((tmp_path / "p.json").read_text())["counts"]
    assert capsys.readouterr().out.splitlines().count("  of several decisions under one request_id: 1") == 1
    assert counts["of several decisions under one request_id"] == 1
    assert counts["of no decision in the log"] == 0
    assert counts["decisions without a known outcome"] == 2
    assert counts["earlier decisions of the same client"] == 1  # the same decision asked for again


def test_groups_of_a_request_id_that_names_two_decisions_are_left_out(
    command: list[str], doubled: tuple[Path, list[str]], tmp_path: Path, capsys: Said
) -> None:
    log, ids = doubled
    known = sorted(set(ids))
    file = written(tmp_path / "g.parquet", request_id=known, group=["ab"[place % 2] for place in range(len(known))])
    main(["fairness", *command, "--log", str(log), "--protected", file, "--json", str(tmp_path / "f.json")])
    assert "  2 decisions whose request_id names several decisions are left out\n" in capsys.readouterr().out
    (found,) = json.loads((tmp_path / "f.json").read_text())["attributes"]
    assert sum(group["rows"] for group in found["groups"]) == 199


@pytest.mark.parametrize("apart", [False, True])
def test_of_decisions_at_the_same_time_the_last_one_in_the_log_counts(
    log: Path, tmp_path: Path, apart: bool, scorer: Scorer
) -> None:
    """In one segment and in two."""
    table = decided(log).slice(0, 2).combine_chunks()
    for name, value in (("time", table["time"][0]), ("client", table["client"][0])):
        place = table.schema.get_field_index(name)
        field = table.schema.field(place)
        table = table.set_column(place, field, pa.array([value.as_py()] * 2, field.type))
    (tmp_path / "log" / "closed").mkdir(parents=True)
    for number, part in enumerate([table.slice(0, 1), table.slice(1)] if apart else [table]):
        write_segment(part, tmp_path / "log" / "closed" / f"20260101T{0:012}Z-h-1-{number}.parquet")
    keys = client_keys(table["client"])[:1]
    matched = match(
        DecisionLogReader(tmp_path / "log"), Outcomes("client_id", keys, np.array([1], np.int8), 1, 0, 0, 0)
    )
    assert matched.probability.tolist() == [table["probability"][1].as_py()]
    assert matched.repeated == 1


@pytest.mark.parametrize("kind", ["text", "empty", "directory", "pipe", "parquet"])
def test_what_is_no_segment_is_passed_over_and_named_by_every_command(
    command: list[str], log: Path, tmp_path: Path, capsys: Said, kind: str
) -> None:
    copy = tmp_path / "log"
    shutil.copytree(log, copy)
    (copy / "open").mkdir(exist_ok=True)
    foreign = [copy / "closed" / "20260101T000000000000Z-h-1-0.parquet", copy / "open" / "notes.txt"]
    for path in foreign:
        if kind == "directory":
            path.mkdir()
        elif kind == "pipe":
            os.mkfifo(path)
        elif kind == "parquet":
            parquet.write_table(pa.table({"time": [1], "probability": [0.5]}), path)
        else:
            path.write_text("hello\n" * (kind == "text"))
    groups = written(tmp_path / "g.parquet", client_id=[str(i) for i in range(3_000)], group=["a", "b"] * 1_500)
    for name, *options in (
        ("drift",),
        ("performance",),
        ("fairness", "--protected", groups),
        ("report", "--output", str(tmp_path / "r.html")),
    ):
        assert main([name, *command, "--log", str(copy), *options]) == 0
        warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
        assert warnings[0] == "warning: 2 files in the log were passed over, wholly or in part:"
        assert [line.split(": ")[1].strip() for line in warnings[1:]] == [str(path) for path in foreign]
