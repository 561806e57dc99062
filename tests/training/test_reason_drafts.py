"""The draft of reasons: every feature that rests on no protected attribute is covered, and somebody must review it."""

from __future__ import annotations

from pathlib import Path

import pytest

from features.portfolio import Portfolio
from jobs.errors import SettingsError
from tests.features.examples import ROOT
from training.cli import main
from training.settings import TrainingSettings

DECLARED = """name: small
outcome: {column: bad, bad: ["1"], good: ["0"]}
columns:
  income: {kind: number, description: "Income, monthly"}
  debt: {kind: number}
  age: {kind: number, protected: {age: {bands: [25, 40, 62], elderly: 62}}}
features:
  derived:
    share: {is: "debt / income"}
    debt_by_age: {is: "debt / age"}
    no_income: {is: "missing(income)"}
"""
SETTINGS = ROOT / "configs" / "training.yaml"


@pytest.fixture
def drafted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A portfolio file with the draft of its reasons appended."""
    file = tmp_path / "portfolio.yaml"
    file.write_text(DECLARED)
    assert main(["reasons", "--portfolio", str(tmp_path)]) == 0
    file.write_text(DECLARED + capsys.readouterr().out)
    return file


def test_the_draft_covers_what_rests_on_no_protected_attribute(drafted: Path) -> None:
    declared = Portfolio.load(drafted)
    reasons = declared.reasons
    assert reasons is not None
    assert {name: group.reason.code for name, group in reasons.of_feature.items()} == {
        "income": "R01", "debt": "R02", "share": "R02", "no_income": "R01",
    }  # fmt: skip
    assert [reason.text("en") for reason in reasons] == [
        "Income, monthly", "Information that the decision needs is missing", "debt",
    ]  # fmt: skip
    assert reasons.unworded(declared.catalogue, declared.schema.protected(["age"])) == []


def test_nothing_is_trained_before_somebody_has_reviewed_the_words(drafted: Path) -> None:
    with pytest.raises(SettingsError, match="1 open question, the first in line"):
        TrainingSettings.load(SETTINGS, drafted)
    kept = [line for line in drafted.read_text().splitlines(keepends=True) if "# ?" not in line]
    drafted.write_text("".join(kept))
    assert TrainingSettings.load(SETTINGS, drafted).declared.reasons is not None


def test_declared_reasons_are_not_drafted_again(drafted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reasons", "--portfolio", str(drafted)]) == 1
    assert capsys.readouterr().err == f"error: {drafted}: declares its reasons already\n"
