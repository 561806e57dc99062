"""The frames that the registered model takes, without MLflow around it."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from features.errors import ColumnsError
from scoring.store import StoredModel
from training.registry.pyfunc import CreditScoringModel


@pytest.fixture(scope="module")
def model(stored: StoredModel) -> CreditScoringModel:
    model = CreditScoringModel()
    model.scorer = stored.scorer
    return model


@pytest.fixture(scope="module")
def frame(generated: Path) -> pd.DataFrame:
    return pd.read_csv(generated / "application_train.csv", nrows=40)


@pytest.mark.parametrize(
    "changes",
    [
        {"FLAG_EMAIL": lambda values: values.astype(bool)},
        {"FLAG_EMAIL": lambda values: values.astype(bool).astype("boolean")},
        {"FLAG_EMAIL": lambda values: values.astype(bool).astype(str)},
        {"AMT_CREDIT": lambda values: values.astype(str)},
        {"AMT_CREDIT": lambda values: values.map(Decimal)},
        {"AMT_CREDIT": lambda values: values.astype("category")},
        {"CODE_GENDER": lambda values: values.astype("category")},
        {"CODE_GENDER": lambda values: values.astype(object)},
        {"OCCUPATION_TYPE": lambda values: values.fillna("<NA>")},
        {"OCCUPATION_TYPE": lambda values: values.fillna(" ")},
        {"AMT_ANNUITY": lambda values: values.astype(object).where(values.notna(), None)},
    ],
)
def test_the_same_value_in_another_container_gives_the_same_probability(
    model: CreditScoringModel, frame: pd.DataFrame, changes: dict[str, Any]
) -> None:
    changed = frame.assign(**{name: change(frame[name]) for name, change in changes.items()})
    assert model.predict_proba(changed).tobytes() == model.predict_proba(frame).tobytes()


@pytest.mark.parametrize("values", [[1, "kgjq4711"], [True, "kgjq4711"], [1.5, b"kgjq4711"], [object(), 4711]])
def test_a_column_without_one_type_is_named_and_not_quoted(
    model: CreditScoringModel, frame: pd.DataFrame, values: list[object]
) -> None:
    mixed = frame.assign(AMT_CREDIT=pd.Series([*values, *[None] * 38], dtype=object))
    with pytest.raises(ColumnsError) as refusal:
        model.predict_proba(mixed)
    assert str(refusal.value) == "AMT_CREDIT: must hold values of one type"


def test_a_repeated_column_is_named(model: CreditScoringModel, frame: pd.DataFrame) -> None:
    with pytest.raises(ColumnsError, match=r"^column repeated: AMT_CREDIT$"):
        model.predict_proba(pd.concat([frame, frame[["AMT_CREDIT"]]], axis=1))
