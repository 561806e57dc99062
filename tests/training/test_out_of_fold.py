"""The record of out-of-fold PDs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.features.examples import columns
from training.dataset import Dataset
from training.registry.registry import OutOfFold


def dataset(ids: list[int], *records: dict[str, Any]) -> Dataset:
    return Dataset(np.array(ids), columns(*records), np.zeros(len(ids), dtype=np.int64), "sha", "file")


RECORD = OutOfFold.of(dataset([7, 8, 9], {"AMT_CREDIT": 1000}, {}, {"AMT_CREDIT": 3000}), np.array([0.1, 0.2, 0.3]))


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    RECORD.write(tmp_path / "record.parquet")
    read = OutOfFold.read(tmp_path / "record.parquet")
    assert read.applications.tolist() == RECORD.applications.tolist()
    assert read.probability.tolist() == [0.1, 0.2, 0.3]


def test_rows_are_found_in_any_order_and_unknown_rows_are_nan() -> None:
    found = RECORD.of_rows(dataset([9, 10, 7], {"AMT_CREDIT": 3000}, {}, {"AMT_CREDIT": 1000}))
    np.testing.assert_array_equal(found, [0.3, np.nan, 0.1])


@pytest.mark.parametrize("other", [{"AMT_CREDIT": 1001}, {"AMT_INCOME_TOTAL": 5}, {"NAME_CONTRACT_TYPE": "Other"}])
def test_another_application_under_the_same_identifier_is_unknown(other: dict[str, Any]) -> None:
    assert np.isnan(RECORD.of_rows(dataset([7], {"AMT_CREDIT": 1000} | other))).all()


def test_an_optional_column_does_not_tell_applications_apart() -> None:
    assert RECORD.of_rows(dataset([7], {"AMT_CREDIT": 1000, "AMT_ANNUITY": 50})).tolist() == [0.1]


def test_it_holds_neither_identifiers_nor_amounts() -> None:
    assert set(RECORD.applications.tolist()).isdisjoint({7, 8, 9, 1000, 3000})
