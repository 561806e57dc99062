from __future__ import annotations

import lightgbm as lgb
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score


@pytest.fixture(scope="module")
def risk(train: pd.DataFrame, true_pd: pd.Series) -> pd.DataFrame:
    """TARGET and TRUE_PD of the training clients."""
    joined = train[["SK_ID_CURR", "TARGET"]].join(true_pd, on="SK_ID_CURR")
    return joined[["TARGET", "TRUE_PD"]]


def test_true_pd_is_a_probability(true_pd):
    assert true_pd.between(0, 1, inclusive="neither").all()


def test_eight_per_cent_default(risk):
    assert risk["TARGET"].mean() == pytest.approx(0.08, abs=0.003)
    assert set(risk["TARGET"]) == {0, 1}


def test_default_rate_follows_true_pd_in_every_tenth(risk):
    tenths = risk.groupby(pd.qcut(risk["TRUE_PD"], 10, labels=False))
    expected, observed = tenths["TRUE_PD"].mean(), tenths["TARGET"].mean()
    error = np.sqrt(expected * (1 - expected) / tenths.size())
    assert ((observed - expected).abs() < 4 * error).all()


def test_ceiling_of_the_auc(risk):
    assert 0.78 <= roc_auc_score(risk["TARGET"], risk["TRUE_PD"]) <= 0.82


def test_the_same_clients_have_independent_outcomes(risk):
    residual = (risk["TARGET"] - risk["TRUE_PD"]).to_numpy()
    assert abs(np.corrcoef(residual[:-1], residual[1:])[0, 1]) < 0.015


def test_lightgbm_on_the_application_reaches_part_of_the_ceiling(train):
    columns = train.drop(columns=["SK_ID_CURR", "TARGET"])
    text = columns.select_dtypes(exclude="number").columns
    columns[text] = columns[text].astype("category")
    settings = {"objective": "binary", "learning_rate": 0.06, "num_leaves": 15, "min_data_in_leaf": 200}
    settings |= {"feature_fraction": 0.3, "verbose": -1, "seed": 1, "deterministic": True, "num_threads": 2}
    fitted = lgb.train(settings, lgb.Dataset(columns[:60_000], train["TARGET"][:60_000]), num_boost_round=200)
    assert 0.74 <= roc_auc_score(train["TARGET"][60_000:], fitted.predict(columns[60_000:])) <= 0.77


@pytest.mark.parametrize("score", ["EXT_SOURCE_1", "EXT_SOURCE_2", "EXT_SOURCE_3"])
def test_external_scores_rank_best_alone(train, score):
    present = train[score].notna()
    auc = roc_auc_score(train["TARGET"][present], -train[score][present])
    others = train[["AMT_INCOME_TOTAL", "AMT_CREDIT", "AMT_ANNUITY", "DAYS_BIRTH", "REGION_RATING_CLIENT"]][present]
    assert auc > 0.64
    assert auc > max(roc_auc_score(train["TARGET"][present], values) for _, values in others.items())


def by_client(table: pd.DataFrame, values: pd.Series) -> pd.Series:
    return values.groupby(table["SK_ID_CURR"]).mean()


def overdue_share(tables: dict[str, pd.DataFrame]) -> pd.Series:
    bureau = tables["bureau"]
    return by_client(bureau, bureau["AMT_CREDIT_MAX_OVERDUE"] > 0)


def debt_share(tables: dict[str, pd.DataFrame]) -> pd.Series:
    bureau = tables["bureau"].groupby("SK_ID_CURR")[["AMT_CREDIT_SUM_DEBT", "AMT_CREDIT_SUM"]].sum()
    return bureau["AMT_CREDIT_SUM_DEBT"] / bureau["AMT_CREDIT_SUM"].clip(lower=1)


def refused_share(tables: dict[str, pd.DataFrame]) -> pd.Series:
    previous = tables["previous_application"]
    return by_client(previous, previous["NAME_CONTRACT_STATUS"] == "Refused")


def late_share(tables: dict[str, pd.DataFrame]) -> pd.Series:
    payments = tables["installments_payments"]
    return by_client(payments, payments["DAYS_ENTRY_PAYMENT"] > payments["DAYS_INSTALMENT"])


@pytest.mark.parametrize("of_history", [overdue_share, debt_share, refused_share, late_share])
def test_histories_show_risk_that_the_external_scores_do_not(histories, of_history):
    clients = histories["application_train"].set_index("SK_ID_CURR")
    joined = clients[["EXT_SOURCE_2", "EXT_SOURCE_3"]].join(of_history(histories).rename("history"), how="inner")
    joined = joined.join(histories["true_pd"].set_index("SK_ID_CURR")).dropna()
    scores = np.column_stack([np.ones(len(joined)), joined[["EXT_SOURCE_2", "EXT_SOURCE_3"]]])
    log_odds = np.log(joined["TRUE_PD"] / (1 - joined["TRUE_PD"])).to_numpy()
    unexplained = log_odds - scores @ np.linalg.lstsq(scores, log_odds, rcond=None)[0]
    assert np.corrcoef(unexplained, joined["history"])[0, 1] > 0.05
