"""`python -m training init`: what is drafted of one column, and what is asked."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.drafts import ALTERNATING, POLICY, ROWS, column, init, spread, write
from training.portfolio.drafting import draft
from training.portfolio.labelled_file import LabelledFile
from training.portfolio.text import draft_text
from training.portfolio.values import bounds


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("x", spread(1.5, 2.5), ["x: {kind: number, low: 0, high: 5}"]),
        ("x", spread(0.1, 0.9), ["x: {kind: number, low: 0, high: 1}"]),
        ("x", spread(-0.5, 0.25), ["x: {kind: number, low: -1, high: 0.5}"]),
        ("x", spread(3, 37), ["x: {kind: count, low: 0, high: 100}"]),
        ("x", spread(-17000, -1), ["x: {kind: count, low: -50000, high: 0}"]),
        ("built", spread(1990, 2024), ["built: {kind: count, low: 1900, high: 2100}"]),
        ("monthly_income", spread(900, 2500), ["monthly_income: {kind: number, low: 0, high: 5000}"]),
        ("AMT_ENQUIRIES", spread(1, 4), ["AMT_ENQUIRIES: {kind: count, low: 0, high: 10}"]),
        ("x", spread(0, 1), ["x: {kind: flag}"]),
        ("x", spread(0, 1, "", 0), ["x: {kind: flag}"]),
        ("x", spread("true", "false"), ["x: {kind: flag}"]),
        ("x", spread("a", "b", "", "NA"), ['x: {kind: category, levels: ["a", "b"]}']),
        ("a b", spread("no", "yes: 1"), ['"a b": {kind: category, levels: ["no", "yes: 1"]}']),
        ("y", spread("2020-01-31", "2024-12-01"), ['y: {kind: date, low: "2020-01-01"}']),
        ("x", spread("20200131", "20241201"), ["# ? x: are these dates?", 'x: {kind: date, low: "2020-01-01"}']),
        (
            "x",
            spread("31.01.2020", "01.12.2024"),
            ["# ? x: are these dates? write them as 2026-01-31", "x: {kind: date}"],
        ),
        (
            "x",
            spread("?", "2020-01-31"),
            [
                "# ? x: a text for missing in 10 rows, which no date may be: empty their cells",
                'x: {kind: date, low: "2020-01-01"}',
            ],
        ),
        (
            "x",
            [*spread(1, 2) * 2, *spread(1, 2)[:-1], "b"][-ROWS:],
            ["# ? x: no number in 1 of 20 rows: empty their cells?", "x: {kind: count, low: 0, high: 5}"],
        ),
        (
            "x",
            spread("inf", "-inf"),
            [
                "# ? x: holds no finite number: leave it out?",
                "# ? x: some numbers are infinite, which is refused: empty their cells",
                "x: {kind: number}",
            ],
        ),
        ("x", spread(1e-9, 1e-8), ["x: {kind: number, low: 0, high: 1}"]),
        ("x", spread(-1e-20, 1e-20), ["x: {kind: number, low: -2.0e-20, high: 2.0e-20}"]),
        (
            "sex",
            spread(10**16, 1),
            [
                "# ? sex: do these whole numbers stand for names without an order? if not: kind count",
                "sex: {kind: category, protected: sex, levels: [1, 10000000000000000]}",
            ],
        ),
        (
            "EDUCATION",
            spread(1, 2, 3, 4),
            [
                "# ? EDUCATION: do these whole numbers stand for names without an order? if not: kind count",
                "EDUCATION: {kind: category, levels: [1, 2, 3, 4]}",
            ],
        ),
        ("REGION_RATING", spread(1, 2, 3, 4), ["REGION_RATING: {kind: count, low: 0, high: 10}"]),
        (
            "plz",
            spread("01067", "80331"),
            [
                "# ? plz: numbers that begin with 0: are they names?",
                'plz: {kind: category, levels: ["01067", "80331"]}',
            ],
        ),
        (
            "rate",
            spread("5.5%", "12.25%"),
            [
                "# ? rate: are these numbers? write them without unit and without marks for thousands",
                "rate: {kind: number}",
            ],
        ),
        ("x", spread("", "NA"), ["# ? x: is empty in every row: leave it out?", "x: {kind: number}"]),
    ],
)
def test_kinds_and_bounds(tmp_path: Path, name: str, values: list[object], expected: list[str]) -> None:
    assert column(tmp_path, name, values) == expected


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        (
            "late",
            spread(0, 1, 3, 98),
            ["# ? late: 98 stands apart: a code for missing?", "late: {kind: count, low: 0, high: 10, missing: [98]}"],
        ),
        (
            "days",
            spread(-100, -2000, -30, 365243),
            [
                "# ? days: 365243 stands apart: a code for missing?",
                "days: {kind: count, low: -5000, high: 0, missing: [365243]}",
            ],
        ),
        (
            "x",
            spread(0, 1, 2, -1),
            ["# ? x: -1 stands apart: a code for missing?", "x: {kind: count, low: 0, high: 5, missing: [-1]}"],
        ),
        ("x", spread(0, 1, -1, 0), ["# ? x: -1 stands apart: a code for missing?", "x: {kind: flag, missing: [-1]}"]),
        ("x", spread(-2, -1, 0, 1), ["x: {kind: count, low: -5, high: 2}"]),
        ("x", spread(90, 95, 97, 98), ["x: {kind: count, low: 0, high: 200}"]),
        (
            "age",
            spread(0, 21, 60, 30),
            [
                "# ? age: 0 stands apart: a code for missing?",
                "age: {kind: count, low: 0, high: 130, missing: [0], protected: age}",
            ],
        ),
        ("x", spread("XNA", "a", "b", "a"), ['x: {kind: category, missing: ["XNA"], levels: ["a", "b"]}']),
        ("x", spread("?", "UNKNOWN", "b", "a"), ['x: {kind: category, missing: ["?", "UNKNOWN"], levels: ["a", "b"]}']),
        (
            "x",
            spread("?", 3, 4, 5),
            [
                "# ? x: a text for missing in 5 rows, which no number may be: empty their cells",
                "x: {kind: count, low: 0, high: 10}",
            ],
        ),
        (
            "x",
            spread("none", "bank"),
            [
                '# ? x: is "none" a level? without it among the levels it means missing',
                'x: {kind: category, levels: ["bank", "none"]}',
            ],
        ),
        (
            "x",
            [*spread(1, 2)[:-1], "inf"],
            [
                "# ? x: some numbers are infinite, which is refused: empty their cells",
                "x: {kind: count, low: 0, high: 5}",
            ],
        ),
    ],
)
def test_codes_for_missing(tmp_path: Path, name: str, values: list[object], expected: list[str]) -> None:
    assert column(tmp_path, name, values) == expected


def test_a_code_of_fewer_than_five_rows_may_be_a_value_and_is_not_written(tmp_path: Path) -> None:
    assert column(tmp_path, "late", [0, 1, 3, 2] * 4 + [98] * 4) == ["late: {kind: count, low: 0, high: 200}"]


@pytest.mark.parametrize(
    ("name", "values", "protected"),
    [
        ("Gender", spread("f", "m"), "sex"),
        ("MARITALSTATUS", spread("f", "m"), "marital_status"),
        ("NAME_FAMILY_STATUS", spread("f", "m"), "marital_status"),
        ("foreignWorker", spread("f", "m"), "nationality"),
        ("country_of_birth", spread("f", "m"), "nationality"),
        ("applicant_race", spread("f", "m"), "race"),
        ("religion", spread("f", "m"), "religion"),
        ("disabled", spread(0, 1), "disability"),
        ("age_in_years", spread(20, 40), "age"),
        ("DAYS_BIRTH", spread(-9000, -20000), "{age: {bands: [25, 40, 62], elderly: 62, per_unit: -365.25}}"),
        ("OWN_CAR_AGE", spread(20, 40), None),
        ("account_age", spread(20, 40), None),
        ("international", spread(20, 40), None),
        ("average_balance", spread(20, 40), None),
    ],
)
def test_a_plain_name_of_a_protected_attribute_is_protected(
    tmp_path: Path, name: str, values: list[object], protected: str | None
) -> None:
    (line,) = column(tmp_path, name, values)
    assert (f"protected: {protected}" in line) if protected else ("protected" not in line)


def test_two_attributes_in_one_column_need_groups(tmp_path: Path) -> None:
    assert column(tmp_path, "personal_status_and_sex", spread("f : a", "m : a")) == [
        "# ? personal_status_and_sex: it states marital_status and sex: which levels are which group of each?",
        'personal_status_and_sex: {kind: category, protected: ["marital_status", "sex"], levels: ["f : a", "m : a"]}',
    ]


def test_a_day_of_birth_is_left_out(tmp_path: Path) -> None:
    data = {"birth_date": spread("1970-01-01", "1980-05-05"), "x": spread(1, 2), "TARGET": ALTERNATING}
    assert init(write(tmp_path / "loans.csv", data))[-2:] == [
        "  # ? birth_date: states age as a date, which cannot be protected: give the age in years instead?",
        "  x: {kind: count, low: 0, high: 5}",
    ]


def test_a_year_of_birth_needs_bands(tmp_path: Path) -> None:
    assert column(tmp_path, "year_of_birth", spread(1970, 1980)) == [
        "# ? year_of_birth: is it age in years? state its bands, as docs/reference/portfolio.md says",
        "year_of_birth: {kind: count, low: 1900, high: 2100, protected: {age: {bands: [1980]}}}",
    ]


def test_rare_levels_are_not_written(tmp_path: Path) -> None:
    assert column(tmp_path, "employer", [*["State"] * 16, *["Ada Lovelace"] * 4]) == [
        'employer: {kind: category, levels: ["State"]}'
    ]


def test_many_levels_are_not_written(tmp_path: Path) -> None:
    names = {"employer": [f"Firm {i % 101}" for i in range(606)], "TARGET": [i % 2 for i in range(606)]}
    assert init(write(tmp_path / "loans.csv", names))[-2:] == [
        "  # ? employer: 101 levels: the commonest 100 become known; are they more than names?",
        "  employer: {kind: category, most_levels: 100}",
    ]


def test_a_column_of_names_is_left_out(tmp_path: Path) -> None:
    names = {
        "who": [f"Person {i}x" for i in range(120)],
        "x": [i % 3 for i in range(120)],
        "TARGET": [i % 2 for i in range(120)],
    }
    assert init(write(tmp_path / "loans.csv", names))[-2:] == [
        "  # ? who: left out: most rows have a text of their own; are they names?",
        "  x: {kind: count, low: 0, high: 5}",
    ]


def test_blanks_at_the_end_of_levels_are_asked_about(tmp_path: Path) -> None:
    assert column(tmp_path, "term", spread(" 36 months", "60 months"))[0] == (
        "# ? term: levels with blanks at an end: clean the file?"
    )


def test_a_far_maximum_is_asked_about(tmp_path: Path) -> None:
    data = {"debt": [*range(3000), 900_000], "TARGET": [i % 2 for i in range(3001)]}
    assert init(write(tmp_path / "loans.csv", data))[-2:] == [
        "  # ? debt: the largest value is over 100 times the 99.9 % quantile: a wrong unit, or a typing error?",
        "  debt: {kind: number, low: 0, high: 2000000}",
    ]


def test_a_leak_is_asked_about_with_its_auc(tmp_path: Path) -> None:
    outcome = [int(i % 4 > 1) for i in range(60)]
    data = {"recovered": [5 * bad for bad in outcome], "paid": ["late"[bad:] for bad in outcome], "TARGET": outcome}
    assert init(write(tmp_path / "loans.csv", data))[-4:] == [
        "  # ? recovered: alone ranks the outcome with AUC 1.000: was it known at the decision?",
        "  recovered: {kind: count, low: 0, high: 10}",
        "  # ? paid: alone ranks the outcome with AUC 1.000: was it known at the decision?",
        '  paid: {kind: category, levels: ["ate", "late"]}',
    ]


NAMES = st.lists(st.text("JQXYZÄÖ", min_size=5, max_size=9), min_size=2, max_size=20, unique=True)
NUMBERS = st.lists(st.integers(10_001, 10**9).filter(lambda n: n % 1000), min_size=4, max_size=8, unique=True)


@given(NAMES, NUMBERS)
def test_no_value_of_fewer_than_five_rows_is_written(names: list[str], numbers: list[int]) -> None:
    rows = 4 * max(len(names), len(numbers))
    table = pa.table(
        {
            "employer": [names[i % len(names)] for i in range(rows)]
            if 4 * len(names) == rows
            else ["none at all"] * rows,
            "income": [numbers[i % len(numbers)] for i in range(rows)],
            "TARGET": [i // 2 % 2 for i in range(rows)],
        }
    )
    file = LabelledFile(Path("loans.csv"), table)
    text = draft_text(draft(file), file, name="mine", policy=POLICY)
    assert [value for value in map(str, [*names, *numbers]) if value in text] == []


@given(st.floats(-1e12, 1e12), st.floats(-1e12, 1e12))
def test_bounds_hold_all_values_and_are_round(one: float, other: float) -> None:
    lowest, highest = min(one, other), max(one, other)
    low, high = bounds(lowest, highest, whole=False)
    assert low <= lowest <= highest <= high
    assert {f"{abs(bound):.0e}"[0] for bound in (low, high)} <= {"0", "1", "2", "5"}
