"""A model is served only by code that computes what the code that trained it did."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from features import transformer
from features.drawing import draw_columns
from features.transformer import Columns
from scoring import policy
from scoring.artefact import Artefact, Conformance
from scoring.drift_reference import Bins
from scoring.errors import ArtefactError, ConformanceError
from scoring.model import Calibration, Model
from scoring.scorer import Scorer, with_conformance
from tests.home_credit import APPLICATION, PORTFOLIO


def test_the_rows_meet_what_is_declared(artefact: Artefact) -> None:
    """Each column is known and missing somewhere, each level and each code occurs, and the trees part the rows."""
    kept = artefact.conformance
    numbers, levels = np.array(kept.numbers, dtype=np.float64), list(zip(*kept.levels, strict=True))
    for column, values in zip(APPLICATION.numeric, numbers.T, strict=True):
        assert np.isnan(values).any()
        assert (~np.isnan(values)).any()
        assert {float(code) for code in column.missing} <= set(values.tolist())
        legal = values[~np.isnan(values) & ~np.isin(values, [float(code) for code in column.missing])]
        assert ((legal >= column.low) & (legal <= column.high)).all()
    for column, found in zip(APPLICATION.categorical, levels, strict=True):
        assert {None, "a level that nobody declared", *map(str, column.missing)} <= set(found)
    assert len(set(kept.margin)) > 0.9 * len(kept)
    assert kept.missing[0] == max(kept.missing) > 0 == kept.missing[1]


def test_the_first_row_is_empty_and_the_second_lacks_nothing(artefact: Artefact) -> None:
    kept, known = artefact.conformance, artefact.features.vocabularies
    assert (set(kept.numbers[0]), set(kept.levels[0])) == ({None}, {None})
    assert None not in kept.numbers[1]
    legal = [[*known.get(column.name, ()), *column.levels] for column in APPLICATION.categorical]
    assert kept.levels[1] == tuple(levels[0] for levels in legal)


def drawn(**bins: Bins) -> Columns:
    return draw_columns(PORTFOLIO, 128, seed=1, edges={name: found.edges for name, found in bins.items()})


def test_three_numbers_in_ten_and_two_levels_in_ten_are_at_an_edge() -> None:
    raw = drawn()
    assert raw.numbers.shape == (128, len(APPLICATION.numeric))
    fractions = [values for column, values in zip(APPLICATION.numeric, raw.numbers[2:].T, strict=True)
                 if (column.low, column.high, column.whole) == (0, 1, False)]  # fmt: skip
    at_an_edge = np.mean([np.isnan(values) | (values == 0) | (values == 1) for values in fractions])
    assert 0.27 < at_an_edge < 0.33
    special = [
        [level is None or level == "a level that nobody declared" or level in column.missing for level in levels]
        for column, levels in zip(APPLICATION.categorical, raw.levels[2:].T, strict=True)
    ]
    assert 0.16 < np.mean(special) < 0.24


def test_a_number_is_drawn_up_to_a_million_and_between_the_edges_of_its_bins() -> None:
    bins = {
        "EXT_SOURCE_1": Bins("numeric", (0.4, 0.6), (1, 1, 1, 0, 0)),
        "EXT_SOURCE_2": Bins("numeric", (0.5,), (2, 1, 0, 0)),
    }
    raw = drawn(**bins)
    of = {
        column.name: values[~np.isnan(values)]
        for column, values in zip(APPLICATION.numeric, raw.numbers.T, strict=True)
    }
    assert (of["AMT_CREDIT"].min(), of["AMT_CREDIT"].max()) == (1.0, 1e6)
    ordinary = of["EXT_SOURCE_1"][~np.isin(of["EXT_SOURCE_1"], [0, 1])]
    assert (0.4 <= ordinary.min() < 0.41, 0.59 < ordinary.max() <= 0.6) == (True, True)
    halves = of["EXT_SOURCE_2"][~np.isin(of["EXT_SOURCE_2"], [0, 1])]
    assert (halves.min() < 0.1, halves.max() > 0.9) == (True, True)


def test_a_feature_is_the_sha_256_of_its_values_with_one_zero_and_one_nan(scorer: Scorer) -> None:
    raw = drawn()
    matrix = scorer.transformer.transform(raw)
    expected = {
        name: hashlib.sha256(
            np.where(np.isnan(values), np.nan, np.where(values == 0, 0.0, values)).astype("<f8").tobytes()
        ).hexdigest()
        for name, values in zip(scorer.features, matrix.T, strict=True)
    }
    assert dict(Conformance.of(raw, scorer).features) == expected


def test_they_are_the_same_every_time(artefact: Artefact) -> None:
    assert with_conformance(artefact).digest == artefact.digest


def _doubled(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *arguments: 2 * function(*arguments)


@pytest.mark.parametrize(
    ("owner", "name", "change", "named"),
    [
        (transformer._Group, "of", _doubled, "this code computes another "),
        (transformer.LevelCodes, "__missing__", lambda _: lambda *__: np.nan, "this code computes another "),
        (Model, "margins", _doubled, "this code gives another margin "),
        (Calibration, "log_odds", _doubled, "this code gives another "),
        (Calibration, "probabilities", _doubled, "this code gives another "),
        (policy.PointScale, "points", lambda f: lambda self, odds: f(self, 0.5 * odds), " points "),
        (policy.DecisionPolicy, "outcomes", lambda f: lambda self, pd: f(self, 0.5 * pd), " decision "),
        (policy.DecisionPolicy, "risk_levels", lambda f: lambda self, pd: f(self, 0.1 * pd), " risk_level "),
    ],
)
def test_code_that_computes_something_else_is_refused(
    artefact: Artefact,
    monkeypatch: pytest.MonkeyPatch,
    owner: type,
    name: str,
    change: Callable[[Callable[..., Any]], Callable[..., Any]],
    named: str,
) -> None:
    monkeypatch.setattr(owner, name, change(getattr(owner, name)))
    with pytest.raises(ConformanceError, match=named):
        Scorer(artefact)


def test_the_last_bits_of_a_probability_may_be_the_processor_s(artefact: Artefact) -> None:
    """NumPy's exp is not the same on all processors."""
    kept = artefact.conformance
    close = replace(kept, probability=tuple(np.nextafter(value, 1.0) for value in kept.probability))
    assert Scorer(replace(artefact, conformance=close)).artefact.conformance == close
    far = replace(kept, probability=tuple((1 + 1.5e-12) * value for value in kept.probability))
    with pytest.raises(ConformanceError, match="another probability"):
        Scorer(replace(artefact, conformance=far))


def test_an_artefact_without_rows_is_not_read(artefact: Artefact, tmp_path: Path) -> None:
    replace(artefact, conformance=Conformance()).write(tmp_path / "artefact")
    with pytest.raises(ArtefactError, match="holds no conformance rows"):
        Artefact.read(tmp_path / "artefact")
