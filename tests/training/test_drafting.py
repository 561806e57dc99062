"""`python -m training init`: the draft as a whole, its roles and its file, and what is refused."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from features.files import read_table
from features.portfolio import Portfolio
from jobs.settings import read_yaml
from tests.features.examples import ROOT
from tests.training.drafts import ALTERNATING, POLICY, REQUIRED, ROWS, RULES, init, spread, write
from training.cli import main
from training.dataset import load_dataset
from training.errors import DataError
from training.portfolio.drafting import draft
from training.portfolio.labelled_file import LabelledFile
from training.portfolio.text import draft_text
from training.settings import TrainingSettings

CONFIGS = ROOT / "configs"


def test_a_draft_is_whole_and_canonical(tmp_path: Path) -> None:
    data = write(
        tmp_path / "loans.csv",
        {
            "loan_id": range(1, ROWS + 1),
            "CODE_GENDER": spread("F", "M"),
            "income": spread(1200.5, 2500, 3100, 900),
            "TARGET": ALTERNATING,
        },
    )
    assert init(data) == [
        "name: mine",
        "identity: {column: loan_id, kind: whole}",
        '# ? is "1" the bad outcome? it is 50.0% of the rows',
        'outcome: {column: TARGET, bad: ["1"], good: ["0"]}',
        "files: {train: loans}",
        "",
        *RULES,
        "",
        REQUIRED,
        "columns:",
        '  CODE_GENDER: {kind: category, protected: sex, levels: ["F", "M"]}',
        "  income: {kind: number, low: 0, high: 10000}",
    ]


def test_a_draft_declares_its_own_file(tmp_path: Path) -> None:
    data = write(tmp_path / "loans.csv", {"age": spread(20, 30, 40, 0), "TARGET": ALTERNATING})
    init(data)
    loaded = load_dataset(data, Portfolio.load(tmp_path / "mine"))
    assert (len(loaded), int(loaded.target.sum()), int(np.isnan(loaded.columns.numbers).sum())) == (20, 10, 0)


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("TARGET", spread(0, 1), 'outcome: {column: TARGET, bad: ["1"], good: ["0"]}'),
        ("creditability", spread(0, 1), 'outcome: {column: creditability, bad: ["0"], good: ["1"]}'),
        ("class", spread("good", "bad"), 'outcome: {column: class, bad: ["bad"], good: ["good"]}'),
        ("Risk", [1] * 15 + [2] * 5, 'outcome: {column: Risk, bad: ["2"], good: ["1"]}'),
        ("defaulted", spread("Yes", "No"), 'outcome: {column: defaulted, bad: ["Yes"], good: ["No"]}'),
        ("Loan_Status", ["Y"] * 15 + ["N"] * 5, 'outcome: {column: Loan_Status, bad: ["N"], good: ["Y"]}'),
        (
            "loan_status",
            spread("Paid", "Charged Off", "Current", "Late (31-120 days)"),
            'outcome: {column: loan_status, bad: ["Charged Off", "Late (31-120 days)"], good: ["Current", "Paid"]}',
        ),
    ],
)
def test_the_outcome_and_its_bad_value(tmp_path: Path, name: str, values: list[object], expected: str) -> None:
    other = {"default_on_file": [i // 3 % 2 for i in range(ROWS)], "x": spread(1, 2, 3, 4)}
    assert expected in init(write(tmp_path / "loans.csv", {**other, name: values}))


def test_mostly_bad_rows_and_several_good_values_are_asked_about(tmp_path: Path) -> None:
    data = {"x": spread(1, 2, 3, 4), "loan_status": [*["Default"] * 12, *["Paid"] * 4, *["Current"] * 4]}
    assert init(write(tmp_path / "loans.csv", data))[2:5] == [
        '# ? is "Default" the bad outcome? it is 60.0% of the rows',
        "# ? more than half of the rows are bad: are bad and good swapped?",
        "# ? are these all good? take the rows of open loans out of the file",
    ]


def test_bands_of_age_are_asked_about_where_there_is_an_age(tmp_path: Path) -> None:
    data = write(tmp_path / "loans.csv", {"age": spread(20, 30, 40, 50), "TARGET": ALTERNATING})
    lines = init(data)
    question = "  # ? how much less may one band of age be approved than another? the young often default more"
    assert lines[lines.index(question) + 1] == "  gates: {fairness: {limits: {age: 0.8}}}"
    assert TrainingSettings.load(CONFIGS / "training.yaml", tmp_path / "mine", draft=True).gates.fairness.limits == {
        "age": 0.8
    }


def test_an_outcome_may_be_named(tmp_path: Path) -> None:
    data = write(tmp_path / "loans.csv", {"won": [i // 3 % 2 for i in range(ROWS)], "TARGET": ALTERNATING})
    assert 'outcome: {column: won, bad: ["1"], good: ["0"]}' in init(data, "--outcome", "won")


def test_an_outcome_without_a_name_is_asked_about(tmp_path: Path) -> None:
    data = write(tmp_path / "loans.csv", {"x": spread(1, 2, 3, 4), "z": ALTERNATING})
    assert "# ? found by its values alone: is it the outcome?" in init(data)


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("SK_ID_CURR", range(100_000, 100_020), ["identity: {column: SK_ID_CURR, kind: whole}"]),
        ("", range(ROWS), ['identity: {column: "", kind: whole}']),
        ("Loan_ID", [f"LP{i:04}" for i in range(ROWS)], ["identity: {column: Loan_ID, kind: text}"]),
        (
            "Vertrag",
            [f"V{i:04}" for i in range(ROWS)],
            ["# ? does it name the application? if not: identity: null", "identity: {column: Vertrag, kind: text}"],
        ),
        ("LOAN", [1000 + 7 * i * i for i in range(ROWS)], ["identity: null   # no column names an application"]),
        ("score", [i * 0.37 for i in range(ROWS)], ["identity: null   # no column names an application"]),
        ("loan_id", [*range(ROWS - 1), 0], ["identity: null   # no column names an application"]),
    ],
)
def test_the_identity(tmp_path: Path, name: str, values: Sequence[object], expected: list[str]) -> None:
    lines = init(write(tmp_path / "loans.csv", {name: values, "x": spread(1, 2, 3, 4), "TARGET": ALTERNATING}))
    assert lines[1 : 1 + len(expected)] == expected


def test_a_second_identity_is_asked_about(tmp_path: Path) -> None:
    rows = 240
    data = {"loan_id": range(rows), "member_id": [i // 2 for i in range(rows)], "TARGET": [i % 2 for i in range(rows)]}
    assert init(write(tmp_path / "loans.csv", data))[-2] == (
        "  # ? member_id: named like an identity: is it somebody's number? if so, leave it out"
    )


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_the_separator_is_found(tmp_path: Path, separator: str) -> None:
    lines = init(write(tmp_path / "loans.csv", {"x": spread(1, 2), "TARGET": ALTERNATING}, separator))
    written = "" if separator == "," else ', separator: "\\x09"' if separator == "\t" else f', separator: "{separator}"'
    assert f"files: {{train: loans{written}}}" in lines


def test_a_decimal_comma_is_found(tmp_path: Path) -> None:
    data = {"x": spread("1,5", "2,5"), "n": spread(1, 2), "TARGET": ALTERNATING}
    lines = init(write(tmp_path / "loans.csv", data, ";"))
    assert [
        lines[4],
        lines[-2],
    ] == ['files: {train: loans, separator: ";", decimal: ","}', "  x: {kind: number, low: 0, high: 5}"]


def test_two_decimal_marks_are_asked_about(tmp_path: Path) -> None:
    data = {"x": spread("1,5", "2,5"), "z": spread("1,5", "0,5"), "p": spread(1.5, 2.5), "TARGET": ALTERNATING}
    lines = init(write(tmp_path / "loans.csv", data, ";"))
    assert lines[0] == "# ? decimal mark ',', but '.' in p: write them alike"


def test_a_day_of_the_decision_is_asked_about(tmp_path: Path) -> None:
    data = {"application_date": spread("2024-01-05", "2024-02-05"), "TARGET": ALTERNATING}
    lines = init(write(tmp_path / "loans.csv", data))
    assert "decided_on: application_date  # ? is it the day of the application?" in lines


def test_parquet_types_are_kept(tmp_path: Path) -> None:
    days = [dt.date(2020, 1, 1) + dt.timedelta(days=i) for i in range(ROWS)]
    table = pa.table(
        {
            "opened": days,
            "branch": pa.array(spread("a", "XNA")).dictionary_encode(),
            "repaid": pa.array([None if i % 5 == 0 else i % 3 == 0 for i in range(ROWS)]),
            "sum": pa.array(spread(1, 2)).cast(pa.decimal128(21, 2)),
            "list": [[1]] * ROWS,
            "TARGET": [bool(i % 2) for i in range(ROWS)],
        }
    )
    parquet.write_table(table, tmp_path / "loans.parquet")
    assert init(tmp_path / "loans.parquet")[2:] == [
        '# ? is "true" the bad outcome? it is 50.0% of the rows',
        'outcome: {column: TARGET, bad: ["true"], good: ["false"]}',
        "files: {train: loans}",
        "",
        *RULES,
        "",
        REQUIRED,
        "columns:",
        '  opened: {kind: date, low: "2020-01-01"}',
        '  branch: {kind: category, missing: ["XNA"], levels: ["a"]}',
        "  repaid: {kind: flag}",
        "  sum: {kind: count, low: 0, high: 5}",
        "  # ? list: left out: its stored type is not read; write it as text?",
    ]


def test_the_schema_for_editors_is_named_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "portfolio.schema.json").write_text("{}")
    data = write(tmp_path / "loans.csv", {"x": spread(1, 2), "TARGET": ALTERNATING})
    assert main(["init", "--data", str(data), "--output", str(tmp_path / "mine")]) == 0
    first = (tmp_path / "mine" / "portfolio.yaml").read_text().splitlines()[0]
    assert first == "# yaml-language-server: $schema=../portfolio.schema.json"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"a,b\n", "has no rows"),
        (b"a\n1\n", "it has one column: a comma, ';', a tabulator, '|' may separate columns"),
        (b"a,a\n1,0\n", "column repeated: a"),
        (b"17,17,own\n18,3,rent\n", "its first line holds values: it must name the columns"),
        (b"own,good\nrent,bad\nown,good\n", "its first line holds values: it must name the columns"),
        (b"a,b\n1,2.5\n2,3.5\n3,4.5\n", "no column of two values can be the outcome: name one with --outcome"),
        (b"a,b\n1,0\n2,1\n3,0\n", "no column is left beside identity, outcome and names"),
        (b"a,b\n\xff,1\n", "line 2 is not UTF-8 text: save the file as UTF-8"),
        (b"PAR1\0", "is Parquet, not CSV as its suffix says"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, said: str
) -> None:
    (tmp_path / "loans.csv").write_bytes(content)
    assert main(["init", "--data", f"{tmp_path}/loans.csv", "--output", f"{tmp_path}/mine"]) == 1
    assert capsys.readouterr().err == f"error: {tmp_path}/loans.csv: {said}\n"
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("y", "--outcome y: no such column"),
        ("x", "no column of two values can be the outcome: not --outcome x either"),
    ],
)
def test_an_outcome_must_be_a_column_of_a_few_values(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, said: str
) -> None:
    data = write(tmp_path / "loans.csv", {"x": [i * 1.5 for i in range(ROWS)], "TARGET": ALTERNATING})
    assert main(["init", "--data", str(data), "--output", f"{tmp_path}/mine", "--outcome", name]) == 1
    assert capsys.readouterr().err == f"error: {data}: {said}\n"


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write(tmp_path / "loans.csv", {"x": spread(1, 2), "TARGET": ALTERNATING})
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "portfolio.yaml").write_text("mine")
    assert main(["init", "--data", str(data), "--output", f"{tmp_path}/mine"]) == 1
    assert capsys.readouterr().err == f"error: {tmp_path}/mine: exists already\n"
    assert (tmp_path / "mine" / "portfolio.yaml").read_text() == "mine"


CELLS = {
    "numbers": st.floats() | st.sampled_from([0.0, -1.0, 99.0, 365243.0, math.nan, 1e-300]),
    "counts": st.integers(-(2**53), 2**53) | st.sampled_from([0, 1, 2, 98, 999, -1]),
    "texts": st.text(max_size=120) | st.sampled_from([*"ab?", "none", "NA", "01", "1,5", "5 %", " a", "2026-01-31"]),
    "days": st.dates(),
    "flags": st.booleans(),
}
NAMES = st.text(max_size=8) | st.sampled_from(["age", "sex", "loan_id", "income", "branch_code", "y", "a: b"])


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    """Tables of any columns, of which the last is an outcome."""
    rows = draw(st.integers(2, 24))
    names = draw(st.lists(NAMES.filter(lambda name: name != "TARGET"), min_size=1, max_size=3, unique=True))
    columns: dict[str, Any] = {}
    for name in names:
        cell = CELLS[draw(st.sampled_from(sorted(CELLS)))] | st.none()
        if draw(st.booleans()):
            cell = st.sampled_from(draw(st.lists(cell, min_size=1, max_size=5)))
        columns[name] = draw(st.lists(cell, min_size=rows, max_size=rows))
    return pa.table({**columns, "TARGET": [i % 2 for i in range(rows)]})


@given(tables())
def test_any_table_is_drafted_or_refused_and_fits_where_nothing_is_asked(table: pa.Table) -> None:
    file = LabelledFile(Path("loans.csv"), table)
    try:
        drafted = draft(file, outcome="TARGET")
    except DataError:  # no column is left beside identity, outcome and names
        return
    portfolio = Portfolio.of(read_yaml(draft_text(drafted, file, name="mine", policy=POLICY).encode()))
    doubtful = {column.name for column in drafted.columns if column.questions}
    assert {violation.column for violation in read_table(table, portfolio).violations} <= doubtful
