"""Hashes of identifiers, and whether all are unique, without holding all of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.identifiers import IdentifierSpill, SpilledIdentifiers, count_repeated, hashes_of, sampled

NUMBERS = st.lists(st.none() | st.integers(-(2**63), 2**63 - 1) | st.integers(0, 20), max_size=60)
TEXTS = st.lists(st.none() | st.text(min_size=1, max_size=64) | st.sampled_from("abcd"), max_size=60)


def column(values: list[object], kind: pa.DataType, cut: int = 3) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(values[:cut], kind), pa.array(values[cut:], kind)], kind)


@given(TEXTS, st.integers(0, 5))
def test_a_hash_is_that_of_the_text_alone(texts, cut):
    hashes = hashes_of(column(texts, pa.string(), cut)).tolist()
    alone = [hashes_of(pa.chunked_array([pa.array([text], pa.string())])).tolist()[0] for text in texts]
    assert hashes == alone
    assert [value == 0 for value in hashes] == [text is None for text in texts]


@given(NUMBERS)
def test_a_hash_is_that_of_the_number_alone(numbers):
    hashes = hashes_of(column(numbers, pa.int64())).tolist()
    assert hashes == [hashes_of(pa.chunked_array([pa.array([one], pa.int64())])).tolist()[0] for one in numbers]


@pytest.mark.parametrize("kind", ["numbers", "texts"])
def test_hashes_are_spread_evenly(kind):
    ids = pa.array(range(100_000)) if kind == "numbers" else pa.array([f"client {row}" for row in range(100_000)])
    hashes = hashes_of(pa.chunked_array([ids]))
    assert len(set(hashes.tolist())) == 100_000
    held = np.bincount((hashes >> np.uint64(56)).astype(np.intp), minlength=256)
    assert abs(held - 100_000 / 256).max() < 6 * (100_000 / 256) ** 0.5


def test_hashes_stay_as_they_are():
    """A sample of last month must be that of this month."""
    assert hashes_of(pa.chunked_array([pa.array([0, 1, -1])])).tolist() == [
        16294208416658607535, 10451216379200822465, 16490336266968443936,
    ]  # fmt: skip
    assert hashes_of(pa.chunked_array([pa.array(["a", "b", "ab", "é"])])).tolist()[0] == 12822881965974818961


def test_a_sample_of_half_is_half_and_of_all_is_all():
    hashes = hashes_of(pa.chunked_array([pa.array(range(20_000))]))
    assert sampled(hashes, 1.0).all()
    assert not sampled(hashes, 0.0).any()
    assert abs(sampled(hashes, 0.5).mean() - 0.5) < 0.02


def spilled(path: Path, values: list[object], kind: pa.DataType, batch: int) -> tuple[SpilledIdentifiers, int]:
    with path.open("wb") as file:
        spill = IdentifierSpill(file)
        for first in range(0, len(values), batch):
            identifiers = column(values[first : first + batch], kind)
            spill.add(identifiers, hashes_of(identifiers))
        spill.close()
    return SpilledIdentifiers(path, spill.runs), spill.missing


@given(NUMBERS | TEXTS, st.integers(1, 40), st.integers(1, 30), st.integers(1, 40), st.integers(1, 12))
def test_repetitions_are_counted_exactly_whatever_the_runs_and_parts(
    tmp_path_factory, values, cut, batch, at_once, run
):
    whole = any(isinstance(value, int) for value in values)
    folder, kind = tmp_path_factory.mktemp("spill"), pa.int64() if whole else pa.string()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("scoring.identifiers._RUN", run)
        found = [
            spilled(folder / str(first), values[first : first + cut], kind, batch)
            for first in range(0, len(values), cut)
        ]
    known = [value for value in values if value is not None]
    assert sum(missing for _, missing in found) == len(values) - len(known)
    assert count_repeated([part for part, _ in found], at_once=at_once) == len(known) - len(set(known))
