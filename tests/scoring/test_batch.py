"""What a batch job says about each application."""

from __future__ import annotations

import csv
import hashlib
import re

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from features.errors import ColumnsError
from scoring.errors import BatchError
from scoring.job import Summary
from tests.features.examples import NAMES, REQUIRED, write_csv
from tests.home_credit import APPLICATION
from tests.scoring.jobs import files, manifest, parquet_of, parts, people, refused, rejections, rows, score_files

HEADER = ("SK_ID_CURR", *NAMES)
OUTPUT = [
    "SK_ID_CURR", "probability", "prediction", "decision", "risk_level", "score",
    "missing", "unknown", "unknown_columns", "withheld", "reason_1", "reason_2", "reason_3", "reason_4",
    "model_version",
]  # fmt: skip
DECIDED = ["probability", "prediction", "decision", "risk_level", "score"]


def test_every_row_is_decided_as_the_scorer_decides(labelled_csv, applications, small, output):
    score_files(labelled_csv, output, small)
    [decided] = parts(output)
    scores = small.scorer.score(applications)
    assert decided.column_names == OUTPUT
    assert decided["probability"].to_numpy().tobytes() == scores.probability.tobytes()
    assert decided["prediction"].to_pylist() == scores.prediction.tolist()
    assert decided["decision"].to_pylist() == scores.decision.tolist()
    assert decided["risk_level"].to_pylist() == scores.risk_level.tolist()
    assert decided["score"].to_pylist() == scores.points.tolist()
    assert decided["missing"].to_pylist() == scores.missing.tolist()
    assert decided["unknown"].to_pylist() == [len(names) for names in scores.unknown]
    assert set(decided["model_version"].to_pylist()) == {small.version}
    codes = zip(*(decided[f"reason_{i}"].to_pylist() for i in range(1, 5)), strict=True)
    told = [tuple(code for code in row if code) for row in codes]
    assert told == [tuple(reason.code for reason in reasons) for reasons in scores.reasons]
    assert len(set(told)) > 2


def test_the_types_of_the_result(labelled_csv, small, output):
    score_files(labelled_csv, output, small, chunk_rows=150)
    text, whole = pa.string(), pa.int64()
    kinds = [whole, pa.float64(), whole, text, text, whole, whole, whole, *[text] * 7]
    for part in parts(output):
        assert part.schema.types == kinds


def test_the_manifest_says_what_was_done(labelled_csv, small, output):
    summary = score_files(labelled_csv, output, small, chunk_rows=150)
    unknown, digest = summary.unknown_levels, small.scorer.artefact.digest
    assert summary == Summary("small", small.version, digest, 400, 400, 0, 0, {}, unknown)
    told = manifest(output)
    assert Summary.from_dict(told) == summary
    part = output / "part-00000.parquet"
    content = part.read_bytes()
    assert told["parts"] == [
        {
            "number": 0,
            "input": str(labelled_csv),
            "rows": 400,
            "rejected": 0,
            "decisions": {
                "file": part.name, "rows": 400, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()
            },
            "quarantine": None,
        }
    ]  # fmt: skip
    plan = told["plan"]
    assert (plan["model"], plan["digest"]) == (f"small:{small.version}", digest)
    assert (plan["portfolio"], plan["identifier"], plan["input"]) == ("home_credit", "SK_ID_CURR", str(labelled_csv))
    assert plan["options"] == {"carry": [], "reasons": True, "limit": None, "sample": 1.0}
    assert [one["file"] for one in plan["parts"]] == [str(labelled_csv)]
    assert set(told["processor_seconds"]) == {"read", "identifiers", "score", "count", "write"}
    assert told["seconds"] >= 0
    assert sorted(path.name for path in output.iterdir()) == ["_manifest.json", "part-00000.parquet"]


@pytest.mark.parametrize("chunk_rows", [1, 7, 79, 80])
def test_chunks_of_any_size_give_the_same_bytes(labelled_csv, small, output, tmp_path, chunk_rows, monkeypatch):
    monkeypatch.setattr("scoring.part._GROUP_ROWS", 30)
    lines = labelled_csv.read_text(encoding="utf-8").splitlines(keepends=True)
    bad = re.sub("^[^,]*", "1", lines[5]).replace("Cash loans", "").replace("Revolving loans", "")
    (tmp_path / "a.csv").write_text("".join([*lines[:81], bad]), encoding="utf-8")
    score_files(tmp_path / "a.csv", tmp_path / "whole", small)
    score_files(tmp_path / "a.csv", output, small, chunk_rows=chunk_rows)
    assert files(output) == files(tmp_path / "whole")
    assert set(files(output)) == {"part-00000.parquet", "_quarantine/part-00000.parquet"}
    assert parquet.read_metadata(output / "part-00000.parquet").num_row_groups == 3
    assert len(rows(output)) == 80


