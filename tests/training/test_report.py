"""The report of a model."""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from features.reasons import Reason
from scoring.artefact import Artefact, Conformance
from scoring.scorer import Scorer
from scoring.waterfall import number
from tests.home_credit import PORTFOLIO
from tests.training.page import Page
from training.dataset import Dataset, load_dataset
from training.report.figures import ReportTable, model_figures, place_in_interval
from training.report.model_report import model_report
from training.report.model_tables import REQUIREMENTS, SECTIONS, reason_findings
from training.run import Delivered
from training.settings import TrainingSettings
from training.trainer import TrainedModel, lineage

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def dataset(generated: Path, delivered: Delivered) -> Dataset:
    return replace(load_dataset(generated, PORTFOLIO), source=delivered.registered.source)


def artefact_of(trained: TrainedModel, dataset: Dataset, settings: TrainingSettings, commit: str | None) -> Artefact:
    return trained.artefact(lineage(dataset, settings, run_id="1234", commit=commit, code="5678"))


def written(
    dataset: Dataset, trained: TrainedModel, settings: TrainingSettings, *, commit: str | None = "c0ffee"
) -> str:
    drawn = model_figures(dataset.target, trained, settings)
    artefact = artefact_of(trained, dataset, settings, commit)
    return model_report(dataset, trained, artefact, settings, drawn=drawn)


@pytest.fixture(scope="module")
def text(dataset: Dataset, delivered: Delivered, settings: TrainingSettings) -> str:
    return written(dataset, delivered.trained, settings)


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page.of(text)


def changed(settings: TrainingSettings, **sections: dict[str, object]) -> TrainingSettings:
    values = settings.model_dump(mode="json")
    for name, section in sections.items():
        values[name] |= section
    return TrainingSettings.model_validate(values)


def findings(page: Page) -> str:
    return page.between("Look at this first", "Many intervals are shown")


def test_every_section_is_there_in_order(page: Page) -> None:
    expected = [f"{i}. {title}" for i, title in enumerate(SECTIONS.values(), 1)]
    assert [heading for level, heading in page.headings if level == "h2"] == expected
    assert [heading for level, heading in page.headings if level == "h1"] == ["Model report"]


def test_it_needs_nothing_but_itself(page: Page, text: str) -> None:
    assert page.tags.isdisjoint({"script", "link", "img", "iframe", "object", "embed", "base", "form", "image"})
    assert page.attributes("src") == []
    assert [link for link in page.attributes("href", "xlink:href") if not link.startswith("#")] == []
    assert [address for address in re.findall(r"url\(([^)]*)\)", text) if not address.startswith("#")] == []
    assert re.findall(r"https?:|//\w|@import", text) == []


def test_every_reference_within_it_arrives(page: Page, text: str) -> None:
    ids = page.attributes("id")
    links = [link.removeprefix("#") for link in page.attributes("href", "xlink:href")]
    named = [name for names in page.attributes("aria-labelledby") for name in names.split()]
    assert len(ids) == len(set(ids))
    assert {*links, *named, *re.findall(r"url\(#([^)]*)\)", text)} <= set(ids)
    assert set(SECTIONS) <= set(links)


def test_every_requirement_is_answered_somewhere_or_left_to_the_lender(page: Page) -> None:
    assert {name for requirement in REQUIREMENTS for name in requirement.sections} <= set(SECTIONS)
    assert [one.topic for one in REQUIREMENTS if not one.sections and not one.open] == []
    shown = [(row[0], row[1], row[3]) for row in page.tables["requirements"][0][1:]]
    assert shown == [(one.text, one.topic, one.open) for one in REQUIREMENTS]


def test_the_measures_are_those_of_the_artefact(
    page: Page, dataset: Dataset, delivered: Delivered, settings: TrainingSettings
) -> None:
    metrics = artefact_of(delivered.trained, dataset, settings, None).metrics
    shown = [row[1:3] for row in page.tables["outcomes"][0][1:]]
    expected = [
        [f"{one['value']:.4f}", f"{one['low']:.4f} to {one['high']:.4f}"]
        for one in (vars_of(estimate) for estimate in metrics["estimates"].values())
    ]
    assert sorted(shown) == sorted(expected)


