from __future__ import annotations

import numpy as np
import pytest


@pytest.mark.parametrize(
    ("column", "level", "before", "after"),
    [
        ("NAME_CONTRACT_TYPE", "Revolving loans", 0.097, 0.008),
        ("FLAG_EMAIL", 1, 0.056, 0.154),
        ("FLAG_DOCUMENT_3", 1, 0.71, 0.78),
        ("FLAG_DOCUMENT_16", 1, 0.009, 0.0),
        ("FLAG_DOCUMENT_13", 1, 0.003, 0.0),
        ("FLAG_DOCUMENT_18", 1, 0.0075, 0.002),
    ],
)
def test_shares_move(train, test, column, level, before, after):
    assert (train[column] == level).mean() == pytest.approx(before, rel=0.05, abs=0.002)
    assert (test[column] == level).mean() == pytest.approx(after, rel=0.08, abs=0.002)


@pytest.mark.parametrize(
    ("column", "before", "after"),
    [
        ("EXT_SOURCE_1", 0.565, 0.43),
        ("EXT_SOURCE_3", 0.197, 0.187),
        ("AMT_REQ_CREDIT_BUREAU_QRT", 0.135, 0.124),
        ("NAME_TYPE_SUITE", 0.004, 0.018),
        ("EXT_SOURCE_2", 0.0022, 0.0022),
    ],
)
def test_missing_shares_move(train, test, column, before, after):
    assert train[column].isna().mean() == pytest.approx(before, abs=0.012)
    assert test[column].isna().mean() == pytest.approx(after, abs=0.012)


@pytest.mark.parametrize(
    ("column", "low", "high"),
    [
        ("AMT_CREDIT", 0.8, 0.92),
        ("AMT_GOODS_PRICE", 0.8, 0.92),
        ("AMT_ANNUITY", 1.02, 1.2),
        ("AMT_REQ_CREDIT_BUREAU_MON", 0.01, 0.1),
        ("AMT_REQ_CREDIT_BUREAU_QRT", 1.8, 2.3),
        ("AMT_INCOME_TOTAL", 0.98, 1.02),
        ("DAYS_BIRTH", 0.99, 1.01),
    ],
)
def test_means_move(train, test, column, low, high):
    assert low < test[column].mean() / train[column].mean() < high


@pytest.mark.parametrize("number", [2, 4, 10, 12, 13, 14, 15, 16, 17, 19, 20, 21])
def test_rare_documents_vanish(test, number):
    assert test[f"FLAG_DOCUMENT_{number}"].eq(0).all()


def test_what_a_score_says_about_the_risk_does_not_change(train, test, true_pd):
    bins = np.linspace(0.1, 0.8, 8)
    by_score = [
        true_pd.loc[frame["SK_ID_CURR"]].groupby(np.digitize(frame["EXT_SOURCE_2"], bins)).mean()
        for frame in (train.dropna(subset="EXT_SOURCE_2"), test.dropna(subset="EXT_SOURCE_2"))
    ]
    assert by_score[1].to_numpy() == pytest.approx(by_score[0].to_numpy(), rel=0.2)
