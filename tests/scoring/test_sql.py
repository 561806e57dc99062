"""Float64 arithmetic and formulas in SQL: the bits of NumPy, at every extreme, in both databases."""

from __future__ import annotations

from itertools import product

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from benchmarks.export import DuckDB, PostgreSQL
from features.formulas import Call, Constant, Source
from features.operations import OPERATIONS
from scoring.errors import ExportError
from scoring.sql import Dialect, Formulas, Query, chained, number, rounded

TINY, LARGEST = 5e-324, float(np.finfo(np.float64).max)
EDGES = [
    np.nan, 0.0, 1.0, -1.0, 0.5, 2.0, 0.1, 3.0, 1 / 3, 1 + 2**-52, 1 - 2**-53, -0.7, 12345.678, 1e-16, 2.0**53,
    TINY, -TINY, 2.2e-308, 1e-300, -1e-200, 1e-160, 1.5e-154, 1e154, 1.4e154, 1e160, -1e290, 1e300, 8.99e307, LARGEST,
    -LARGEST, np.inf, -np.inf,
]  # fmt: skip
DDL = "CREATE TABLE applications (row bigint, a double precision, b double precision, c double precision)"


def rows_of(*values: list[float]) -> NDArray[np.float64]:
    """The combinations as columns, shape (values, rows)."""
    return np.array(list(product(*values))).T


def computed(database: DuckDB | PostgreSQL, call: Call, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """What the database computes of the columns a, b and c; NULL is NaN."""
    padded = np.vstack([values, np.full((3 - len(values), values.shape[1]), np.nan)])
    table = pa.table([pa.array(range(values.shape[1])), *map(pa.array, padded)], names=["row", "a", "b", "c"])
    database.load(DDL, table)
    query = Query(database.dialect)
    taken = {name: query.take("x", f"nullif(CAST({name} AS float8), 'NaN'::float8)") for name in "abc"}
    found = Formulas(query, taken, lambda *_: pytest.fail("no category is read")).of(call)
    selected = query.select({"row": query.take("r", "row"), "value": found}, "applications")
    return np.array([np.nan if value is None else value for _, value in sorted(database.run(selected))])


def of_numpy(operation: str, *values: NDArray[np.float64], weights: tuple[float, ...] = ()) -> NDArray[np.float64]:
    weight = np.array(weights).reshape(-1, 1, 1)
    with np.errstate(all="ignore"):
        return np.asarray(OPERATIONS[operation](np.array(values)[:, np.newaxis, :], weight)[0])


A, B, C = Source("a"), Source("b"), Source("c")


@pytest.mark.parametrize(
    "operation",
    ["ratio", "difference", "plus", "product", "coalesce", "minimum", "maximum", "every", "either", "less", "at_most",
     "more", "at_least", "equal", "unequal", "missing_count", "total", "deviation"],
)  # fmt: skip
def test_operations_of_two_values_have_the_bits_of_numpy(database: DuckDB | PostgreSQL, operation: str) -> None:
    values = rows_of(EDGES, EDGES)
    np.testing.assert_array_equal(computed(database, Call(operation, (A, B)), values), of_numpy(operation, *values))


@pytest.mark.parametrize("operation", ["absolute", "missing", "negation", "deviation", "total", "minimum"])
def test_operations_of_one_value_have_the_bits_of_numpy(database: DuckDB | PostgreSQL, operation: str) -> None:
    values = rows_of(EDGES)
    np.testing.assert_array_equal(computed(database, Call(operation, (A,)), values), of_numpy(operation, *values))


@pytest.mark.parametrize("operation", ["when", "clip", "product", "deviation", "missing_count"])
def test_operations_of_three_values_have_the_bits_of_numpy(database: DuckDB | PostgreSQL, operation: str) -> None:
    values = rows_of(EDGES[:14:2], EDGES[:14], EDGES[14::2])
    np.testing.assert_array_equal(computed(database, Call(operation, (A, B, C)), values), of_numpy(operation, *values))


@pytest.mark.parametrize("weight", [-1.0, 0.3, 1e-310, 1e308])
def test_weights_have_the_bits_of_numpy(database: DuckDB | PostgreSQL, weight: float) -> None:
    values = rows_of(EDGES)
    expected = of_numpy("scaled", *values, weights=(weight,))
    np.testing.assert_array_equal(computed(database, Call("scaled", (Constant(weight), A)), values), expected)


def test_weighted_means_have_the_bits_of_numpy(database: DuckDB | PostgreSQL) -> None:
    values = rows_of(EDGES, EDGES)
    call = Call("weighted_mean", (Constant(2.0), Constant(1.0), A, B))
    expected = of_numpy("weighted_mean", *values, weights=(2.0, 1.0))
    np.testing.assert_array_equal(computed(database, call, values), expected)


def test_logarithms_are_within_four_units_of_the_last_place(database: DuckDB | PostgreSQL) -> None:
    small = [*np.geomspace(1e-20, 1e20, 400), *-np.geomspace(1e-20, 0.999, 200)]
    values = rows_of([*EDGES, *small])
    found, expected = computed(database, Call("log1p", (A,)), values), of_numpy("log1p", *values)
    with np.errstate(invalid="ignore"):
        near = np.abs(found - expected) <= 4 * np.spacing(np.abs(expected))
    assert (near | (found == expected) | (np.isnan(found) & np.isnan(expected))).all()


def test_rounding_is_half_to_even(database: DuckDB | PostgreSQL) -> None:
    database.load(
        DDL, pa.table({"row": pa.array([], pa.int64()), **{name: pa.array([], pa.float64()) for name in "abc"}})
    )
    values = [-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 0.49999999999999994, 2.4, -2.6]
    shown = ", ".join(f"({i}, {number(value)})" for i, value in enumerate(values))
    found = database.run(f"SELECT i, {rounded('x_1')} FROM (VALUES {shown}) AS held(i, x_1) ORDER BY i")  # noqa: S608
    assert [value for _, value in found] == np.rint(values).tolist()


def test_the_same_text_is_computed_once_and_what_nobody_reads_never() -> None:
    query = Query(Dialect.DUCKDB)
    taken = query.take("x", "a")
    first, again = query.define("f", f"{taken} + 1"), query.define("g", f"{taken} + 1")
    query.define("f", f"{taken} + 2")
    selected = query.select({"a": first}, "applications")
    assert first == again
    assert selected.count(f"{taken} + 1") == 1
    assert f"{taken} + 2" not in selected


def test_a_name_inside_quotes_is_no_column() -> None:
    query = Query(Dialect.DUCKDB)
    taken = query.take("x", "a")
    plain = query.define("f", f"'{taken}'")
    assert "SELECT\n  'x_0' AS f_1\nFROM stage0" in query.select({"a": plain, "b": taken}, "t").replace("x_0,\n  ", "")


def test_many_operands_are_grouped() -> None:
    text = chained("+", [str(i) for i in range(3_000)], "0")
    assert text.count("(") == 61 + 2
    assert eval(text) == sum(range(3_000))  # noqa: S307 - a sum of literals, made above


def test_postgresql_has_a_limit_of_columns() -> None:
    query = Query(Dialect.POSTGRESQL)
    columns = {str(i): query.take("x", f"a{i}") for i in range(1_601)}
    with pytest.raises(ExportError, match="at most 1600 columns"):
        query.select(columns, "applications")