def vars_of(estimate: object) -> dict[str, float]:
    assert isinstance(estimate, dict)
    return estimate


def test_risk_levels_cut_offs_and_prices_are_those_of_the_artefact(
    page: Page, dataset: Dataset, delivered: Delivered, settings: TrainingSettings
) -> None:
    metrics = artefact_of(delivered.trained, dataset, settings, None).metrics
    levels = [
        [
            str(level["level"]),
            f"{level['rows']:,}",
            f"{100 * level['mean_probability']:.2f} %",
            f"{100 * level['default_rate']['value']:.2f} %",
        ]
        for level in metrics["levels"]
    ]
    cutoffs = [[f"{one['cutoff']:.4f}", f"{one['cost_per_applicant']:.4f}"] for one in metrics["thresholds"]]
    price = metrics["price_of_protected_attributes_auc"]
    assert [[row[0], row[2], row[4], row[5]] for row in page.tables["outcomes"][1][1:]] == levels
    assert [row[1:3] for row in page.tables["policies"][1][1:]] == cutoffs
    assert page.tables["policies"][0][1][2:4] == [
        f"{price['value']:.4f} AUC",
        f"{price['low']:.4f} to {price['high']:.4f}",
    ]


def test_bands_decisions_and_groups_hold_every_application(page: Page, dataset: Dataset) -> None:
    _, levels, bands, decisions, *_ = page.tables["outcomes"]
    tables = {"levels": (levels, 2), "bands": (bands, 1), "decisions": (decisions, 2)}
    tables |= {f"groups {i}": (groups, 1) for i, groups in enumerate(page.tables["fairness"])}
    counted = {
        name: sum(int(row[column].replace(",", "")) for row in rows[1:]) for name, (rows, column) in tables.items()
    }
    assert counted == dict.fromkeys(tables, len(dataset))
    assert len(tables) == 6


def test_gates_say_what_the_judgement_says(page: Page, delivered: Delivered) -> None:
    """The training's own rows are judged by the same out-of-fold PDs."""
    shown = {row[0]: row[1:3] for row in page.tables["gates"][0][1:] if row[3] in ("met", "missed")}
    judged = {gate.name: [gate.figure, gate.limit] for gate in delivered.verdict.gates}
    assert len(shown) == 7
    assert shown == {name: judged[name] for name in shown}


def test_it_says_where_the_model_comes_from(
    page: Page, dataset: Dataset, delivered: Delivered, settings: TrainingSettings
) -> None:
    identity = dict(row for row in page.tables["lineage"][0][1:])
    assert identity["digest of the artefact, SHA-256"] == (
        artefact_of(delivered.trained, dataset, settings, "c0ffee").digest
    )
    assert (identity["MLflow run"], identity["commit of the code"]) == ("1234", "c0ffee")
    data = dict(row for row in page.tables["data"][0][1:])
    assert data["SHA-256 of the data"] == dataset.fingerprint
    assert f"seed: {settings.seed}\n" in page.text
    assert settings.tracking.uri not in page.text


def test_another_process_writes_the_same_bytes(
    text: str, dataset: Dataset, delivered: Delivered, settings: TrainingSettings, tmp_path: Path
) -> None:
    """Neither a clock nor the order of sets, which differs from process to process, is in it."""
    artefact = artefact_of(delivered.trained, dataset, settings, "c0ffee")
    (tmp_path / "given").write_bytes(pickle.dumps((dataset, delivered.trained, artefact, settings)))
    script = (
        "import pickle, pathlib, sys; from training.report.model_report import write_report;"
        "given, folder = sys.argv[1:];"
        "write_report(pathlib.Path(folder), *pickle.loads(pathlib.Path(given).read_bytes()))"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "given"), str(tmp_path)]
    subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONHASHSEED": "7"}, check=True)
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == written_after_png(
        dataset, delivered.trained, settings, tmp_path / "again"
    )
    assert len(list((tmp_path / "figures").glob("*.png"))) == 7
    assert len(text) > 100_000


def written_after_png(dataset: Dataset, trained: TrainedModel, settings: TrainingSettings, folder: Path) -> str:
    from training.report.model_report import write_report

    folder.mkdir()
    artefact = artefact_of(trained, dataset, settings, "c0ffee")
    return write_report(folder, dataset, trained, artefact, settings).read_text(encoding="utf-8")


