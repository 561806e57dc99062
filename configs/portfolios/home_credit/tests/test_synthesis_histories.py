from __future__ import annotations

import pandas as pd
import pytest

CLIENTS = 6_960
NOT_YET = 365_243


@pytest.fixture(scope="module")
def clients(histories):
    return pd.concat([histories["application_train"], histories["application_test"]]).set_index("SK_ID_CURR")


@pytest.mark.parametrize(
    ("table", "per_client", "tolerance"),
    [
        ("bureau", 5.6, 0.3),
        ("bureau_balance", 5.6 * 16, 8),
        ("previous_application", 5.4, 0.3),
        ("POS_CASH_balance", 32, 3),
        ("credit_card_balance", 12, 1.5),
        ("installments_payments", 44, 4),
    ],
)
def test_rows_per_client(histories, table, per_client, tolerance):
    assert len(histories[table]) / CLIENTS == pytest.approx(per_client, abs=tolerance)


@pytest.mark.parametrize(
    ("table", "share"), [("bureau", 0.134), ("previous_application", 0.054), ("credit_card_balance", 0.73)]
)
def test_some_clients_have_no_history(histories, clients, table, share):
    without = ~clients.index.isin(histories[table]["SK_ID_CURR"])
    assert without.mean() == pytest.approx(share, abs=0.03)


@pytest.mark.parametrize(
    "table", ["bureau", "previous_application", "POS_CASH_balance", "credit_card_balance", "installments_payments"]
)
def test_histories_belong_to_clients(histories, clients, table):
    assert histories[table]["SK_ID_CURR"].isin(clients.index).all()


@pytest.mark.parametrize("table", ["POS_CASH_balance", "credit_card_balance", "installments_payments"])
def test_previous_credits_belong_to_the_same_client(histories, table):
    owner = histories["previous_application"].set_index("SK_ID_PREV")["SK_ID_CURR"]
    assert histories[table]["SK_ID_PREV"].map(owner).equals(histories[table]["SK_ID_CURR"])


def test_previous_and_bureau_identifiers_are_unique(histories):
    assert histories["previous_application"]["SK_ID_PREV"].is_unique
    assert histories["bureau"]["SK_ID_BUREAU"].is_unique


def test_monthly_statuses_belong_to_bureau_credits(histories):
    assert histories["bureau_balance"]["SK_ID_BUREAU"].isin(histories["bureau"]["SK_ID_BUREAU"]).all()


def test_part_of_the_bureau_credits_is_followed_month_by_month(histories):
    followed = histories["bureau"]["SK_ID_BUREAU"].isin(histories["bureau_balance"]["SK_ID_BUREAU"])
    assert followed.mean() == pytest.approx(0.47, abs=0.03)
    assert followed.groupby(histories["bureau"]["SK_ID_CURR"]).nunique().eq(1).all()


def test_clients_without_a_bureau_file_have_no_enquiries(histories, clients):
    filed = clients.index.isin(histories["bureau"]["SK_ID_CURR"])
    assert (clients["AMT_REQ_CREDIT_BUREAU_YEAR"].notna() == filed).all()


@pytest.mark.parametrize(
    ("table", "column", "levels"),
    [
        ("bureau", "CREDIT_ACTIVE", {"Active", "Closed", "Sold"}),
        ("bureau_balance", "STATUS", set("012345CX")),
        ("previous_application", "NAME_CONTRACT_STATUS", {"Approved", "Canceled", "Refused", "Unused offer"}),
        ("previous_application", "NAME_CONTRACT_TYPE", {"Cash loans", "Consumer loans", "Revolving loans"}),
        ("previous_application", "NAME_YIELD_GROUP", {"XNA", "high", "low_action", "low_normal", "middle"}),
        ("previous_application", "NAME_PORTFOLIO", {"Cash", "POS", "Cards", "XNA"}),
        ("previous_application", "NAME_CLIENT_TYPE", {"New", "Refreshed", "Repeater"}),
        ("POS_CASH_balance", "NAME_CONTRACT_STATUS", {"Active", "Completed", "Signed", "Demand"}),
        ("credit_card_balance", "NAME_CONTRACT_STATUS", {"Active", "Completed", "Signed"}),
    ],
)
def test_statuses_are_those_of_the_real_tables(histories, table, column, levels):
    assert set(histories[table][column].dropna()) == levels


@pytest.mark.parametrize("table", ["bureau_balance", "POS_CASH_balance", "credit_card_balance"])
def test_months_are_past_and_distinct(histories, table):
    key = "SK_ID_BUREAU" if table == "bureau_balance" else "SK_ID_PREV"
    assert histories[table]["MONTHS_BALANCE"].between(-97, 0).all()
    assert not histories[table].duplicated([key, "MONTHS_BALANCE"]).any()


