"""A model's report is one self-contained HTML page for those who judge the risk of using the model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from jinja2 import Environment
from matplotlib.figure import Figure

from jobs.output import templates
from scoring.artefact import Artefact
from scoring.store import REPORT
from training.dataset import Dataset, is_generated
from training.evaluation import Evaluation
from training.gates import Gate, GroupPerformance
from training.report import figures, model_tables, outcome_tables
from training.report.alternatives_page import RESULT, chapter
from training.report.figures import decimal, model_figures, place_in_interval, svg, write_png
from training.report.model_tables import REQUIREMENTS, SECTIONS
from training.search.frontier import FoundAlternatives
from training.settings import TrainingSettings
from training.trainer import TrainedModel

_NO_COMMIT = "The code was not in a repository: which code trained this model cannot be told."
_DIRTY = "The code had changes that were not committed: the commit alone does not reproduce this model."
_GENERATED = "Trained on generated data: no figure here says anything about real applicants."
_NO_LATER = "Not judged on later applications: the data gave no date, so ageing of the model is not measured."


def findings(
    dataset: Dataset,
    trained: TrainedModel,
    artefact: Artefact,
    settings: TrainingSettings,
    *,
    gates: Sequence[Gate],
    groups: Mapping[str, Sequence[GroupPerformance]],
) -> Iterator[str]:
    """Yield one sentence for each finding: a missed gate, a group or level out of line, ageing, an unclear origin."""
    if is_generated(dataset.source):
        yield _GENERATED
    yield from _of_gates(gates)
    yield from _of_policy(settings)
    yield from _of_calibration(trained.evaluation)
    for attribute, performances in groups.items():
        yield from _of_groups(attribute, performances, settings)
    if trained.later is None:
        yield _NO_LATER
    else:
        yield from _of_later(trained.evaluation, trained.later)
    commit = artefact.lineage["commit"]
    if commit is None or commit.endswith("-dirty"):
        yield _NO_COMMIT if commit is None else _DIRTY
    for warning in dataset.warnings:
        yield f"Data: {warning}."


def _of_gates(gates: Sequence[Gate]) -> Iterator[str]:
    for gate in gates:
        if not gate.passed:
            yield f"Gate missed: {gate.name} is {gate.figure}, asked for {gate.limit}. It cannot be promoted like this."
        elif not gate.judged:
            yield f"Not screened: {gate.name}, {gate.figure}."


def _gates_met(gates: Sequence[Gate]) -> str:
    """Say in a word or two whether the gates are met."""
    if not all(gate.passed for gate in gates):
        return "missed"
    return "met" if all(gate.judged for gate in gates) else "not all screened"


def _of_policy(settings: TrainingSettings) -> Iterator[str]:
    inside = [
        attribute.replace("_", " ")
        for attribute in settings.declared.schema.attributes
        if attribute not in settings.features.without
    ]
    if inside:
        yield f"Protected attributes in the model: {', '.join(inside)}."


def _of_calibration(evaluation: Evaluation) -> Iterator[str]:
    for level in evaluation.levels:
        verdict = place_in_interval(level.mean_probability, level.default_rate)
        if verdict.startswith("too"):
            yield f"Calibration: the mean PD of risk level {level.level} is {verdict} for what was observed."


def _of_groups(attribute: str, performances: Sequence[GroupPerformance], settings: TrainingSettings) -> Iterator[str]:
    least, name = settings.gates.fairness.min_impact_ratio, str(attribute).replace("_", " ")
    for performance in performances:
        group, observed = performance.group.name, performance.observed
        if performance.impact_ratio is not None and performance.impact_ratio.value < least:
            ratio, reference = performance.impact_ratio, performance.impact_ratio.reference.name
            yield f"Fairness: {name} {group} has an impact ratio of {decimal(ratio.value)} against {reference}."
        if observed is None:
            continue
        verdict = place_in_interval(observed.mean_probability, observed.default_rate)
        if verdict.startswith("too"):
            yield f"Fairness: the mean PD of {name} {group} is {verdict} for what was observed."


def _of_later(evaluation: Evaluation, later: Evaluation) -> Iterator[str]:
    # The later rows are other rows, so no paired difference exists; intervals that do not meet are the stricter test.
    if later["auc"].high < evaluation["auc"].low:
        yield f"Ageing: AUC {later['auc']} on later applications, {evaluation['auc']} out of fold."
    if later["calibration_slope"].high < 1 or later["calibration_slope"].low > 1:
        yield f"Ageing: the calibration slope on later applications is {later['calibration_slope']}."


# Tables show these two exactly.
_IN_TABLES = {"confusion_matrix", "feature_importance"}


def model_report(
    dataset: Dataset,
    trained: TrainedModel,
    artefact: Artefact,
    settings: TrainingSettings,
    *,
    drawn: dict[str, Figure],
    searched: FoundAlternatives | None = None,
) -> str:
    """Render the page; it holds no time and no applicant's value, so the same training gives the same text.

    `drawn` holds the figures of the training by name. Without a search for alternatives, their chapter is left out.
    """
    gates = outcome_tables.training_gates(dataset, trained, settings)
    groups = outcome_tables.performance_by_group(dataset, trained, settings)
    confidence = settings.evaluation.confidence
    return (
        _templates()
        .get_template("report.html")
        .render(
            settings=settings,
            trained=trained,
            artefact=artefact,
            evaluation=trained.evaluation,
            generated=is_generated(dataset.source),
            warnings=dataset.warnings,
            sections=SECTIONS if searched is None else _with_alternatives(),
            chapter=None if searched is None else chapter(searched),
            requirements=REQUIREMENTS,
            findings=tuple(findings(dataset, trained, artefact, settings, gates=gates, groups=groups)),
            gates_met=_gates_met(gates),
            interval=f"{100 * confidence:g} %",
            figures={name: svg(name, figure) for name, figure in drawn.items() if name not in _IN_TABLES},
            reasons=model_tables.reason_findings(dataset, artefact, settings),
            feature_counts=model_tables.feature_counts(trained),
            yaml=model_tables.deciding_settings(settings),
            tables={
                "bands": outcome_tables.band_table(dataset, trained, settings.evaluation),
                "categories": model_tables.category_table(trained),
                "confusion": outcome_tables.confusion_table(trained.evaluation),
                "cutoffs": outcome_tables.cutoff_table(trained, settings.evaluation.f_beta),
                "data": model_tables.data_table(dataset, trained, artefact),
                "decisions": outcome_tables.decision_table(dataset, trained, confidence),
                "features": model_tables.feature_table(trained, settings),
                "folds": outcome_tables.fold_table(trained),
                "gates": outcome_tables.gate_table(gates, settings.gates, screened=trained.later is None),
                "identity": model_tables.identity_table(artefact),
                "later": None if trained.later is None else outcome_tables.measure_table(trained.later),
                "levels": outcome_tables.level_table(trained.evaluation, trained.policy),
                "measures": outcome_tables.measure_table(trained.evaluation),
                "prices": outcome_tables.price_table(trained, settings),
                "protected": model_tables.protected_table(settings),
                "rules": model_tables.rule_table(trained, settings),
            },
            groups={name: outcome_tables.group_table(found) for name, found in groups.items()},
        )
    )


def _with_alternatives() -> dict[str, str]:
    """The sections with that of the alternatives, which follows the fairness screening."""
    titles = list(SECTIONS.items())
    place = list(SECTIONS).index("fairness") + 1
    return dict([*titles[:place], ("alternatives", "Less discriminatory alternatives"), *titles[place:]])


def _templates() -> Environment:
    environment = templates("training.report")
    shown = (figures.count, figures.decimal, figures.percent, figures.span)
    environment.filters |= {function.__name__: function for function in shown}
    return environment


def write_report(
    folder: Path,
    dataset: Dataset,
    trained: TrainedModel,
    artefact: Artefact,
    settings: TrainingSettings,
    searched: FoundAlternatives | None = None,
) -> Path:
    """Write the report into `folder`, its figures as PNG files into `folder/figures`; return the report's path.

    FoundAlternatives that were `searched` have a chapter, and are kept as a file beside the report.
    """
    drawn = model_figures(dataset.target, trained, settings)
    (folder / "figures").mkdir()
    write_figures(folder / "figures", drawn)
    report = folder / REPORT
    if searched is not None:
        (folder / RESULT).write_text(searched.text(), encoding="utf-8")
    page = model_report(dataset, trained, artefact, settings, drawn=drawn, searched=searched)
    report.write_text(page, encoding="utf-8")
    return report


def write_figures(folder: Path, drawn: Mapping[str, Figure]) -> None:
    """Write each figure as a PNG file under its name."""
    for name, figure in drawn.items():
        write_png(figure, folder / f"{name}.png")
