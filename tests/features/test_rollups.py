"""Roll-ups of histories: what each aggregate means, and that nothing but a client's own past changes a bit of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from features import rollups as module
from features.errors import ColumnsError
from features.histories import Histories, HistoryDeclaration
from features.portfolio import IdentityDeclaration
from features.rollups import HistoryRows, roll_up

IDENTITY = IdentityDeclaration(column="client", kind="whole")
CREDITS: dict[str, Any] = {
    "id": "credit",
    "time": {"column": "opened"},
    "columns": {
        "opened": {"kind": "count", "missing": [365243]},
        "amount": {"kind": "number", "missing": [-1]},
        "debt": {"kind": "number"},
        "state": {"kind": "category", "levels": ["active", "closed"]},
    },
    "derived": {"used": "debt / amount", "active": 'state == "active"'},
    "rollups": {
        "credits": {"aggregate": "count"},
        "stated_debts": {"aggregate": "count", "of": "debt"},
        "active_credits": {"aggregate": "count", "where": "active"},
        "debt_sum": {"aggregate": "sum", "of": "debt"},
        "debt_mean": {"aggregate": "mean", "of": "debt", "within": [60, 365]},
        "used_max": {"aggregate": "max", "of": "used"},
        "used_min": {"aggregate": "min", "of": "-used", "where": "active"},
        "debt_last": {"aggregate": "last", "of": "debt"},
        "active_share": {"aggregate": "share", "of": "active"},
        "debt_share": {"aggregate": "share", "of": "debt"},
        "debt_trend": {"aggregate": "trend", "of": "debt"},
        "active_trend": {"aggregate": "trend", "of": "debt", "last": 3, "where": "active"},
        "newest": {"aggregate": "days_since"},
        "newest_active": {"aggregate": "days_since", "where": "active", "within": 90},
        "debts": {"aggregate": "mean", "of": "max(debt, 0)", "last": [1, 2, 3]},
        "active_debts": {"aggregate": "sum", "of": "debt", "where": "active", "last": 2},
        "late_months": {"aggregate": "sum", "of": "late_balances"},
        "worst_balance": {"aggregate": "max", "of": "worst"},
    },
}
BALANCES: dict[str, Any] = {
    "parent": "credits",
    "time": {"column": "month", "unit": "months"},
    "columns": {"month": {"kind": "count"}, "late": {"kind": "count"}},
    "rollups": {
        "late_balances": {"aggregate": "count", "where": "late > 0", "within": 365},
        "worst": {"aggregate": "max", "of": "late"},
    },
}
NOTES: dict[str, Any] = {
    "columns": {"weight": {"kind": "number"}, "topic": {"kind": "category", "levels": ["a", "b"]}},
    "rollups": {
        "weights": {"aggregate": "sum", "of": "weight"},
        "notes_a": {"aggregate": "count", "where": 'topic == "a"'},
    },
}


def histories(**tables: Mapping[str, Any]) -> Histories:
    declared = {name: HistoryDeclaration.model_validate(table) for name, table in tables.items()}
    return Histories.of(declared, IDENTITY)


ALL = histories(credits=CREDITS, balances=BALANCES, notes=NOTES)
NAMES = [column.name for column in ALL.columns]
Row = tuple[Any, ...]
"""The values of one row, and behind them its key and, for credits, its name."""


def rows_of(table: Sequence[Row], width: int, *, named: bool = False) -> HistoryRows:
    """The rows of a table of so many columns; None is missing."""
    values = np.array([[math.nan if one is None else one for one in row[:width]] for row in table], dtype=np.float64)
    names = np.array([row[width + 1] for row in table], dtype=np.int64) if named else None
    keys = np.array([row[width] for row in table], dtype=np.int64)
    return HistoryRows(np.ascontiguousarray(values.reshape(-1, width).T), keys, names)


def tables_of(loans: Sequence[Row], balances: Sequence[Row] = (), notes: Sequence[Row] = ()) -> dict[str, HistoryRows]:
    return {
        "credits": rows_of(loans, 4, named=True), "balances": rows_of(balances, 2), "notes": rows_of(notes, 2),
    }  # fmt: skip


def rolled(tables: Mapping[str, HistoryRows], *clients: int) -> NDArray[np.float64]:
    return roll_up(ALL, tables, np.array(clients, dtype=np.int64))


def of(tables: Mapping[str, HistoryRows], *names: str, client: int = 1) -> list[float | None]:
    """The named roll-ups of a client; None is missing."""
    found = dict(zip(NAMES, rolled(tables, client)[0].tolist(), strict=True))
    return [None if math.isnan(found[name]) else found[name] for name in names]


ACTIVE, CLOSED, UNKNOWN = 0, 1, 2
EXAMPLE = tables_of(
    [
        (-400, 100.0, 50.0, CLOSED, 1, 11),
        (-30, 200.0, 100.0, ACTIVE, 1, 12),
        (-90, 0.0, 30.0, ACTIVE, 1, 13),
        (-10, -1.0, None, UNKNOWN, 1, 14),
        (-5, 10.0, 1.0, ACTIVE, 2, 21),
    ],
    [(-1, 0, 12), (-2, 3, 12), (-13, 9, 12), (-1, 1, 13), (-1, 5, 21), (-1, 5, 99)],
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("credits", 4.0),
        ("stated_debts", 3.0),
        ("active_credits", 2.0),
        ("debt_sum", 180.0),
        ("debt_mean_60d", 100.0),
        ("debt_mean_365d", 65.0),
        ("used_max", 0.5),
        ("used_min", -0.5),
        ("debt_last", 100.0),
        ("active_share", 0.5),
        ("debt_share", 1.0),
        ("newest", 10.0),
        ("newest_active", 30.0),
        ("debts_last1", 0.0),
        ("debts_last2", 50.0),
        ("debts_last3", 130 / 3),
        ("active_debts", 130.0),
        ("active_trend", 70 / 60 * 365.25),
        ("late_months", 2.0),
        ("worst_balance", 9.0),
    ],
)
def test_an_aggregate_means_what_it_says(name, expected):
    assert of(EXAMPLE, name) == [pytest.approx(expected, rel=1e-14)]


def test_a_client_without_rows_has_counts_of_nothing_and_no_other_number():
    found = dict(zip(NAMES, rolled(EXAMPLE, 1, 3)[1].tolist(), strict=True))
    counts = {"credits", "stated_debts", "active_credits", "notes_a"}
    assert {name for name, value in found.items() if value == 0} == counts
    assert {name for name, value in found.items() if math.isnan(value)} == set(NAMES) - counts


def test_a_table_that_is_absent_has_no_rows():
    assert rolled({}, 1).tobytes() == rolled(tables_of([]), 1).tobytes()


def test_a_category_that_is_missing_is_neither_its_level_nor_another_one():
    tables = tables_of([(-1, 1.0, 1.0, None, 1, 11), (-2, 1.0, 1.0, ACTIVE, 1, 12)])
    assert of(tables, "credits", "active_credits", "active_share") == [2.0, 1.0, 1.0]


def test_rows_later_than_the_application_and_rows_without_a_time_are_not_used():
    known = [(-1, 1.0, 5.0, ACTIVE, 1, 11)]
    unusable = [(1, 1.0, 7.0, ACTIVE, 1, 12), (None, 1.0, 7.0, ACTIVE, 1, 13), (365243, 1.0, 7.0, ACTIVE, 1, 14)]
    assert rolled(tables_of([*known, *unusable]), 1).tobytes() == rolled(tables_of(known), 1).tobytes()


def test_a_row_of_the_day_of_the_application_is_used():
    assert of(tables_of([(0, 1.0, 5.0, ACTIVE, 1, 11)]), "credits", "newest") == [1.0, 0.0]


def test_a_slope_needs_two_times():
    tables = tables_of([(-1, 1.0, 5.0, ACTIVE, 1, 11), (-1, 1.0, 7.0, ACTIVE, 1, 12), (-9, 1.0, None, ACTIVE, 1, 13)])
    assert of(tables, "debt_trend") == [None]


def test_times_that_are_equal_have_no_slope_however_their_mean_is_rounded():
    table = {
        "time": {"column": "at", "sign": "positive"},
        "columns": {"at": {"kind": "number", "missing": [9999]}, "size": {"kind": "number"}},
        "rollups": {"slope": {"aggregate": "trend", "of": "size"}, "rows": {"aggregate": "count"}},
    }
    rows = HistoryRows(np.array([[0.1, 0.1, 0.1], [1.0, 2.0, 4.0]]), np.array([1, 1, 1]))
    assert np.array_equal(roll_up(histories(sizes=table), {"sizes": rows}, np.array([1])), [[math.nan, 3.0]], True)
    unknown = HistoryRows(np.array([[9999.0], [1.0]]), np.array([1]))
    assert np.array_equal(roll_up(histories(sizes=table), {"sizes": unknown}, np.array([1])), [[math.nan, 0.0]], True)


def test_there_is_one_zero():
    tables = tables_of(
        [(-1, 1.0, 0.0, ACTIVE, 1, 11), (-1, 1.0, -0.0, ACTIVE, 1, 11), (-0.0, 1.0, -0.0, ACTIVE, 1, 12)]
    )
    found = of(tables, "credits", "used_min", "debt_sum", "debt_last", "newest")
    assert [(value, math.copysign(1, value)) for value in found] == [(value, 1) for value in (2.0, 0.0, 0.0, 0.0, 0.0)]


def test_a_result_that_is_no_number_is_missing():
    tables = tables_of([(-1, 1.0, 1e308, ACTIVE, 1, 11), (-2, 1.0, 1e308, ACTIVE, 1, 12)])
    assert of(tables, "debt_sum", "credits") == [None, 2.0]


def test_the_same_row_of_another_name_counts_and_the_same_row_again_does_not():
    row = (-1, 1.0, 5.0, ACTIVE, 1)
    assert of(tables_of([(*row, 11), (*row, 12), (*row, 11)]), "credits", "debt_sum") == [2.0, 10.0]


def test_a_row_that_belongs_to_a_name_of_two_clients_counts_for_both():
    tables = tables_of([(-1, 1.0, 5.0, ACTIVE, 1, 11), (-1, 1.0, 5.0, ACTIVE, 2, 11)], [(-1, 3, 11)])
    assert [of(tables, "late_months", client=client) for client in (1, 2)] == [[1.0], [1.0]]


def test_names_may_be_texts():
    numbers, texts = EXAMPLE["credits"], EXAMPLE["balances"]
    named = {
        "credits": HistoryRows(numbers.values, as_texts(numbers.keys), as_texts(numbers.ids)),
        "balances": HistoryRows(texts.values, as_texts(texts.keys)),
    }
    clients = np.array(["2", "1"], dtype=object)
    assert roll_up(ALL, named, clients).tobytes() == rolled(EXAMPLE, 2, 1).tobytes()
    assert roll_up(ALL, named, clients[:1]).tobytes() == rolled(EXAMPLE, 2).tobytes()


def as_texts(names: NDArray[np.int64]) -> NDArray[np.object_]:
    return np.array([str(name) for name in names.tolist()], dtype=object)


# Dates: the same history seen from two days.

VISITS: dict[str, Any] = {
    "id": "visit",
    "time": {"column": "on"},
    "columns": {"on": {"kind": "date"}, "cost": {"kind": "number"}},
    "rollups": {
        "visits": {"aggregate": "count"},
        "visit_ago": {"aggregate": "days_since"},
        "paid_sum": {"aggregate": "sum", "of": "paid"},
    },
}
PAYMENTS: dict[str, Any] = {
    "parent": "visits",
    "time": {"column": "paid_on"},
    "columns": {"paid_on": {"kind": "date"}, "amount": {"kind": "number"}},
    "rollups": {"paid": {"aggregate": "sum", "of": "amount"}},
}
DATED = histories(visits=VISITS, payments=PAYMENTS)
DATED_ROWS = {
    "visits": HistoryRows(np.array([[100.0, 200.0], [1.0, 2.0]]), np.array([1, 1]), np.array([5, 6])),
    "payments": HistoryRows(np.array([[120.0, 170.0, 210.0], [3.0, 4.0, 5.0]]), np.array([5, 5, 6])),
}


def test_dates_are_compared_with_the_day_of_each_application_of_a_client():
    found = roll_up(DATED, DATED_ROWS, np.array([1, 1, 1]), np.array([150.0, 200.0, 220.0]))
    assert found.tolist() == [[1.0, 50.0, 3.0], [2.0, 0.0, 7.0], [2.0, 20.0, 12.0]]


def test_an_application_without_a_day_has_no_roll_up_of_dates():
    assert np.isnan(roll_up(DATED, DATED_ROWS, np.array([1]), np.array([math.nan]))).all()


def test_dates_need_the_days_of_the_applications():
    with pytest.raises(ColumnsError, match=r"^visits: on is a date, which needs the days of the applications$"):
        roll_up(DATED, DATED_ROWS, np.array([1]))


def test_values_of_another_shape_are_refused():
    with pytest.raises(ColumnsError, match=r"^notes: 3 columns, not the 2 declared$"):
        rolled({"notes": HistoryRows(np.zeros((3, 1)), np.array([1]))}, 1)


def test_rows_that_another_table_hangs_on_need_names():
    with pytest.raises(ColumnsError, match=r"^credits: the rows need names, since another table hangs on them$"):
        rolled({"credits": HistoryRows(np.zeros((4, 1)), np.array([1]))}, 1)


# Properties. Numbers that few bits hold make ties, duplicates and sums that depend on their order.

TIMES = st.sampled_from([None, 365243, 40, 0, -1, -1, -30, -60, -61, -400]) | st.integers(-800, 3)
NUMBERS = st.sampled_from([None, 0.0, -0.0, -1.0, 0.1, 0.7, 1e16, -1e16, 1e308]) | st.floats(-1e6, 1e6, width=32)
LEVELS = st.sampled_from([None, ACTIVE, CLOSED, UNKNOWN])
CLIENTS = st.integers(1, 6)
CREDIT_ROWS = st.lists(st.tuples(TIMES, NUMBERS, NUMBERS, LEVELS, CLIENTS, st.integers(10, 20)), max_size=40)
BALANCE_ROWS = st.lists(st.tuples(st.integers(-30, 1), st.integers(0, 5), st.integers(10, 20)), max_size=40)
NOTE_ROWS = st.lists(st.tuples(NUMBERS, st.sampled_from([None, 0, 1, 2]), CLIENTS), max_size=20)
TABLES = st.tuples(CREDIT_ROWS, BALANCE_ROWS, NOTE_ROWS)
Tables = tuple[list[Row], list[Row], list[Row]]


@pytest.fixture(autouse=True, params=["together", "in blocks", "in parts"])
def pieces(request, monkeypatch):
    """Rows are computed at once, in blocks of 4, or first split into parts of 5."""
    if request.param == "in blocks":
        monkeypatch.setattr(module, "_BLOCK", 4)
    if request.param == "in parts":
        monkeypatch.setattr(module, "_PART", 5)
        monkeypatch.setattr(module, "_SAMPLED", 2)
        monkeypatch.setattr(module, "_MANY", 3)


def permuted(tables: Tables, shuffle: Callable[[list[Row]], object]) -> Tables:
    copies = tuple(list(rows) for rows in tables)
    for rows in copies:
        shuffle(rows)
    return copies


@settings(max_examples=150, suppress_health_check=[])
@given(tables=TABLES)
def test_a_client_alone_has_the_bits_that_it_has_among_others(tables):
    loans, balances, notes = tables
    together = rolled(tables_of(*tables), *range(1, 8))
    for client in range(1, 8):
        mine = [row for row in loans if row[4] == client]
        names = {row[5] for row in mine}
        alone = tables_of(
            mine, [row for row in balances if row[2] in names], [row for row in notes if row[2] == client]
        )
        assert rolled(alone, client).tobytes() == together[client - 1].tobytes()
        assert rolled(tables_of(*tables), client).tobytes() == together[client - 1].tobytes()


@settings(max_examples=150)
@given(tables=TABLES, random=st.randoms(use_true_random=False))
def test_the_order_of_rows_and_of_clients_changes_no_bit(tables, random):
    clients = random.sample(range(1, 8), 7)
    expected = rolled(tables_of(*tables), *range(1, 8))[np.array(clients) - 1]
    assert rolled(tables_of(*permuted(tables, random.shuffle)), *clients).tobytes() == expected.tobytes()


@settings(max_examples=150)
@given(tables=TABLES, random=st.randoms(use_true_random=False))
def test_rows_that_are_there_twice_change_no_bit(tables, random):
    twice = tuple(rows + random.choices(rows, k=5) if rows else rows for rows in tables)
    expected = rolled(tables_of(*tables), *range(1, 8))
    assert rolled(tables_of(*permuted(twice, random.shuffle)), *range(1, 8)).tobytes() == expected.tobytes()


@settings(max_examples=100)
@given(
    tables=TABLES,
    later=st.lists(st.tuples(st.integers(1, 900), NUMBERS, NUMBERS, LEVELS, CLIENTS, st.integers(10, 20))),
)
def test_planted_later_rows_change_no_bit(tables, later):
    loans, balances, notes = tables
    planted = tables_of([*later, *loans], [*balances, *((row[0], 9, row[5]) for row in later)], notes)
    assert rolled(planted, *range(1, 8)).tobytes() == rolled(tables_of(*tables), *range(1, 8)).tobytes()


@settings(max_examples=100)
@given(tables=TABLES, size=st.integers(1, 6))
def test_chunks_of_clients_change_no_bit(tables, size):
    rows, clients = tables_of(*tables), range(1, 8)
    chunks = [rolled(rows, *clients[start : start + size]) for start in range(0, 7, size)]
    assert np.concatenate(chunks).tobytes() == rolled(rows, *clients).tobytes()


@settings(max_examples=50)
@given(tables=TABLES)
def test_the_layout_of_the_memory_changes_no_bit(tables):
    rows = tables_of(*tables)
    other = {name: HistoryRows(np.asfortranarray(one.values), one.keys, one.ids) for name, one in rows.items()}
    assert rolled(other, *range(1, 8)).tobytes() == rolled(rows, *range(1, 8)).tobytes()


def test_the_rows_that_are_given_are_not_changed():
    before = {name: (rows.values.tobytes(), rows.keys.tobytes()) for name, rows in EXAMPLE.items()}
    rolled(EXAMPLE, 1, 2, 3)
    assert {name: (rows.values.tobytes(), rows.keys.tobytes()) for name, rows in EXAMPLE.items()} == before


# A reference in plain Python, one client and one roll-up at a time.

Record = dict[str, float]


def clean(value: float | None, *missing: float) -> float:
    return math.nan if value is None or value in missing else float(value)


def records(table: Sequence[Row], names: Sequence[str], owner: int, key: int) -> list[Record]:
    """The distinct rows of an owner, the newest first, with their ages."""
    mine = {tuple(None if one is None else one + 0.0 for one in row) for row in table if row[len(names)] == owner}
    return [dict(zip([*names, "key", "id"], row, strict=False)) for row in mine]


def days_before(row: Record, time: str, days: float) -> float:
    return clean(row[time], 365243) * -days


def recent(rows: list[Record], time: str, days: float = 1.0) -> list[Record]:
    aged = [{**row, "age": days_before(row, time, days)} for row in rows]
    return sorted((row for row in aged if row["age"] >= 0), key=lambda row: row["age"])


def present(values: list[float]) -> list[float]:
    return [value for value in values if not math.isnan(value)]


def slope(pairs: list[tuple[float, float]]) -> float:
    pairs = [(age, value) for age, value in pairs if not math.isnan(value)]
    if len({age for age, _ in pairs}) < 2:
        return math.nan
    xs, ys = [-age / 365.25 for age, _ in pairs], [value for _, value in pairs]
    x, y = math.fsum(xs) / len(xs), math.fsum(ys) / len(ys)
    return math.fsum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True)) / math.fsum((a - x) ** 2 for a in xs)


def mean(values: list[float]) -> float:
    return math.fsum(present(values)) / len(present(values)) if present(values) else math.nan


def total(values: list[float]) -> float:
    return math.fsum(present(values)) if present(values) else math.nan


def of_reference(tables: Tables, client: int) -> dict[str, float]:
    loans = recent(records(tables[0], ["opened", "amount", "debt", "state"], client, 4), "opened")
    for row in loans:
        balances = recent(records(tables[1], ["month", "late"], int(row["id"]), 2), "month", 30.4375)
        row["late_balances"] = float(sum(one["late"] > 0 and one["age"] <= 365 for one in balances))
        row["worst"] = max((one["late"] for one in balances), default=math.nan)
        amount, row["debt"] = clean(row["amount"], -1.0), clean(row["debt"])
        row["used"] = row["debt"] / amount if amount else math.nan
        row["active"] = math.nan if row["state"] is None else float(row["state"] == ACTIVE)
    active = [row for row in loans if row["active"] == 1]
    debts = [row["debt"] for row in loans]
    used = present([row["used"] for row in loans])
    notes = records(tables[2], ["weight", "topic"], client, 2)
    return {
        "credits": len(loans),
        "stated_debts": len(present(debts)),
        "active_credits": len(active),
        "debt_sum": total(debts),
        "debt_mean_60d": mean([row["debt"] for row in loans if row["age"] <= 60]),
        "debt_mean_365d": mean([row["debt"] for row in loans if row["age"] <= 365]),
        "used_max": max(used, default=math.nan),
        "used_min": min(present([-row["used"] for row in active]), default=math.nan),
        "active_share": mean([row["active"] for row in loans]),
        "debt_share": mean([float(debt != 0) if debt == debt else debt for debt in debts]),
        "debt_trend": slope([(row["age"], row["debt"]) for row in loans]),
        "newest": min((row["age"] for row in loans), default=math.nan),
        "newest_active": min((row["age"] for row in active if row["age"] <= 90), default=math.nan),
        "late_months": total([row["late_balances"] for row in loans]),
        "worst_balance": max(present([row["worst"] for row in loans]), default=math.nan),
        "weights": total([clean(row["weight"]) for row in notes]),
        "notes_a": sum(row["topic"] == 0 for row in notes),
    }  # fmt: skip


TAME = st.sampled_from([None, 0.0, -1.0, 0.5]) | st.integers(-1000, 1000).map(float)
TAME_TABLES = st.tuples(
    st.lists(st.tuples(TIMES, TAME, TAME, LEVELS, CLIENTS, st.integers(10, 20)), max_size=40),
    BALANCE_ROWS,
    st.lists(st.tuples(TAME, st.sampled_from([None, 0, 1, 2]), CLIENTS), max_size=20),
)


@settings(max_examples=200)
@given(tables=TAME_TABLES)
def test_every_aggregate_agrees_with_plain_python(tables):
    found = rolled(tables_of(*tables), *range(1, 8))
    for client in range(1, 8):
        mine = dict(zip(NAMES, found[client - 1].tolist(), strict=True))
        for name, expected in of_reference(tables, client).items():
            assert mine[name] == pytest.approx(expected, rel=1e-9, abs=1e-9, nan_ok=True), name


@settings(max_examples=150)
@given(tables=TAME_TABLES)
def test_the_newest_rows_agree_with_plain_python_where_no_two_times_are_equal(tables):
    unique = list({(row[0], row[4]): row for row in tables[0]}.values())
    found = rolled(tables_of(unique), *range(1, 8))
    for client in range(1, 8):
        mine = dict(zip(NAMES, found[client - 1].tolist(), strict=True))
        rows = recent(records(unique, ["opened", "amount", "debt", "state"], client, 4), "opened")
        debts = [clean(row["debt"]) for row in rows]
        active = [clean(row["debt"]) for row in rows if row["state"] == ACTIVE]
        ages = [row["age"] for row in rows if row["state"] == ACTIVE]
        expected = {
            "debt_last": next(iter(present(debts)), math.nan),
            "active_debts": total(active[:2]),
            "active_trend": slope(list(zip(ages, active, strict=True))[:3]),
        }
        expected |= {f"debts_last{k}": mean([max(present([debt, 0.0])) for debt in debts[:k]]) for k in (1, 2, 3)}
        for name, value in expected.items():
            assert mine[name] == pytest.approx(value, rel=1e-9, abs=1e-9, nan_ok=True), name