def test_bureau_credits_start_before_they_end_and_before_the_application(histories):
    bureau = histories["bureau"]
    ended = bureau.dropna(subset="DAYS_ENDDATE_FACT")
    assert bureau["DAYS_CREDIT"].between(-2_922, -1).all()
    assert (ended["DAYS_CREDIT"] <= ended["DAYS_ENDDATE_FACT"]).all()
    assert (ended["DAYS_ENDDATE_FACT"] < 0).all()
    assert ended["CREDIT_ACTIVE"].eq("Closed").all()
    assert bureau["DAYS_CREDIT_UPDATE"].between(bureau["DAYS_CREDIT"], 0).all()


def test_closed_bureau_credits_owe_nothing(histories):
    bureau = histories["bureau"]
    assert bureau.loc[bureau["CREDIT_ACTIVE"] == "Closed", "AMT_CREDIT_SUM_DEBT"].dropna().eq(0).all()
    assert bureau.loc[bureau["CREDIT_ACTIVE"] == "Active", "AMT_CREDIT_SUM_DEBT"].gt(0).mean() > 0.5


def test_bureau_status_is_closed_only_after_the_end(histories):
    months = histories["bureau_balance"].merge(histories["bureau"][["SK_ID_BUREAU", "CREDIT_ACTIVE"]])
    assert set(months.loc[months["STATUS"] == "C", "CREDIT_ACTIVE"]) == {"Closed"}


def test_delays_get_worse_one_step_at_a_time(histories):
    months = histories["bureau_balance"].sort_values(["SK_ID_BUREAU", "MONTHS_BALANCE"])
    level = months["STATUS"].map({"1": 1, "2": 2, "3": 3, "4": 4, "5": 5}).fillna(0)
    step = level.diff()[months["SK_ID_BUREAU"].eq(months["SK_ID_BUREAU"].shift())]
    assert step.max() == 1


def test_approved_applications_have_dates_and_others_none(histories):
    previous = histories["previous_application"]
    approved = previous["NAME_CONTRACT_STATUS"] == "Approved"
    for column in ("DAYS_FIRST_DRAWING", "DAYS_FIRST_DUE", "DAYS_LAST_DUE_1ST_VERSION", "DAYS_LAST_DUE"):
        assert previous.loc[~approved, column].isna().all()
        assert previous.loc[approved, column].isna().mean() == pytest.approx(0.02, abs=0.01)


@pytest.mark.parametrize(
    ("column", "share"),
    [
        ("DAYS_FIRST_DRAWING", 0.935),
        ("DAYS_FIRST_DUE", 0.045),
        ("DAYS_LAST_DUE_1ST_VERSION", 0.1),
        ("DAYS_LAST_DUE", 0.28),
        ("DAYS_TERMINATION", 0.28),
    ],
)
def test_what_has_not_happened_is_coded(histories, column, share):
    days = histories["previous_application"][column].dropna()
    assert (days == NOT_YET).mean() == pytest.approx(share, abs=0.04)
    assert days[days != NOT_YET].between(-2_922, 2_000).all()


def test_reject_reasons_go_with_refusals(histories):
    previous = histories["previous_application"]
    refused = previous["NAME_CONTRACT_STATUS"] == "Refused"
    assert (~previous["CODE_REJECT_REASON"].isin(["XAP", "CLIENT"]) == refused).all()


def test_canceled_cash_loans_mostly_have_no_amount(histories):
    previous = histories["previous_application"]
    canceled = previous[
        (previous["NAME_CONTRACT_TYPE"] == "Cash loans") & (previous["NAME_CONTRACT_STATUS"] == "Canceled")
    ]
    unpriced = canceled[canceled["AMT_CREDIT"] == 0]
    assert len(unpriced) / len(canceled) > 0.9
    assert unpriced[["AMT_ANNUITY", "CNT_PAYMENT", "AMT_GOODS_PRICE"]].isna().all(axis=None)
    assert set(unpriced["PRODUCT_COMBINATION"]) == {"Cash"}


@pytest.fixture(scope="module")
def instalments(histories):
    """One row per instalment of a loan: what was asked for and what was paid."""
    payments = histories["installments_payments"]
    loans = payments[payments["NUM_INSTALMENT_VERSION"] > 0].assign(unpaid=payments["AMT_PAYMENT"].isna())
    return loans.groupby(["SK_ID_PREV", "NUM_INSTALMENT_NUMBER"]).agg(
        version=("NUM_INSTALMENT_VERSION", "max"),
        asked=("AMT_INSTALMENT", "max"),
        asked_least=("AMT_INSTALMENT", "min"),
        paid=("AMT_PAYMENT", "sum"),
        parts=("AMT_PAYMENT", "size"),
        unpaid=("unpaid", "any"),
    )