def test_csv_and_parquet_give_the_same_rows(labelled_csv, applications, small, output, tmp_path):
    with labelled_csv.open(encoding="utf-8", newline="") as file:
        ids = pa.array([int(record["SK_ID_CURR"]) for record in csv.DictReader(file)])
    numbers = {
        c.name: pa.array(applications.numbers[:, i], from_pandas=True) for i, c in enumerate(APPLICATION.numeric)
    }
    levels = {c.name: pa.array(applications.levels[:, i]) for i, c in enumerate(APPLICATION.categorical)}
    parquet.write_table(pa.table({"SK_ID_CURR": ids, **numbers, **levels}), tmp_path / "a.parquet")
    score_files(labelled_csv, tmp_path / "csv", small)
    score_files(tmp_path / "a.parquet", output, small)
    assert parts(output)[0].equals(parts(tmp_path / "csv")[0])


def test_progress_is_told_after_every_chunk(labelled_csv, small, output):
    told: list[int] = []
    score_files(labelled_csv, output, small, chunk_rows=150, progress=told.append)
    assert told == [150, 150, 100]


@pytest.mark.parametrize("chunk_rows", [1, 3, 10])
def test_a_row_that_breaks_a_rule_is_in_the_quarantine_and_the_others_are_scored(small, output, tmp_path, chunk_rows):
    records = [
        {"SK_ID_CURR": 5, "EXT_SOURCE_2": 0.5},
        {"SK_ID_CURR": 3, "CNT_CHILDREN": -1, "AMT_CREDIT": "lots"},
        {"SK_ID_CURR": 4, "EXT_SOURCE_2": 0.01},
        {"SK_ID_CURR": 1, "AMT_CREDIT": ""},
    ]
    source = write_csv(tmp_path / "a.csv", *records, header=HEADER)
    summary = score_files(source, output, small, chunk_rows=chunk_rows)
    assert [row["SK_ID_CURR"] for row in rows(output)] == [5, 4]
    children = {"column": "CNT_CHILDREN", "rule": "must be between 0 and 30"}
    assert rejections(output) == [
        {
            "SK_ID_CURR": 3,
            "file": str(source),
            "file_row": 2,
            "errors": [{"column": "AMT_CREDIT", "rule": "must be a number"}, children],
        },
        {
            "SK_ID_CURR": 1,
            "file": str(source),
            "file_row": 4,
            "errors": [{"column": "AMT_CREDIT", "rule": "is required"}],
        },
    ]
    assert (summary.rows, summary.scored, summary.rejected) == (4, 2, 2)


def test_a_rejected_row_changes_nothing_about_the_others(labelled_csv, small, output, tmp_path):
    lines = labelled_csv.read_text(encoding="utf-8").splitlines(keepends=True)
    bad = ["1"] + [{"NAME_CONTRACT_TYPE": "Cash loans"}.get(name, "") for name in lines[0].strip().split(",")[1:]]
    (tmp_path / "a.csv").write_text("".join([*lines[:100], ",".join(bad) + "\n", *lines[100:]]), encoding="utf-8")
    score_files(labelled_csv, tmp_path / "sound", small)
    score_files(tmp_path / "a.csv", output, small)
    assert rows(tmp_path / "sound") == rows(output)
    assert [(row["SK_ID_CURR"], row["file_row"]) for row in rejections(output)] == [(1, 100)]


@pytest.mark.parametrize("chunk_rows", [1, 2, 10])
def test_a_file_of_nothing_but_rejected_rows_is_no_result(small, output, tmp_path, chunk_rows):
    source = people(tmp_path / "a.csv", 1, 2, 3, AMT_CREDIT=-1)
    said = refused(source, output, small, BatchError, chunk_rows=chunk_rows)
    quarantine = f"{output}.unfinished/_quarantine"
    assert said == f"{source}: no application could be scored; {quarantine} says why"
    told = rejections(output.with_name("out.unfinished"))
    rule = {"column": "AMT_CREDIT", "rule": "must be between 1 and 1000000000"}
    assert [row["errors"] for row in told] == [[rule]] * 3


@pytest.mark.parametrize("chunk_rows", [1, 10])
def test_broken_rules_are_counted(small, output, tmp_path, chunk_rows):
    records = [
        {"SK_ID_CURR": 1, "AMT_CREDIT": -1},
        {"SK_ID_CURR": 2, "AMT_CREDIT": "x", "CNT_CHILDREN": 99},
        {"SK_ID_CURR": 3},
        {"SK_ID_CURR": 4, "AMT_CREDIT": -2},
    ]
    summary = score_files(write_csv(tmp_path / "a.csv", *records, header=HEADER), output, small, chunk_rows=chunk_rows)
    assert summary.broken_rules == {
        "AMT_CREDIT: must be between 1 and 1000000000": 2,
        "AMT_CREDIT: must be a number": 1,
        "CNT_CHILDREN: must be between 0 and 30": 1,
    }


