"""`synthesize --like`: drawn applications that look like a labelled file, and what they give away of it."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from configs.portfolios.home_credit.generator.dataset import APPLICATIONS, synthesize
from features.drawing import UNKNOWN_LEVEL, keep_orders
from features.portfolio import Portfolio
from features.transformer import Columns
from features.validation import find_violations
from jobs.commandline import Progress
from tests.home_credit import PORTFOLIO
from tests.server import ROOT
from training.cli import main
from training.dataset import Dataset, is_generated, load_dataset
from training.generation import Curve, Likeness, Steps, correlations, positive_definite
from training.run import load
from training.settings import TrainingSettings
from training.trainer import train

DECLARED = """name: small
identity: {column: loan, kind: text}
outcome: {column: result, bad: [lost, sold], good: [repaid]}
files: {train: loans, separator: ";", decimal: ","}
columns:
  income: {kind: number, low: 0, high: 1000, required: true}
  rent: {kind: number, low: 0, high: 1000, missing: [-1], required: true}
  debt: {kind: number, missing: [-9]}
  late: {kind: flag}
  job: {kind: category, levels: [clerk, farmer, smith], missing: [XNA]}
  signed: {kind: date, low: 2020-01-01, high: 2024-12-31}
orders: [{smaller: rent, larger: income}]
"""
ROWS = 1_000


def small_rows() -> list[str]:
    """Rows in which low incomes, missing debts and farmers default; one applicant is richer than all others."""
    generator, rows = np.random.default_rng(5), []
    for i in range(ROWS):
        income = round(float(generator.uniform(100, 500)), 2)
        farmer, unknown = generator.random() < 0.3, generator.random() < 0.1
        bad = generator.random() < 0.05 + 0.4 * (income < 200) + 0.2 * farmer
        debt = "" if generator.random() < (0.6 if bad else 0.2) else "-9" if unknown else f"{income * 2:.2f}"
        job = "smith" if i < 5 else "XNA" if unknown else "farmer" if farmer else "clerk"
        day = f"202{i % 4}-0{1 + i % 9}-1{i % 10}"
        values = [i, "lost" if bad else "repaid", 987.65 if i == 9 else income, f"{income / 3:.2f}", debt]
        rows.append(";".join([*map(str, values), str(int(i % 25 == 0)), job, day]).replace(".", ","))
    return rows


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    (folder / "portfolio.yaml").write_text(DECLARED)
    header = "loan;result;income;rent;debt;late;job;signed"
    (folder / "loans.csv").write_text("\n".join([header, *small_rows()]) + "\n")
    return folder


@pytest.fixture(scope="module")
def small_pair(small: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, Dataset]:
    """The small file, and what is drawn of it."""
    output = tmp_path_factory.mktemp("drawn") / "out"
    assert like(small / "loans.csv", output, small, clients=4_000) == 0
    declared = Portfolio.load(small)
    return load_dataset(small, declared), load_dataset(output, declared)


@pytest.fixture(scope="module")
def home_credit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home_credit") / "data"
    synthesize(folder, clients=2_000, seed=3, tables=APPLICATIONS)
    return folder / "application_train.csv"


@pytest.fixture(scope="module")
def home_credit_drawn(home_credit: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("drawn") / "out"
    assert main(["synthesize", "--like", str(home_credit), "--clients", "4000", "--output", str(output)]) == 0
    return output


def like(file: Path, output: Path, portfolio: Path, *options: str, clients: int = 500, seed: int = 7) -> int:
    command = ["synthesize", "--like", str(file), "--clients", str(clients), "--seed", str(seed)]
    return main([*command, "--output", str(output), "--portfolio", str(portfolio), *options])


def numbers(dataset: Dataset, name: str) -> np.ndarray:
    return dataset.columns.numbers[:, dataset.columns.schema.position[name]]


def shares(dataset: Dataset, name: str) -> dict[str | None, float]:
    levels = dataset.columns.levels[:, dataset.columns.schema.position[name]].tolist()
    return {level: count / len(levels) for level, count in Counter(levels).items()}


def rank_correlation(dataset: Dataset, name: str) -> float:
    """That of a number with the outcome."""
    values = numbers(dataset, name)
    known = ~np.isnan(values)
    return float(spearmanr(values[known], dataset.target[known]).statistic)


def test_the_files_are_those_of_the_portfolio(small: Path, tmp_path: Path) -> None:
    assert like(small / "loans.csv", tmp_path / "out", small) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["loans.csv", "true_pd.csv"]
    lines = (tmp_path / "out" / "loans.csv").read_text().splitlines()
    assert lines[0] == '"loan";"result";"income";"rent";"debt";"late";"job";"signed"'
    assert [line.split(";")[0] for line in lines[1:]] == [f'"{i}"' for i in range(1, 501)]
    assert {line.split(";")[1] for line in lines[1:]} == {'"lost"', '"repaid"'}
    assert "." not in "".join(lines)


def test_what_is_given_away_is_said(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert like(small / "loans.csv", tmp_path / "out", small) == 0
    assert capsys.readouterr().out.splitlines() == [
        "read 1,000 applications of loans.csv, drew 500",
        "given away: up to 51 quantiles of each number, shares of values and levels that many rows hold,",
        "  shares of missing values and codes, the default rate, and 12 x 12 rank correlations",
        "smallest group behind a share: 40 rows; rarer levels are pooled as 'a level that nobody declared'",
        "copies: 0 of 500 drawn rows that state 3 numbers or more equal a row that was read",
        "true_pd holds the PD from which each outcome was drawn, and marks these files as generated",
        "this does not make anybody anonymous: there is no differential privacy, so do not publish these files",
    ]


def test_distributions_are_kept(small_pair: tuple[Dataset, Dataset]) -> None:
    read, drawn = small_pair
    assert drawn.target.mean() == pytest.approx(read.target.mean(), abs=0.02)
    for name in ("income", "rent", "signed"):
        expected = np.quantile(numbers(read, name), [0.1, 0.5, 0.9])
        assert np.quantile(numbers(drawn, name), [0.1, 0.5, 0.9]) == pytest.approx(expected, rel=0.05)
    for missing in (np.isnan, lambda values: values == -9):
        assert missing(numbers(drawn, "debt")).mean() == pytest.approx(missing(numbers(read, "debt")).mean(), abs=0.02)
    assert numbers(drawn, "late").mean() == pytest.approx(0.04, abs=0.01)
    assert set(numbers(drawn, "late")) == {0.0, 1.0}


def test_correlations_are_kept(small_pair: tuple[Dataset, Dataset]) -> None:
    read, drawn = small_pair
    for name in ("income", "rent", "late", "signed"):
        assert rank_correlation(drawn, name) == pytest.approx(rank_correlation(read, name), abs=0.08)
    assert rank_correlation(read, "income") < -0.3
    between = [spearmanr(numbers(one, "income"), numbers(one, "rent")).statistic for one in (read, drawn)]
    assert between[1] == pytest.approx(between[0], abs=0.05)
    missing = [np.corrcoef(np.isnan(numbers(one, "debt")), one.target)[0, 1] for one in (read, drawn)]
    assert missing[1] == pytest.approx(missing[0], abs=0.08)


def test_rare_levels_are_not_published(small_pair: tuple[Dataset, Dataset]) -> None:
    read, drawn = small_pair
    assert shares(read, "job")["smith"] == 0.005
    assert "smith" not in shares(drawn, "job")
    assert shares(drawn, "job") == pytest.approx(
        {level: share for level, share in shares(read, "job").items() if level != "smith"}, abs=0.03
    )


def test_enough_rare_levels_are_one_that_nobody_declared(small_pair: tuple[Dataset, Dataset]) -> None:
    read, _ = small_pair
    levels = read.columns.levels.copy()
    levels[:40, 0] = [f"name {i}" for i in range(40)]
    columns = Columns(read.columns.numbers, levels, read.columns.portfolio)
    drawn = Likeness.of(replace(read, columns=columns)).draw(5_000, np.random.default_rng(1)).columns.levels[:, 0]
    found = Counter(drawn.tolist())
    assert found.keys() == {UNKNOWN_LEVEL, "clerk", "farmer", "XNA"}
    assert found[UNKNOWN_LEVEL] == pytest.approx(200, abs=60)


@pytest.mark.parametrize(("known", "published"), [(79, False), (80, True)])
def test_a_number_of_few_rows_is_not_published(
    small_pair: tuple[Dataset, Dataset], known: int, published: bool
) -> None:
    read, _ = small_pair
    columns = Columns(read.columns.numbers.copy(), read.columns.levels, read.columns.portfolio)
    columns.numbers[:, 2] = np.where(np.arange(ROWS) < known, np.arange(ROWS), np.nan)
    drawn = Likeness.of(replace(read, columns=columns)).draw(2_000, np.random.default_rng(1)).columns.numbers[:, 2]
    assert bool((~np.isnan(drawn)).any()) is published
    assert np.nanmin(drawn, initial=20) >= 19
    assert np.nanmax(drawn, initial=20) <= 60


def test_the_highest_value_is_not_published(small_pair: tuple[Dataset, Dataset]) -> None:
    read, drawn = small_pair
    assert numbers(read, "income").max() == 987.65
    assert numbers(drawn, "income").max() <= 500


def test_no_rule_is_broken(small_pair: tuple[Dataset, Dataset]) -> None:
    _, drawn = small_pair
    assert find_violations(drawn.columns) == []
    assert (numbers(drawn, "rent") <= numbers(drawn, "income")).all()


def test_the_generated_portfolio_is_alike(home_credit: Path, home_credit_drawn: Path) -> None:
    read, drawn = load_dataset(home_credit, PORTFOLIO), load_dataset(home_credit_drawn, PORTFOLIO)
    assert find_violations(drawn.columns) == []
    assert drawn.ids.tolist() == list(range(1, 4001))
    assert drawn.target.mean() == pytest.approx(read.target.mean(), abs=0.015)
    for column in read.columns.schema.numeric:
        missing = [np.isnan(numbers(one, column.name)).mean() for one in (read, drawn)]
        assert missing[1] == pytest.approx(missing[0], abs=0.04), column.name
    for name in ("EXT_SOURCE_1", "EXT_SOURCE_2", "EXT_SOURCE_3", "DAYS_BIRTH", "AMT_CREDIT"):
        assert rank_correlation(drawn, name) == pytest.approx(rank_correlation(read, name), abs=0.05), name
    for column in read.columns.schema.categorical:
        known = shares(read, column.name)
        rare = {level for level, share in known.items() if share < 0.01}
        assert not {level for level in rare if level in shares(drawn, column.name)}, column.name
        for level in known.keys() - rare:
            assert shares(drawn, column.name)[level] == pytest.approx(known[level], abs=0.04), column.name


@pytest.mark.parametrize("file_format", ["csv", "parquet"])
def test_the_same_arguments_give_the_same_bytes(small: Path, tmp_path: Path, file_format: str) -> None:
    for name, seed in (("one", 7), ("two", 7), ("other", 8)):
        assert like(small / "loans.csv", tmp_path / name, small, "--format", file_format, seed=seed) == 0
    for table in ("loans", "true_pd"):
        one, two, other = ((tmp_path / x / f"{table}.{file_format}").read_bytes() for x in ("one", "two", "other"))
        assert one == two != other


def test_both_formats_hold_the_same(small: Path, tmp_path: Path) -> None:
    for file_format in ("csv", "parquet"):
        assert like(small / "loans.csv", tmp_path / file_format, small, "--format", file_format) == 0
    first, second = (load_dataset(tmp_path / one, Portfolio.load(small)) for one in ("csv", "parquet"))
    assert np.array_equal(first.columns.numbers, second.columns.numbers, equal_nan=True)
    assert first.columns.levels.tolist() == second.columns.levels.tolist()
    assert (first.ids.tolist(), first.target.tolist()) == (second.ids.tolist(), second.target.tolist())


def test_a_model_of_it_is_marked_as_generated(home_credit_drawn: Path, settings: TrainingSettings) -> None:
    dataset = load(home_credit_drawn, settings, Progress(quiet=True))
    assert is_generated(dataset.source)
    assert train(dataset, settings, Progress(quiet=True)).evaluation["auc"].value > 0.55


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--clients", "99"], "--clients must be at least 100"),
        (["--seed", "-1"], "--clients must be at least 100, and --seed not negative"),
        (["--like", "absent.csv"], "--like absent.csv: no such file"),
        (["--portfolio", "absent"], "absent: "),
    ],
)
def test_wrong_input_gets_one_line(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    assert like(small / "loans.csv", tmp_path / "deep" / "out", small, *options) == 1
    errors = capsys.readouterr().err.splitlines()
    assert errors[-1].startswith(f"error: {said}")
    assert list(tmp_path.iterdir()) == []


def test_data_that_break_a_rule_or_are_too_few_are_refused(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    header, *rows = (small / "loans.csv").read_text().splitlines()
    bad, good = ([row for row in rows if (";lost;" in row) == lost] for lost in (True, False))
    for lines, said in (
        (rows[:99], "loans.csv: too few rows for a likeness, which needs at least 100 rows, and 20 of either outcome"),
        (
            [*bad[:19], *good],
            "loans.csv: too few rows for a likeness, which needs at least 100 rows, and 20 of either outcome",
        ),
        ([*rows, "x;lost;2000;1;1;0;clerk;2024-01-01"], "loans.csv breaks 1 rule: income: must be between 0 and 1000"),
    ):
        file = tmp_path / "loans.csv"
        file.write_text("\n".join([header, *lines]) + "\n")
        assert like(file, tmp_path / "out", small) == 1
        assert capsys.readouterr().err.splitlines()[-1].startswith(f"error: {said}")
    assert list(tmp_path.iterdir()) == [file]


def test_outcomes_of_one_kind_are_refused(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    header, *rows = (small / "loans.csv").read_text().splitlines()
    bad, good = ([row for row in rows if (";lost;" in row) == lost] for lost in (True, False))
    more = [f"{i}x{row}" for i in range(10) for row in good]
    (tmp_path / "loans.csv").write_text("\n".join([header, *bad[:20], *more]) + "\n")
    assert like(tmp_path / "loans.csv", tmp_path / "out", small, clients=100) == 1
    assert capsys.readouterr().err.splitlines()[-1] == "error: --clients: too few, all drawn outcomes are the same"
    assert [path.name for path in tmp_path.iterdir()] == ["loans.csv"]


def test_copies_are_counted(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "portfolio.yaml").write_text(
        "name: flags\noutcome: {column: bad, bad: ['1'], good: ['0']}\n"
        "columns: {a: {kind: flag}, b: {kind: flag}, c: {kind: flag, missing: [9]}}\n"
    )
    rows = [f"{i % 2},{i // 2 % 2},{9 if i % 10 == 0 else 1},{int(i % 3 == 0)}" for i in range(1_000)]
    (tmp_path / "train.csv").write_text("\n".join(["a,b,c,bad", *rows]) + "\n")
    assert like(tmp_path / "train.csv", tmp_path / "out", tmp_path) == 0
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("copies: ")]
    stated = [row for row in (tmp_path / "out" / "train.csv").read_text().splitlines()[1:] if not row.endswith(",9")]
    assert said == [
        f"copies: {len(stated)} of {len(stated)} drawn rows that state 3 numbers or more equal a row that was read"
    ]
    assert 400 < len(stated) < 500


def test_an_output_in_the_way_is_left_alone(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").write_text("mine")
    assert like(small / "loans.csv", tmp_path, small) == 1
    assert capsys.readouterr().err == f"error: {tmp_path}: exists already\n"
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_it_needs_no_mlflow(small: Path, tmp_path: Path) -> None:
    script = (
        "import sys; from training.cli import main; code = main(); sys.exit(code or int('mlflow' in sys.modules) * 9)"
    )
    options = ["--like", str(small / "loans.csv"), "--clients", "200", "--output", str(tmp_path / "out")]
    command = [sys.executable, "-c", script, "synthesize", *options, "--portfolio", str(small)]
    assert subprocess.run(command, cwd=ROOT, check=False, capture_output=True).returncode == 0


def test_steps_are_drawn_by_their_shares() -> None:
    steps = Steps(np.array([5.0, 7.0, 9.0]), np.array([20, 60, 20]))
    assert steps.draw(np.array([0.0, 0.19, 0.21, 0.79, 0.81, 1.0])).tolist() == [5, 5, 7, 7, 9, 9]
    assert steps.scores() == pytest.approx([-1.39981, 0.0, 1.39981], abs=1e-5)


def test_a_curve_draws_no_code_and_no_end(small_pair: tuple[Dataset, Dataset]) -> None:
    column = replace(small_pair[0].columns.schema["debt"], missing=(5.0,))
    curve = Curve.of(np.arange(1_000) / 100 + 0.001, column)
    assert curve.values[[0, -1]].tolist() == [0.19, 9.79]
    drawn = curve.draw(np.linspace(0, 1, 20_001))
    assert drawn.min() == 0.19
    assert drawn.max() == 9.79
    assert 5.0 not in drawn


def test_correlations_see_through_few_values() -> None:
    generator = np.random.default_rng(2)
    latent = generator.multivariate_normal([0, 0], [[1, 0.5], [0.5, 1]], 100_000)
    flag = latent[:, 1] > 1
    rows = np.array([int((~flag).sum()), int(flag.sum())])
    scores = np.column_stack([latent[:, 0], Steps(np.array([0, 1]), rows).scores()[flag.astype(int)]])
    assert correlations(scores)[0, 1] == pytest.approx(0.5, abs=0.02)
    scores[:, 0] = np.nan
    assert correlations(scores).tolist() == [[1, 0], [0, 1]]


def test_an_impossible_matrix_becomes_a_possible_one() -> None:
    near = positive_definite(np.array([[1, 0.9, -0.9], [0.9, 1, 0.9], [-0.9, 0.9, 1]]))
    assert np.linalg.eigvalsh(near)[0] >= 0.000999
    assert np.diag(near).tolist() == [1, 1, 1]
    assert near[0, 1] > 0.4
    assert positive_definite(np.eye(2)).tolist() == np.eye(2).tolist()


ORDERED = """name: ordered
outcome: {column: bad, bad: ["1"], good: ["0"]}
columns:
  low: {kind: count, low: 3, high: 10, missing: [5]}
  middle: {kind: number, low: 0, high: 10, required: true}
  top: {kind: number, low: 0, high: 6}
orders: [{smaller: low, larger: middle}, {smaller: middle, larger: top}]
"""


@pytest.mark.parametrize(
    ("row", "kept"),
    [
        ([4, 5, 6], [4, 5, 6]),
        ([8, 7.5, np.nan], [7, 7.5, np.nan]),
        ([8, 9, 6], [6, 6, 6]),
        ([8, 2, 6], [6, 6, 6]),
        ([8, 2, 2.5], [np.nan, 2.5, 2.5]),
        ([5, 2, 6], [5, 2, 6]),
    ],
)
def test_orders_are_kept(tmp_path: Path, row: list[float], kept: list[float]) -> None:
    (tmp_path / "portfolio.yaml").write_text(ORDERED)
    columns = Columns(np.array([row], dtype=np.float64), np.empty((1, 0), dtype=object), Portfolio.load(tmp_path))
    keep_orders(columns)
    assert np.array_equal(columns.numbers[0], kept, equal_nan=True)
    assert find_violations(columns) == []