def test_no_applicant_can_be_read_off_it(
    page: Page, dataset: Dataset, delivered: Delivered, settings: TrainingSettings
) -> None:
    words = set(re.findall(r"[\w.]+", page.text))
    precise = {f"{value:.10g}" for value in dataset.columns.numbers.ravel() if len(f"{value:.10g}") > 7}
    assert len(precise) > 3000
    assert words.isdisjoint(map(str, dataset.ids))
    assert words.isdisjoint(precise)
    numbers, levels = dataset.columns.numbers.copy(), dataset.columns.levels.copy()
    numbers[5], levels[5] = 918273645.5, "a canary"
    altered = replace(dataset, columns=type(dataset.columns)(numbers, levels, dataset.portfolio))
    other = written(altered, delivered.trained, settings)
    assert "other or not stated" in other
    assert re.findall("canary|918273645", other) == []


def test_of_small_groups_only_the_size_is_shown(
    dataset: Dataset, delivered: Delivered, settings: TrainingSettings
) -> None:
    page = Page.of(written(dataset, delivered.trained, changed(settings, report={"min_rows": 1_000_000})))
    rows = [row for table in page.tables["fairness"] for row in table[1:]]
    assert len(rows) > 8
    assert {cell for row in rows for cell in row[2:]} == {"\N{EN DASH}"}


def test_what_names_hold_is_escaped(dataset: Dataset, delivered: Delivered, settings: TrainingSettings) -> None:
    hostile = replace(dataset, source="<script>alert(1)</script>", warnings=('"><img src=x>',))
    page = Page.of(written(hostile, delivered.trained, settings))
    assert page.tags.isdisjoint({"script", "img"})
    assert "<script>alert(1)</script>" in page.text


def test_a_model_of_generated_data_says_so(
    page: Page, dataset: Dataset, delivered: Delivered, settings: TrainingSettings
) -> None:
    real = Page.of(written(replace(dataset, source="application_train.csv"), delivered.trained, settings))
    assert "must not decide on any" in page.text
    assert "generated data" in findings(page)
    assert "generated" not in real.text


def test_it_says_that_the_declined_are_unknown_and_that_nothing_was_judged_later(page: Page) -> None:
    assert "Those who were declined." in page.text
    assert "Without dates nothing could be judged out of time." in page.text


def test_later_applications_are_shown_where_there_are_any(
    dataset: Dataset, delivered: Delivered, settings: TrainingSettings
) -> None:
    aged = replace(delivered.trained, later=delivered.trained.evaluation)
    page = Page.of(written(dataset, aged, settings))
    assert page.tables["outcomes"][-1] == page.tables["outcomes"][0]
    assert "Without dates" not in page.text
    assert "Not judged on later applications" not in findings(page)
    judged = [(row[0], row[3]) for row in page.tables["gates"][0][1:5]]
    assert judged == [
        ("AUC, lower end", "met"),
        ("ECE", "met"),
        ("cost against the cheaper blanket rule", "met"),
        ("adverse impact ratios (screening)", "at promotion"),
    ]


@pytest.mark.parametrize(
    ("sections", "commit", "finding"),
    [
        ({"gates": {"min_auc": 0.999}}, "c0ffee", "Gate missed: AUC, lower end is "),
        ({"features": {"without": ["sex"]}}, "c0ffee", "Protected attributes in the model: marital status, age."),
        ({}, "c0ffee-dirty", "The code had changes that were not committed"),
        ({}, None, "The code was not in a repository"),
    ],
)
def test_what_stands_out_is_said_first(
    dataset: Dataset,
    delivered: Delivered,
    settings: TrainingSettings,
    page: Page,
    sections: dict[str, dict[str, object]],
    commit: str | None,
    finding: str,
) -> None:
    other = Page.of(written(dataset, delivered.trained, changed(settings, **sections), commit=commit))
    assert finding in findings(other)
    assert finding not in findings(page)


