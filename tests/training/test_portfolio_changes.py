"""`python -m training diff`: what a newer portfolio breaks."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from features.declaration import ColumnDeclaration
from features.portfolio import OutcomeDeclaration, Portfolio, PortfolioDeclaration
from tests.features.examples import ROOT
from tests.features.histories import LENDER
from training.cli import main
from training.portfolio.changes import changes, read_portfolio

KEPT = "a served model keeps the declaration that it was trained with"
DRAWN = "in requests, files and drawn data"
BREAKS = f"{DRAWN} (breaks callers, train again)"
PER_HEAD = {"per_head": {"is": "income / children"}}
SMALL: dict[str, Any] = {
    "name": "small",
    "outcome": {"column": "bad", "bad": ["1"], "good": ["0"]},
    "columns": {
        "income": {"kind": "number", "low": 0, "high": 1000, "missing": [-1, 999]},
        "children": {"kind": "count", "required": True, "low": 0, "high": 20},
        "branch": {"kind": "category", "levels": [1, 2]},
        "job": {"kind": "category", "levels": ["clerk"], "missing": ["?"]},
        "sex": {"kind": "category", "levels": ["f", "m"], "protected": "sex"},
        "opened": {"kind": "date", "low": "2000-01-01"},
    },
    "features": {"domain": PER_HEAD},
}


def edited(*edits: tuple[str, Any]) -> Portfolio:
    """The small portfolio with other values at dotted places; None takes a place away."""
    document = deepcopy(SMALL)
    for place, value in edits:
        *parents, name = place.split(".")
        held = document
        for parent in parents:
            held = held[parent]
        if value is None:
            del held[name]
        else:
            held[name] = value
    return Portfolio.of(document)


MISSING: Any = {"code": "M0", "wording": {"en": "Something is missing"}}


@pytest.mark.parametrize(
    ("place", "value", "expected"),
    [
        ("title", "Small", ["title: changes"]),
        ("reasons", {"missing": MISSING, "groups": {"money": MISSING | {"code": "R1", "columns": ["income"]}}},
         ["reasons: other groups or words (train again)"]),
        ("columns.job.description", "what", ["job: description changes"]),
        ("columns.income.unit", "EUR", ["income: unit changes"]),
        ("columns.job.coded", True, ["job: whole numbers become levels too: 2, 2.0 and '2' are one"]),
        ("columns.branch.levels", [2, 1], ["branch: levels: another order"]),
        ("columns.sex.levels", ["m", "f"],
         ["sex: levels: another order", "sex: protected groups change (train again)"]),
        ("columns.job", None, ["job: removed: requests that state it are refused (breaks callers, train again)"]),
        ("columns.age", {"kind": "count"}, ["age: added, optional (train again)"]),
        ("columns.age", {"kind": "count", "required": True}, ["age: added, required (breaks callers, train again)"]),
        ("columns.income.kind", "count", ["income: number becomes count (breaks callers, train again)"]),
        ("columns.children.kind", "number", ["children: count becomes number (train again)"]),
        ("columns.branch", {"kind": "category", "levels": ["1", "2"]},
         ["branch: whole numbers are refused, texts alone are levels (breaks callers, train again)"]),
        ("columns.income.required", True, ["income: becomes required (breaks callers)"]),
        ("columns.children.required", False, ["children: is no longer required"]),
        ("columns.income.high", 500,
         [f"income: bounds narrowed: between 0 and 1000 becomes between 0 and 500, {BREAKS}"]),
        ("columns.income.low", -5,
         [f"income: bounds widened: between 0 and 1000 becomes between -5 and 1000, {DRAWN} (train again)"]),
        ("columns.opened.low", "2010-01-01",
         [f"opened: bounds narrowed: at least 2000-01-01 becomes at least 2010-01-01, {BREAKS}"]),
        ("columns.income.missing", [999],
         ["income: codes for missing: -1, 999 becomes 999 (breaks callers, train again)"]),
        ("columns.income.missing", [-1], ["income: codes for missing: -1, 999 becomes -1 (train again)"]),
        ("columns.job.missing", None, ["job: codes for missing: ? becomes none (train again)"]),
        ("columns.job.levels", ["clerk", "farmer"], ["job: levels: 1 added, 0 removed"]),
        ("columns.job.most_levels", 10, ["job: most_levels: 100 becomes 10 (train again)"]),
        ("columns.job.protected", "origin", ["job: protected: none becomes origin (train again)"]),
        ("columns.sex.protected", {"sex": {"groups": {"all": ["f", "m"]}}},
         ["sex: protected groups change (train again)"]),
        ("columns.job.calendar", "week", ["job: calendar changes"]),
        ("columns.income.changeable", {"to": "higher", "step": 10},
         ["income: changeable changes (train again)"]),
        ("orders", [{"smaller": "children", "larger": "income"}],
         ["orders: added: children must be at most income (breaks callers)"]),
        ("features.domain.per_head", {"is": "children / income"},
         ["features.per_head: another formula or set (train again)"]),
        ("features.domain.per_head", {"is": " income/children"}, []),
        ("features.domain.per_head.description", "what", ["features.per_head: description changes"]),
        ("features.domain.much", {"is": "income > 10"}, ["features.much: added (train again)"]),
        ("features", {}, ["features.per_head: removed (train again)"]),
        ("outcome.means", "late", ["outcome.means: default becomes late"]),
        ("generator", "made.up", ["generator: changes"]),
        ("example", {"income": 5}, ["example: changes"]),
        ("outcome.good", ["0", "2"], ["outcome: another column, or other values (train again)"]),
        ("training", {"seed": 1}, ["training: other settings (train again)"]),
        ("name", "large", ["name: changes"]),
        ("identity", {"column": "id"}, ["identity: changes"]),
        ("decided_on", "opened", ["decided_on: changes"]),
        ("files", {"train": "loans"}, ["files: changes"]),
    ],
)  # fmt: skip
def test_each_change_is_named_with_its_effect(place: str, value: Any, expected: list[str]) -> None:
    assert [str(change) for change in changes(edited(), edited((place, value)))] == expected


def test_another_order_of_columns_or_features_is_another_model() -> None:
    columns = dict(reversed(SMALL["columns"].items()))
    before = edited(("features.domain.more", {"is": "income > 10"}))
    after = edited(("columns", columns), ("features.domain", {"more": {"is": "income > 10"}, **PER_HEAD}))
    assert [str(change) for change in changes(before, after)] == [
        "columns: another order, in which the model reads them (train again)",
        "features: another order, in which the model reads them (train again)",
    ]


def test_every_key_of_a_declaration_can_change_visibly() -> None:
    """A key that is new in the declaration needs its line in `diff`."""
    assert set(PortfolioDeclaration.model_fields) == {
        *("name", "title", "identity", "outcome", "decided_on", "files", "generator", "columns", "orders", "features"),
        *("example", "training", "reasons", "histories"),
    }
    assert set(ColumnDeclaration.model_fields) == {
        *("kind", "description", "unit", "low", "high", "required", "missing", "protected", "levels", "coded"),
        *("most_levels", "calendar", "changeable"),
    }
    assert set(OutcomeDeclaration.model_fields) == {"column", "bad", "good", "means"}


def test_a_history_that_changes_needs_the_store_to_be_filled_again() -> None:
    before = json.loads(LENDER.content)
    after = json.loads(LENDER.content)
    after["histories"]["credits"]["rollups"]["credits"]["within"] = [90, 364]
    found = [str(change) for change in changes(Portfolio.of(before), Portfolio.of(after))]
    told = "histories.credits: changed: the feature store must be filled again (breaks callers, train again)"
    assert told in found
    assert "credits_365d: removed" in "".join(found)


def test_an_order_that_goes_breaks_nobody() -> None:
    before = edited(("orders", [{"smaller": "children", "larger": "income"}]))
    assert [str(change) for change in changes(before, edited())] == ["orders: removed: children must be at most income"]


def test_a_portfolio_does_not_differ_from_its_canonical_form(tmp_path: Path) -> None:
    loaded = Portfolio.load(ROOT / "configs/portfolios/home_credit")
    (tmp_path / "portfolio.json").write_bytes(loaded.content)
    assert changes(loaded, read_portfolio(tmp_path / "portfolio.json")) == ()


def write(folder: Path, portfolio: Portfolio) -> str:
    folder.mkdir()
    (folder / "portfolio.yaml").write_text(yaml.safe_dump(json.loads(portfolio.content), sort_keys=False))
    return str(folder)


def test_the_exit_code_says_whether_callers_break(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, wider = write(tmp_path / "old", edited()), write(tmp_path / "wider", edited(("columns.income.high", 2000)))
    assert main(["diff", old, wider]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"income: bounds widened: between 0 and 1000 becomes between 0 and 2000, {DRAWN} (train again)",
        f"0 of 1 changes break callers; train again: {KEPT}",
    ]
    assert main(["diff", wider, old]) == 3
    assert capsys.readouterr().out.splitlines()[-1].startswith("1 of 1 changes break callers; train again: ")
    titled = write(tmp_path / "titled", edited(("title", "Small")))
    assert main(["diff", old, titled]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "title: changes",
        f"0 of 1 changes break callers; no new training is needed, though {KEPT}",
    ]


def test_the_changes_may_be_had_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = write(tmp_path / "old", edited()), write(tmp_path / "new", edited(("columns.job", None)))
    assert main(["diff", old, new, "--json"]) == 3
    change = {"place": "job", "what": "removed: requests that state it are refused", "breaks": True, "retrain": True}
    assert json.loads(capsys.readouterr().out) == {"breaks": 1, "retrain": True, "changes": [change]}


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("portfolio.json", "{}", "is no portfolio of an artefact"),
        ("portfolio.json", None, "cannot be read (No such file or directory)"),
        ("portfolio.yaml", "[", "not YAML (expected the node content, but found '<stream end>' in line 1)"),
    ],
)
def test_what_is_no_portfolio_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: str | None, said: str
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    assert main(["diff", f"{tmp_path}/{name}", f"{tmp_path}/{name}"]) == 1
    assert capsys.readouterr().err == f"error: {tmp_path}/{name}: {said}\n"
