"""Table Schema as a hint and as an output, and the JSON Schema of portfolio files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from features.portfolio import Portfolio
from tests.features.examples import ROOT
from tests.training.drafts import ALTERNATING, REQUIRED, ROWS, RULES, init, spread, write
from training.cli import main
from training.portfolio.commands import json_schema
from training.portfolio.table_schema import table_schema

DECLARED = """name: small
identity: {column: loan, kind: whole}
outcome: {column: bad, bad: ["1"], good: ["0"], means: late}
columns:
  income: {kind: number, unit: EUR, low: 0.5, high: 1000, missing: [999], required: true, description: Monthly}
  children: {kind: count, low: 0}
  owner: {kind: flag}
  branch: {kind: category, levels: [1, 2]}
  job: {kind: category, levels: [clerk, "none"], missing: ["?"]}
  opened: {kind: date, low: "2000-01-01"}
"""

FIELDS = [
    {"name": "loan", "type": "integer", "constraints": {"required": True, "unique": True}},
    {
        "name": "income",
        "type": "number",
        "description": "Monthly",
        "unit": "EUR",
        "constraints": {"required": True, "minimum": 0.5, "maximum": 1000},
        "missingValues": ["", "NA", "NaN", "null", "999"],
    },
    {"name": "children", "type": "integer", "description": "children", "unit": "count", "constraints": {"minimum": 0}},
    {"name": "owner", "type": "boolean", "description": "owner", "unit": "0 or 1"},
    {"name": "branch", "type": "integer", "description": "branch", "unit": "level", "constraints": {"enum": [1, 2]}},
    {
        "name": "job",
        "type": "string",
        "description": "job",
        "unit": "level",
        "constraints": {"enum": ["clerk", "none"]},
        "missingValues": ["", "NA", "NaN", "null", "?"],
    },
    {
        "name": "opened",
        "type": "date",
        "description": "opened",
        "unit": "date",
        "constraints": {"minimum": "2000-01-01"},
    },
    {"name": "bad", "type": "string", "description": "late", "constraints": {"required": True, "enum": ["0", "1"]}},
]


def test_a_portfolio_is_written_as_a_table_schema(tmp_path: Path) -> None:
    (tmp_path / "portfolio.yaml").write_text(DECLARED)
    assert main(["table-schema", "--portfolio", str(tmp_path), "--output", f"{tmp_path}/schema.json"]) == 0
    assert json.loads((tmp_path / "schema.json").read_text()) == {
        "$schema": "https://datapackage.org/profiles/2.0/tableschema.json",
        "fields": FIELDS,
        "missingValues": ["", "NA", "NaN", "null"],
        "primaryKey": ["loan"],
    }


DATA = {
    "loan": [7 * i * i for i in range(ROWS)],
    "income": spread(1, 2, 3, 999),
    "children": spread(1, 2),
    "owner": spread(0, 1),
    "branch": spread(1, 2),
    "job": spread("clerk", "?", "none", "clerk"),
    "opened": spread("2001-01-01", "2002-02-02"),
    "bad": ALTERNATING,
}


def test_a_table_schema_that_was_written_is_a_hint(tmp_path: Path) -> None:
    (tmp_path / "portfolio.yaml").write_text(DECLARED)
    declared = Portfolio.load(tmp_path)
    (tmp_path / "schema.json").write_text(json.dumps(table_schema(declared)))
    lines = init(write(tmp_path / "loans.csv", DATA), "--hint", f"{tmp_path}/schema.json")
    drafted = Portfolio.load(tmp_path / "mine")
    assert [line for line in lines if "# ?" in line and line not in RULES] == [
        '# ? is "1" the bad outcome? it is 50.0% of the rows',
        '  # ? job: is "none" a level? without it among the levels it means missing',
    ]
    assert drafted.declared.identity == declared.declared.identity
    for column in declared.schema:
        found = drafted.schema[column.name]
        assert (found.kind, found.low, found.missing) == (column.kind, column.low, column.missing)
        assert (found.levels, found.coded, found.required) == (column.levels, column.coded, column.required)
        assert (found.description, found.unit) == (column.description, column.unit)


@pytest.mark.parametrize(
    ("field", "values", "expected"),
    [
        ({"type": "integer"}, spread(0, 1), "kind: count, low: 0, high: 2"),
        ({"type": "number"}, spread(1, 2), "kind: number, low: 0, high: 5"),
        ({"type": "any"}, spread(1, 2), "kind: count, low: 0, high: 5"),
        ({"type": "string"}, spread("01", "02"), 'kind: category, levels: ["01", "02"]'),
        ({"type": "string"}, spread(1, 2), "kind: category, levels: [1, 2]"),
        ({"type": "integer", "categories": [{"value": 1}]}, spread(1, 2), "kind: category, levels: [1]"),
        ({"type": "string", "categories": ["b", "a"]}, spread("a", "c"), 'kind: category, levels: ["b", "a"]'),
        ({"title": "The x"}, spread(1, 2), 'kind: count, low: 0, high: 5, description: "The x"'),
        ({"unit": "m"}, spread(1, 2), "kind: count, unit: m, low: 0, high: 5"),
        ({"constraints": {"required": True}}, spread(1, 2), "kind: count, low: 0, high: 5, required: true"),
        ({"constraints": {"minimum": -1, "maximum": 9}}, spread(1, 2), "kind: count, low: -1, high: 9"),
        ({"missingValues": ["", "2"]}, spread(1, 2, 3, 4), "kind: count, low: 0, high: 10, missing: [2]"),
        ({"missingValues": [{"value": "-", "label": "refused"}, "u"]}, spread("a", "u"),
         'kind: category, missing: ["-", "u"], levels: ["a"]'),
        ({"x-mine": 1, "format": "default"}, spread(1, 2), "kind: count, low: 0, high: 5"),
    ],
)  # fmt: skip
def test_what_a_hint_states_is_not_guessed(
    tmp_path: Path, field: dict[str, Any], values: list[object], expected: str
) -> None:
    (tmp_path / "schema.json").write_text(json.dumps({"fields": [{"name": "x", **field}]}))
    data = write(tmp_path / "loans.csv", {"x": values, "TARGET": ALTERNATING})
    assert init(data, "--hint", f"{tmp_path}/schema.json")[-1] == f"  x: {{{expected}}}"


def test_codes_of_the_whole_schema_hold_for_its_fields(tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text(json.dumps({"fields": [{"name": "x"}], "missingValues": ["", "-5"]}))
    data = write(tmp_path / "loans.csv", {"x": spread(1, 2, 3, -5), "TARGET": ALTERNATING})
    assert init(data, "--hint", f"{tmp_path}/schema.json")[-1] == "  x: {kind: count, low: 0, high: 10, missing: [-5]}"


def test_fields_that_the_file_lacks_and_values_of_another_type_are_asked_about(tmp_path: Path) -> None:
    fields = [{"name": "x", "type": "integer"}, {"name": "y"}]
    (tmp_path / "schema.json").write_text(json.dumps({"fields": fields}))
    data = write(tmp_path / "loans.csv", {"x": spread("a", 2.5, 3, 4), "TARGET": ALTERNATING})
    lines = init(data, "--hint", f"{tmp_path}/schema.json")
    assert [line.strip() for line in lines if line.strip().startswith("# ?") and line not in RULES] == [
        "# ? the hint has fields that the file lacks: y: are they needed?",
        '# ? is "1" the bad outcome? it is 50.0% of the rows',
        REQUIRED,
        "# ? x: the hint says count, which is not in 5 of 20 rows: which is right?",
        "# ? x: the hint says whole numbers, and some are not: which is right?",
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[", "no Table Schema: file: Invalid JSON: EOF while parsing a list at line 1 column 1"),
        ("{}", "no Table Schema: fields: Field required"),
        ('{"fields": [{"type": "integer"}]}', "no Table Schema: fields.0.name: Field required"),
        (None, "cannot be read (No such file or directory)"),
    ],
)
def test_what_is_no_table_schema_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, said: str
) -> None:
    if content is not None:
        (tmp_path / "schema.json").write_text(content)
    data = write(tmp_path / "loans.csv", {"x": spread(1, 2), "TARGET": ALTERNATING})
    command = ["init", "--data", str(data), "--output", f"{tmp_path}/mine", "--hint", f"{tmp_path}/schema.json"]
    assert main(command) == 1
    assert capsys.readouterr().err == f"error: {tmp_path}/schema.json: {said}\n"


def test_the_schema_for_editors_is_that_of_the_declaration(tmp_path: Path) -> None:
    committed = ROOT / "configs" / "portfolios" / "portfolio.schema.json"
    assert main(["json-schema", "--output", f"{tmp_path}/schema.json"]) == 0
    assert committed.read_bytes() == (tmp_path / "schema.json").read_bytes()
    assert json.loads(committed.read_text()) == json_schema()
