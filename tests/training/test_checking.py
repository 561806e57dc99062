"""`python -m training check`: data held against a declaration, before anything is fitted."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.features.examples import ROOT
from training.cli import main
from training.portfolio.commands import served_otherwise
from training.settings import TrainingSettings

DECLARED = """name: small
outcome: {column: bad, bad: ["1"], good: ["0"]}
files: {train: loans}
columns:
  income: {kind: number, low: 0, high: 1000, required: true}
  job: {kind: category, levels: [clerk, farmer]}
"""
ROWS = [f"{100 + i},{'clerk' if i % 3 else 'farmer'},{int(i % 4 == 0)}" for i in range(600)]


def check(folder: Path, declared: str = DECLARED, rows: list[str] = ROWS, header: str = "income,job,bad") -> int:
    (folder / "portfolio.yaml").write_text(declared)
    (folder / "loans.csv").write_text("\n".join([header, *rows]) + "\n")
    return main(["check", "--data", str(folder), "--portfolio", str(folder)])


def faults(capsys: pytest.CaptureFixture[str], folder: Path) -> list[str]:
    """What is said before the last line, which counts the faults."""
    said = capsys.readouterr()
    lines = [line for line in said.out.splitlines() if line.startswith("fault: ")]
    plural = "" if len(lines) == 1 else "s"
    assert said.err == f"error: {folder} does not fit small: {len(lines)} fault{plural}\n"
    return [line.removeprefix("fault: ") for line in lines]


def test_data_that_fit_are_said_to_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(tmp_path) == 0
    assert capsys.readouterr().out == f"{tmp_path} fits small: 600 applications, 150 defaults\n"


PROTECTED = DECLARED.replace("required: true}", "required: true, protected: {age: {bands: [25, 1200]}}}").replace(
    "[clerk, farmer]", "[clerk, farmer, baker], protected: {sex: {groups: {f: [clerk]}}}"
)


def test_what_a_declaration_leaves_open_is_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    declared = f"{PROTECTED}features: {{own: {{half: {{is: income / 2}}}}}}\n".replace("required: true, ", "")
    assert check(tmp_path, declared) == 0
    assert capsys.readouterr().out.splitlines()[:-1] == [
        "left out of the model because of age: income, half",
        "left out of the model because of sex: job",
        "warning: no column is required: an application that states nothing is scored, and may be declined",
        "warning: income: the attribute age has bands outside the bounds, 0 to 1000: 1200",
        "warning: job: the attribute sex has no group for farmer, baker: their applicants are not screened",
    ]


def test_bands_are_held_to_bounds_in_their_own_unit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bands = "protected: {age: {bands: [25, 62, 99], per_unit: -365.25}}"
    declared = DECLARED.replace("low: 0, high: 1000, required: true", f"low: -30000, high: -7000, {bands}")
    check(tmp_path, declared.replace("kind: category", "kind: category, required: true"))
    said = "warning: income: the attribute age has bands outside the bounds, 19.165 to 82.1355: 99"
    assert said in capsys.readouterr().out.splitlines()


def test_the_portfolio_of_the_settings_is_named_where_no_other_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check(tmp_path)
    settings = tmp_path / "training.yaml"
    settings.write_text((ROOT / "configs" / "training.yaml").read_text().replace("portfolios/home_credit", "."))
    capsys.readouterr()
    assert main(["check", "--data", str(tmp_path), "--settings", str(settings)]) == 0
    assert capsys.readouterr().out.splitlines()[0] == f"portfolio small, which {settings} names"


def test_a_name_that_the_service_and_the_bento_do_not_have_is_said_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(tmp_path, f"{DECLARED}training: {{tracking: {{model: mine}}}}\n") == 0
    assert capsys.readouterr().out.splitlines()[0] == (
        "warning: the service does not serve mine yet: write model: mine in configs/serving.yaml, and tag: mine:latest"
        " and alias: mine in bentofile.yaml"
    )


def test_the_project_serves_the_model_that_it_trains(tmp_path: Path) -> None:
    name = TrainingSettings.load(ROOT / "configs" / "training.yaml").tracking.model
    assert list(served_otherwise(name)) == []
    (tmp_path / "configs").mkdir()
    for file in ("configs/serving.yaml", "bentofile.yaml"):
        (tmp_path / file).write_text((ROOT / file).read_text().replace(name, "mine"))
    assert list(served_otherwise("mine", tmp_path)) == []
    (tmp_path / "bentofile.yaml").write_text("service: service:CreditScoring\n")
    assert list(served_otherwise("mine", tmp_path)) == [
        "the service does not serve mine yet: write tag: mine:latest and alias: mine in bentofile.yaml"
    ]


def test_data_that_is_nowhere_is_said_to_be_neither(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check(tmp_path)
    capsys.readouterr()
    assert main(["check", "--data", f"{tmp_path}/none.csv", "--portfolio", str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"error: {tmp_path}/none.csv: no such file or folder\n"


def test_a_portfolio_may_have_categories_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    declared = DECLARED.replace("  income: {kind: number, low: 0, high: 1000, required: true}\n", "")
    assert check(tmp_path, declared) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"{tmp_path} fits small: 600 applications, 150 defaults"


def test_every_violation_is_listed_and_no_value_is_quoted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(tmp_path, rows=["5000,clerk,1", ",clerk,0", "7,farmer,maybe", *ROWS]) == 1
    assert faults(capsys, tmp_path) == [
        "bad: must be 0 or 1 (1 row: 3)",
        "income: is required (1 row: 2)",
        "income: must be between 0 and 1000 (1 row: 1)",
    ]


def test_leaks_and_too_few_rows_are_found_beside_violations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"{900 if i % 4 == 0 else 100 + i},clerk,{int(i % 4 == 0)}" for i in range(200)]
    area, limit = "1.0000 [1.0000, 1.0000]", "leakage.max_column_auc 0.85"
    assert check(tmp_path, rows=["5000,clerk,1", *rows]) == 1
    assert faults(capsys, tmp_path) == [
        "income: must be between 0 and 1000 (1 row: 1)",
        "51 defaults in 201 rows are too few: 5 folds that judge at least 20 rows of either outcome need 100 of either",
        f"loans.csv leaks the outcome: income alone ranks the outcome with AUC {area}, above {limit}",
    ]


def test_an_example_that_a_request_may_not_state_is_a_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(tmp_path, f"{DECLARED}example: {{income: 5000, jbo: clerk}}\n") == 1
    (fault,) = faults(capsys, tmp_path)
    assert fault.endswith("income: Input should be less than or equal to 1000; jbo: Extra inputs are not permitted")


def test_wrong_settings_are_a_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(tmp_path, f"{DECLARED}training: {{model: {{monotone: {{wage: 1}}}}}}\n", rows=ROWS) == 1
    (fault,) = faults(capsys, tmp_path)
    said = "Value error, model.monotone: not numeric features: wage"
    assert fault == f"{tmp_path}/portfolio.yaml: training: file: {said}"


def test_a_wrong_key_is_said_to_be_of_the_file_that_states_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(tmp_path, f"{DECLARED}training: {{policy: {{cost_fn: 0}}}}\n") == 1
    said = "policy.cost_fn: Input should be greater than 0"
    assert faults(capsys, tmp_path) == [f"{tmp_path}/portfolio.yaml: training: {said}"]
    settings = tmp_path / "training.yaml"
    settings.write_text((ROOT / "configs" / "training.yaml").read_text().replace("cost_fn: 10 ", "cost_fn: 0 "))
    (tmp_path / "portfolio.yaml").write_text(f"{DECLARED}training: {{seed: 1}}\n")
    assert main(["run", "--data", str(tmp_path), "--portfolio", str(tmp_path), "--settings", str(settings)]) == 1
    assert capsys.readouterr().err == f"error: {settings}: {said}\n"


def test_open_questions_are_a_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(tmp_path, f"{DECLARED}# ? is it so\n") == 1
    assert faults(capsys, tmp_path) == [f"{tmp_path}/portfolio.yaml: 1 open question, the first in line 7"]


def test_what_is_worth_knowing_is_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"{row},{i}" for i, row in enumerate(ROWS)]
    assert check(tmp_path, rows=[*rows, "10,baker,0,0"], header="income,job,bad,branch") == 0
    assert capsys.readouterr().out.splitlines()[:2] == [
        "warning: rows with a level that is not declared: job (1)",
        "warning: columns that are not declared and were ignored: branch",
    ]


def test_a_later_part_of_one_outcome_is_a_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"{row},2026-01-{'20' if row.endswith(',0') else '10'}" for row in ROWS]
    later = "training: {out_of_time: {column: day, share: 0.2}}\n"
    assert check(tmp_path, DECLARED + later, rows=rows, header="income,job,bad,day") == 1
    assert faults(capsys, tmp_path) == ["day: no later part of 0.2 of the rows holds both outcomes"]


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("income,work,bad", "loans.csv: column missing: job"),
        ("income,job,good", "loans.csv: column missing: bad"),
    ],
)
def test_a_column_that_is_missing_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], header: str, said: str
) -> None:
    assert check(tmp_path, header=header) == 1
    assert capsys.readouterr().err == f"error: {tmp_path}/{said}\n"