def test_payments_add_up_to_the_instalment(instalments):
    settled = instalments[~instalments["unpaid"]]
    assert (instalments["asked"] == instalments["asked_least"]).all()
    assert (settled["paid"] <= settled["asked"]).all()
    assert (settled["paid"] == settled["asked"]).mean() > 0.98
    assert instalments["parts"].value_counts(normalize=True)[2] == pytest.approx(0.05, abs=0.03)


def test_instalments_are_numbered_without_gaps(instalments):
    numbers = instalments.reset_index().groupby("SK_ID_PREV")["NUM_INSTALMENT_NUMBER"]
    assert (numbers.min() == 1).all()
    assert (numbers.max() == numbers.size()).all()


def test_instalments_are_the_agreed_annuity_and_repay_the_credit(instalments, histories):
    previous = histories["previous_application"].set_index("SK_ID_PREV")
    loans = instalments.reset_index().join(previous[["AMT_ANNUITY", "AMT_CREDIT", "CNT_PAYMENT"]], on="SK_ID_PREV")
    regular = loans[loans["version"] == 1]
    assert (regular["asked"] == regular["AMT_ANNUITY"]).all()
    by_loan = loans.groupby("SK_ID_PREV").agg(
        {"asked": "sum", "AMT_CREDIT": "first", "CNT_PAYMENT": "first", "version": "max"}
    )
    complete = (loans.groupby("SK_ID_PREV").size() == by_loan["CNT_PAYMENT"]) | (by_loan["version"] == 2)
    assert complete.mean() > 0.6
    assert (by_loan["asked"] >= 0.999 * by_loan["AMT_CREDIT"])[complete].all()


def test_unpaid_instalments_have_neither_day_nor_amount(histories):
    payments = histories["installments_payments"]
    assert (payments["DAYS_ENTRY_PAYMENT"].isna() == payments["AMT_PAYMENT"].isna()).all()
    assert (payments["DAYS_ENTRY_PAYMENT"].dropna() < 0).all()


def test_remaining_instalments_count_down(histories):
    balance = histories["POS_CASH_balance"].dropna(subset="CNT_INSTALMENT_FUTURE")
    active = balance[balance["NAME_CONTRACT_STATUS"] != "Completed"].sort_values(["SK_ID_PREV", "MONTHS_BALANCE"])
    consecutive = active["SK_ID_PREV"].eq(active["SK_ID_PREV"].shift()) & active["MONTHS_BALANCE"].diff().eq(1)
    assert active["CNT_INSTALMENT_FUTURE"].diff()[consecutive].eq(-1).all()
    completed = balance[balance["NAME_CONTRACT_STATUS"] == "Completed"]
    assert completed["CNT_INSTALMENT_FUTURE"].eq(0).all()
    assert completed["SK_ID_PREV"].is_unique


def test_loans_past_due_have_late_or_open_instalments(histories):
    payments = histories["installments_payments"]
    late = payments["DAYS_ENTRY_PAYMENT"].isna() | (payments["DAYS_ENTRY_PAYMENT"] > payments["DAYS_INSTALMENT"])
    past_due = histories["POS_CASH_balance"].query("SK_DPD > 0")
    assert 0.01 < len(past_due) / len(histories["POS_CASH_balance"]) < 0.04
    assert past_due["SK_ID_PREV"].isin(payments.loc[late, "SK_ID_PREV"]).all()


def test_card_balances_carry_over(histories):
    card = histories["credit_card_balance"].sort_values(["SK_ID_PREV", "MONTHS_BALANCE"])
    same = card["SK_ID_PREV"].eq(card["SK_ID_PREV"].shift())
    before = card["AMT_BALANCE"].shift()
    flow = card["AMT_DRAWINGS_CURRENT"] - card["AMT_PAYMENT_TOTAL_CURRENT"]
    interest = (card["AMT_BALANCE"] - before - flow)[same]
    assert (card["AMT_BALANCE"] >= 0).all()
    assert interest.between(-0.011, 0.021 * before[same] + 0.011).all()


def test_card_drawings_are_the_sum_of_their_kinds(histories):
    card = histories["credit_card_balance"].dropna(subset="AMT_DRAWINGS_ATM_CURRENT")
    kinds = card[[f"AMT_DRAWINGS_{kind}_CURRENT" for kind in ("ATM", "OTHER", "POS")]].sum(axis=1)
    assert (kinds == card["AMT_DRAWINGS_CURRENT"]).all()