def test_a_gate_that_could_judge_nothing_is_not_said_to_be_met(
    dataset: Dataset, delivered: Delivered, settings: TrainingSettings, page: Page
) -> None:
    few = changed(settings, gates={"fairness": {"min_impact_ratio": 0.5, "min_rows": 1_000_000}})
    other = Page.of(written(dataset, delivered.trained, few))
    results = {row[0]: row[3] for row in other.tables["gates"][0][1:] if "impact" in row[0]}
    assert len(results) == 4
    assert set(results.values()) == {"not screened"}
    assert "Not screened: adverse impact ratio by sex (screening), too few rows." in findings(other)
    assert "not all screened" in other.text
    assert "not all screened" not in page.text


def test_the_price_of_directions_is_shown(dataset: Dataset, delivered: Delivered, settings: TrainingSettings) -> None:
    directed = changed(settings, model={"monotone": {"EXT_SOURCE_2": -1}})
    trained = replace(delivered.trained, monotone_price=delivered.trained.price)
    page = Page.of(written(dataset, trained, directed))
    protected, monotone, _ = page.tables["policies"][0][1:]
    assert monotone[1] == "EXT_SOURCE_2 may only lower the PD"
    assert monotone[2:] == protected[2:]


@pytest.mark.parametrize(
    ("value", "verdict"),
    [(0.1, "too low"), (0.2, "inside"), (0.3, "inside"), (0.31, "too high"), (None, "\N{EN DASH}")],
)
def test_a_mean_pd_is_held_against_the_interval(delivered: Delivered, value: float | None, verdict: str) -> None:
    interval = replace(delivered.trained.price, value=0.25, low=0.2, high=0.3)
    assert place_in_interval(value, interval) == verdict


def test_a_table_has_a_cell_for_every_column() -> None:
    with pytest.raises(ValueError, match="every row must have 2 cells"):
        ReportTable.of("lr", ("a", "b"), [("1", "2"), ("1",)])


def test_figures_are_drawn(dataset: Dataset, delivered: Delivered, settings: TrainingSettings) -> None:
    assert list(model_figures(dataset.target, delivered.trained, settings)) == [
        "roc", "precision_recall", "calibration", "confusion_matrix", "score_distribution", "feature_importance",
        "dependence",
    ]  # fmt: skip
    assert np.unique(dataset.target).tolist() == [0, 1]


def test_the_reasons_of_declines_are_counted_and_the_mean_decisions_drawn(
    page: Page, text: str, dataset: Dataset, delivered: Delivered, settings: TrainingSettings
) -> None:
    found = reason_findings(dataset, artefact_of(delivered.trained, dataset, settings, "c0ffee"), settings)
    assert found is not None
    scores = delivered_scorer(delivered, dataset, settings).score(dataset.columns)
    declines = [reasons[0] for reasons in scores.reasons.tolist() if reasons]
    assert (found.rows, found.declines) == (len(dataset), len(declines))
    assert sum(int(row[2]) for row in found.first.rows) == len(declines)
    assert found.first.rows[0][:2] == (commonest(declines).code, commonest(declines).text("en"))
    assert list(found.waterfalls) == ["decline", "approve"]
    assert text.count('class="waterfall"') == 2
    margin = scores.margin[scores.decision == "decline"].mean()
    assert f"The mean decline: {number(margin)}, PD " in page.text
    assert "prefers-color-scheme" not in text


def test_a_decision_of_too_few_applications_is_not_drawn(
    dataset: Dataset, delivered: Delivered, settings: TrainingSettings
) -> None:
    artefact = artefact_of(delivered.trained, dataset, settings, "c0ffee")
    found = reason_findings(dataset, artefact, changed(settings, report={"min_rows": len(dataset)}))
    assert found is not None
    assert found.waterfalls == {}


def test_a_model_without_reasons_has_none_in_its_report(
    dataset: Dataset, delivered: Delivered, settings: TrainingSettings
) -> None:
    bare = replace(artefact_of(delivered.trained, dataset, settings, None), reasons=None, conformance=Conformance())
    assert reason_findings(dataset, bare, settings) is None


def commonest(reasons: list[Reason]) -> Reason:
    return min(Counter(reasons).items(), key=lambda one: (-one[1], one[0].code))[0]


def delivered_scorer(delivered: Delivered, dataset: Dataset, settings: TrainingSettings) -> Scorer:
    return Scorer(artefact_of(delivered.trained, dataset, settings, "c0ffee"))