@pytest.mark.parametrize("chunk_rows", [1, 10])
def test_levels_that_the_model_does_not_know_are_counted_in_the_rows_that_are_scored(
    small, output, tmp_path, chunk_rows
):
    known = small.scorer.artefact.features.vocabularies["NAME_INCOME_TYPE"][0]
    records = [
        {"SK_ID_CURR": 1, "NAME_INCOME_TYPE": known},
        {"SK_ID_CURR": 2, "NAME_INCOME_TYPE": known.upper(), "NAME_HOUSING_TYPE": "House"},
        {"SK_ID_CURR": 3, "NAME_INCOME_TYPE": f" {known}"},
        {"SK_ID_CURR": 4, "NAME_INCOME_TYPE": "misspelt", "AMT_CREDIT": -1},
        {"SK_ID_CURR": 5},
    ]
    summary = score_files(write_csv(tmp_path / "a.csv", *records, header=HEADER), output, small, chunk_rows=chunk_rows)
    assert summary.unknown_levels == {"NAME_HOUSING_TYPE": 1, "NAME_INCOME_TYPE": 2}


@pytest.mark.parametrize("chunk_rows", [1, 10])
def test_a_category_of_which_no_level_is_known_is_named(small, output, tmp_path, chunk_rows):
    known = small.scorer.artefact.features.vocabularies["NAME_INCOME_TYPE"][0]
    records = [
        {"SK_ID_CURR": 1, "NAME_INCOME_TYPE": known, "NAME_HOUSING_TYPE": "2"},
        {"SK_ID_CURR": 2, "NAME_INCOME_TYPE": "3", "NAME_HOUSING_TYPE": "1"},
        {"SK_ID_CURR": 3},
    ]
    summary = score_files(write_csv(tmp_path / "a.csv", *records, header=HEADER), output, small, chunk_rows=chunk_rows)
    assert summary.unknown_levels == {"NAME_HOUSING_TYPE": 2, "NAME_INCOME_TYPE": 1}
    assert summary.never_known == ("NAME_HOUSING_TYPE",)


@pytest.mark.parametrize("chunk_rows", [1, 10])
def test_columns_that_no_row_states_and_columns_that_are_not_declared_are_named(small, output, tmp_path, chunk_rows):
    stated = [name for name in NAMES if name not in ("AMT_ANNUITY", "CODE_GENDER", "OWN_CAR_AGE")]
    record = {name: APPLICATION[name].levels[0] if APPLICATION[name].levels else -9000 for name in stated}
    records = [{**record, **REQUIRED, "SK_ID_CURR": 1}, {"SK_ID_CURR": 2, "OWN_CAR_AGE": "x", "CODE_GENDER": "n/a"}]
    records.append({"SK_ID_CURR": 3})
    header = (*HEADER, "BONUS", "TARGET", "client_id")
    source = write_csv(tmp_path / "a.csv", *records, header=header)
    summary = score_files(source, output, small, chunk_rows=chunk_rows)
    assert (summary.never_stated, summary.ignored_columns) == (("CODE_GENDER", "AMT_ANNUITY"), ("BONUS",))


def test_no_value_is_in_the_result(small, output, tmp_path):
    records = [{"SK_ID_CURR": 1, "AMT_CREDIT": "kgjq4711"}, {"SK_ID_CURR": 2, "CODE_GENDER": "kgjq4711" * 20}]
    records.append({"SK_ID_CURR": 3})
    score_files(write_csv(tmp_path / "a.csv", *records, header=HEADER), output, small)
    assert len(rejections(output)) == 2
    assert not [name for name, content in files(output).items() if b"kgjq" in content]
    assert "kgjq" not in (output / "_manifest.json").read_text() + str(rows(output)) + str(rejections(output))


@pytest.mark.parametrize("chunk_rows", [0, -1])
def test_a_chunk_has_at_least_one_row(small, output, tmp_path, chunk_rows):
    source = parquet_of(tmp_path / "a.parquet", pa.array([1, 2]))
    assert "row" in refused(source, output, small, ColumnsError, chunk_rows=chunk_rows)


def test_required_values_are_enough_to_be_scored(small, output, tmp_path):
    score_files(people(tmp_path / "a.csv", 1), output, small)
    [row] = rows(output)
    assert set(REQUIRED) == {"NAME_CONTRACT_TYPE", "AMT_INCOME_TOTAL", "AMT_CREDIT"}
    assert 0 < row["probability"] < 1
    assert not np.isnan(row["probability"])
