from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from configs.portfolios.home_credit.generator.dataset import APPLICATIONS, total_clients


def test_clients_is_the_number_of_rows_of_the_training_file(train, test):
    assert (len(train), len(test)) == (100_000, 16_000)


@pytest.mark.parametrize(("clients", "total"), [(100, 116), (1_000, 1_160), (20_003, 23_203)])
def test_total_clients(clients, total):
    assert total_clients(clients) == total


def test_identifiers_fill_the_range_from_100001_without_repetition(train, test):
    both = np.sort(np.concatenate([train["SK_ID_CURR"], test["SK_ID_CURR"]]))
    assert np.array_equal(both, np.arange(100_001, 216_001))


def test_later_clients_are_spread_over_the_range(train, test):
    assert abs(train["SK_ID_CURR"].mean() - test["SK_ID_CURR"].mean()) < 1_500


def test_identifiers_say_nothing_about_the_outcome(train):
    assert abs(np.corrcoef(train["SK_ID_CURR"], train["TARGET"])[0, 1]) < 0.01


def test_every_client_has_one_true_pd(train, test, true_pd):
    assert sorted(true_pd.index) == sorted([*train["SK_ID_CURR"], *test["SK_ID_CURR"]])


def test_test_file_has_no_outcome(test):
    assert "TARGET" not in test.columns


def test_identifiers_differ_from_seed_to_seed(generate):
    first, second = (
        pd.read_csv(generate(name, seed=seed, tables=APPLICATIONS) / "application_test.csv")["SK_ID_CURR"].tolist()
        for name, seed in (("first", 1), ("second", 2))
    )
    assert first != second
