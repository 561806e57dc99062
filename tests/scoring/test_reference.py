"""Drift references: bins, their counts and how they are chosen."""

from __future__ import annotations

import json
import math
import tracemalloc
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from scoring.drift_reference import BinKind, Bins, DriftReference, category_bins, quantile_bins
from scoring.errors import ArtefactError

VALUES = arrays(
    np.float64,
    st.integers(0, 60),
    elements=st.sampled_from([0.0, 1.0, -1.5, np.nan, np.inf, -np.inf]) | st.floats(-5, 5),
)
COUNTS = st.integers(2, 10)


def reference(numbers: NDArray[np.float64], codes: NDArray[np.float64]) -> DriftReference:
    bins = {"AMT_CREDIT": quantile_bins(numbers, 4), "NAME_CONTRACT_TYPE": category_bins(codes, 2)}
    return DriftReference(bins, quantile_bins(numbers, 2), dict.fromkeys(bins, 0.5), len(numbers))


@pytest.fixture
def small() -> DriftReference:
    return reference(np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.0, 1.0, 2.0, np.nan]))


def direct(bins: Bins, value: float) -> int:
    """The bin of one value, by the definition."""
    if np.isnan(value):
        return bins.size - 1
    if bins.kind == "numeric":
        return sum(edge < value for edge in bins.edges)
    return bins.edges.index(value) if value in bins.edges else bins.size - 2


@given(values=VALUES, count=COUNTS)
def test_every_value_is_in_the_bin_of_the_definition(values: NDArray[np.float64], count: int) -> None:
    for bins in (quantile_bins(values, count), category_bins(values, 2)):
        expected = np.bincount([direct(bins, value) for value in values.tolist()], minlength=bins.size)
        assert bins.count(values).tolist() == expected.tolist() == list(bins.counts)


@given(values=VALUES, split=st.integers(0, 60), count=COUNTS)
def test_counts_add_up(values: NDArray[np.float64], split: int, count: int) -> None:
    bins = quantile_bins(values, count)
    parts = bins.count(values[:split]) + bins.count(values[split:])
    assert parts.tolist() == bins.count(values).tolist()


@given(values=VALUES, count=COUNTS)
def test_no_bin_of_a_numeric_reference_is_empty_beside_the_last_two(values: NDArray[np.float64], count: int) -> None:
    finite = values[~np.isinf(values)]
    bins = quantile_bins(finite, count)
    if len(np.unique(finite[~np.isnan(finite)])) > 1:
        assert min(bins.counts[:-2]) > 0


@pytest.mark.parametrize(
    ("values", "edges"),
    [
        (range(1, 101), (10, 20, 30, 40, 50, 60, 70, 80, 90)),
        ([0] * 95 + [1] * 5, (0,)),
        ([1] * 95 + [0] * 5, (0,)),
        ([5] * 90 + [1] * 5 + [9] * 5, (1, 5)),
        ([3] * 10, (3,)),
        ([np.nan] * 3, ()),
        ([], ()),
    ],
    ids=["deciles", "rarely set", "nearly always set", "one main value", "constant", "missing", "none"],
)
def test_the_edges_are_quantiles_and_a_frequent_value_has_its_own_bin(values: list[float], edges: list[float]) -> None:
    assert quantile_bins(np.array(values, dtype=np.float64), 10).edges == edges


def test_a_matrix_is_counted_feature_by_feature(small: DriftReference) -> None:
    matrix = np.array([[0.5, 0.0], [2.5, 1.0], [9.0, 7.0], [np.nan, np.nan]])
    assert small.offsets.tolist() == [0, 6, 10]
    assert small.bin(matrix).tolist() == [1, 0, 1, 1, 0, 1, 1, 1, 1, 1]
    assert small.counts.tolist() == [1, 1, 1, 1, 0, 0, 1, 1, 1, 1]
    assert {name: counts.tolist() for name, counts in small.by_feature(small.bin(matrix)).items()} == {
        "AMT_CREDIT": [1, 0, 1, 1, 0, 1],
        "NAME_CONTRACT_TYPE": [1, 1, 1, 1],
    }
    assert small.bin(np.tile(matrix, (700, 1))).tolist() == (700 * small.bin(matrix)).tolist()


@given(values=VALUES, codes=VALUES, count=COUNTS)
def test_all_features_at_once_are_counted_like_each_by_itself(
    values: NDArray[np.float64], codes: NDArray[np.float64], count: int
) -> None:
    rows = min(len(values), len(codes))
    matrix = np.column_stack([values[:rows], codes[:rows], codes[:rows], values[:rows]])
    bins = (quantile_bins(values, count), category_bins(codes, 3), category_bins(codes, 1), quantile_bins(codes, 2))
    empty = {str(i): Bins.empty(each.kind, each.edges) for i, each in enumerate(bins)}
    counts = DriftReference(empty, Bins.empty("numeric", ()), dict.fromkeys(empty, 0.25), 0).bin(matrix)
    assert counts.tolist() == [n for each, column in zip(bins, matrix.T, strict=True) for n in each.count(column)]


