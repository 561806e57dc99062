"""A model is served only by code that computes what the code that trained it did."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from features import APPLICATION, transformer
from scoring import (
    Artefact,
    ArtefactError,
    Calibration,
    Conformance,
    ConformanceError,
    Scorer,
    policy,
    with_conformance,
)
from scoring.model import Model


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


def test_they_are_the_same_every_time(artefact: Artefact) -> None:
    assert with_conformance(artefact).digest == artefact.digest


def _doubled(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *arguments: 2 * function(*arguments)


@pytest.mark.parametrize(
    ("owner", "name", "change", "named"),
    [
        (transformer._Derived, "of", _doubled, "this code computes another "),
        (transformer._Codes, "__missing__", lambda _: lambda *__: np.nan, "this code computes another "),
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
    far = replace(kept, probability=tuple(1.000_001 * value for value in kept.probability))
    with pytest.raises(ConformanceError, match="another probability"):
        Scorer(replace(artefact, conformance=far))


def test_an_artefact_without_rows_is_not_read(artefact: Artefact, tmp_path: Path) -> None:
    replace(artefact, conformance=Conformance()).write(tmp_path / "artefact")
    with pytest.raises(ArtefactError, match="holds no conformance rows"):
        Artefact.read(tmp_path / "artefact")
