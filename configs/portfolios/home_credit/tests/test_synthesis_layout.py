from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from configs.portfolios.home_credit.generator.dataset import APPLICATIONS
from tests.home_credit import APPLICATION
from tests.skipped import HOME_CREDIT, needs_home_credit

APPLICATION_FILES = {"application_train", "application_test", "true_pd"}
HISTORY_FILES = {
    "bureau",
    "bureau_balance",
    "previous_application",
    "POS_CASH_balance",
    "credit_card_balance",
    "installments_payments",
}
DECLARED = [column.name for column in APPLICATION.stated]


def header(directory: Path, name: str) -> list[str]:
    return pd.read_csv(directory / f"{name}.csv", nrows=0).columns.tolist()


def test_every_file_of_the_layout_is_written(generate):
    assert {path.name for path in generate().iterdir()} == {f"{name}.csv" for name in APPLICATION_FILES | HISTORY_FILES}


def test_parquet_files_have_the_same_names_and_columns(generate):
    text, binary = generate("text"), generate("binary", file_format="parquet")
    for name in APPLICATION_FILES | HISTORY_FILES:
        assert pd.read_parquet(binary / f"{name}.parquet").columns.tolist() == header(text, name)


def test_application_files_alone(generate):
    assert {path.name for path in generate(tables=APPLICATIONS).iterdir()} == {
        f"{name}.csv" for name in APPLICATION_FILES
    }


def test_application_columns_are_the_declared_ones_in_order(generate):
    directory = generate(tables=APPLICATIONS)
    assert header(directory, "application_train") == ["SK_ID_CURR", "TARGET", *DECLARED]
    assert header(directory, "application_test") == ["SK_ID_CURR", *DECLARED]
    assert header(directory, "true_pd") == ["SK_ID_CURR", "TRUE_PD"]


def test_instalments_columns(generate):
    assert header(generate(), "installments_payments") == [
        "SK_ID_PREV",
        "SK_ID_CURR",
        "NUM_INSTALMENT_VERSION",
        "NUM_INSTALMENT_NUMBER",
        "DAYS_INSTALMENT",
        "DAYS_ENTRY_PAYMENT",
        "AMT_INSTALMENT",
        "AMT_PAYMENT",
    ]


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("bureau", 17),
        ("bureau_balance", 3),
        ("previous_application", 37),
        ("POS_CASH_balance", 8),
        ("credit_card_balance", 23),
    ],
)
def test_history_columns_are_distinct_and_complete(generate, name, columns):
    assert len(set(header(generate(clients=100), name))) == columns


@needs_home_credit
@pytest.mark.parametrize(
    "name", ["application_train", "application_test", *sorted(HISTORY_FILES - {"installments_payments"})]
)
def test_headers_are_those_of_the_real_files(generate, name):
    assert header(generate(clients=100), name) == header(HOME_CREDIT, name)