def bin_of(kind: BinKind, levels: int, value: float) -> int:
    """The bin of a value by the definition, where the edges are 0, 1, 2, ... up to `levels`."""
    known = levels + (kind == "numeric")
    if math.isnan(value):
        return known + 1
    if kind == "numeric":
        return min(max(math.ceil(value), 0), levels)
    return int(value) if value.is_integer() and 0 <= value < levels else known


@given(
    features=st.lists(st.tuples(st.sampled_from(["numeric", "category"]), st.integers(2, 5_000)), max_size=5),
    rows=st.integers(0, 600),
    seed=st.integers(0, 1 << 32),
)
def test_flat_counts_are_direct_counts_of_features_of_any_width(
    features: list[tuple[BinKind, int]], rows: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    matrix = np.empty((rows, len(features)))
    for column, (_, levels) in zip(matrix.T, features, strict=True):
        column[:] = random.integers(-2, levels + 2, rows) + random.choice([0.0, 0.5, np.nan], rows, p=[0.8, 0.1, 0.1])
    bins = {str(i): Bins.empty(kind, tuple(map(float, range(n)))) for i, (kind, n) in enumerate(features)}
    reference = DriftReference(bins, Bins.empty("numeric", ()), dict.fromkeys(bins, 0.2), 0)
    counts = reference.bin(matrix)
    assert counts.shape == (sum(each.size for each in bins.values()),)
    parts = reference.by_feature(counts)
    for (name, each), (kind, levels), column in zip(bins.items(), features, matrix.T, strict=True):
        found = Counter(bin_of(kind, levels, value) for value in column.tolist())
        assert parts[name].tolist() == [found[place] for place in range(each.size)]
        assert each.count(column).tolist() == parts[name].tolist()


def test_counting_takes_no_memory_for_the_widest_of_all_features() -> None:
    features, levels = 100, 20_000
    bins = {str(i): Bins.empty("category", tuple(map(float, range(levels if i == 0 else 5)))) for i in range(features)}
    reference = DriftReference(bins, Bins.empty("numeric", ()), dict.fromkeys(bins, 0.01), 0)
    matrix = np.zeros((256, features))
    reference.bin(matrix)
    tracemalloc.start()
    counts = reference.bin(matrix)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(counts) == levels + 2 + (features - 1) * 7
    assert most < features * levels * counts.itemsize / 10


@pytest.mark.parametrize(("kind", "counts"), [("numeric", [1, 1, 0, 1]), ("category", [1, 1, 1])])
def test_features_of_one_kind_only_are_counted(kind: BinKind, counts: list[int]) -> None:
    only = DriftReference({"a": Bins.empty(kind, (0.0,))}, Bins.empty("numeric", ()), {"a": 1.0}, 0)
    assert only.bin(np.array([[0.0], [2.0], [np.nan]])).tolist() == counts


def test_a_model_without_features_has_no_bins() -> None:
    nothing = DriftReference({}, Bins.empty("numeric", ()), {}, 0)
    assert (nothing.offsets.tolist(), nothing.counts.tolist()) == ([0], [])


def test_a_matrix_of_another_width_is_not_counted(small: DriftReference) -> None:
    with pytest.raises(ValueError, match=r"has 2 features, not shape \(1, 3\)$"):
        small.bin(np.zeros((1, 3)))


def test_a_reference_is_read_as_it_was_written(small: DriftReference) -> None:
    again = DriftReference.from_dict(json.loads(json.dumps(small.to_dict())))
    assert again == small
    assert list(again.features) == list(small.features)


@pytest.mark.parametrize(
    ("kind", "edges", "counts"),
    [
        ("ordinal", (), (0, 0, 0)),
        ("numeric", (1.0, 1.0), (0,) * 5),
        ("numeric", (2.0, 1.0), (0,) * 5),
        ("numeric", (np.inf,), (0,) * 4),
        ("numeric", (1.0,), (0,) * 3),
        ("category", (0.0,), (0,) * 4),
        ("numeric", (), (-1, 0, 0)),
        ("numeric", (), (0.5, 0, 0)),
    ],
)
def test_illegal_bins_are_refused(kind: str, edges: tuple[float, ...], counts: tuple[int, ...]) -> None:
    with pytest.raises(ArtefactError):
        Bins(kind, edges, counts)  # type: ignore[arg-type]


def test_a_reference_whose_bins_hold_other_rows_is_refused(small: DriftReference) -> None:
    with pytest.raises(ArtefactError, match="must hold all of its rows"):
        DriftReference(small.features, small.probability, small.importance, small.rows + 1)


def test_a_reference_without_an_importance_is_refused(small: DriftReference) -> None:
    with pytest.raises(ArtefactError, match="needs the importance of each"):
        DriftReference(small.features, small.probability, {"AMT_CREDIT": 1.0}, small.rows)
