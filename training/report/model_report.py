"""The report of a model: one HTML page that needs nothing else, for those who judge the risk of using the model."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from scoring import Artefact
from training.data import Dataset, is_generated
from training.fitting import TrainedModel
from training.settings import TrainingSettings

from . import cells, feature_tables, group_tables, lineage_tables, outcome_tables, policy_tables
from .drawing import svg
from .findings import findings
from .requirement import REQUIREMENTS, SECTIONS

_IN_TABLES = {"confusion_matrix", "feature_importance"}


def model_report(
    dataset: Dataset,
    trained: TrainedModel,
    artefact: Artefact,
    settings: TrainingSettings,
    *,
    drawn: dict[str, Figure],
) -> str:
    """The page. It holds no clock and no applicant's value: the same training gives the same text.

    `drawn` are the figures of the training.
    """
    gates = policy_tables.training_gates(dataset, trained, settings)
    groups = group_tables.performance_by_group(dataset, trained, settings)
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
            sections=SECTIONS,
            requirements=REQUIREMENTS,
            findings=tuple(findings(dataset, trained, artefact, settings, gates=gates, groups=groups)),
            gates_met=all(gate.passed for gate in gates),
            interval=f"{100 * confidence:g} %",
            figures={name: svg(name, figure) for name, figure in drawn.items() if name not in _IN_TABLES},
            feature_counts=feature_tables.feature_counts(trained),
            yaml=lineage_tables.deciding_settings(settings),
            tables={
                "bands": outcome_tables.band_table(dataset, trained, settings.evaluation),
                "categories": feature_tables.category_table(trained),
                "confusion": outcome_tables.confusion_table(trained.evaluation),
                "cutoffs": policy_tables.cutoff_table(trained, settings.evaluation.f_beta),
                "data": lineage_tables.data_table(dataset, trained),
                "decisions": outcome_tables.decision_table(dataset, trained, confidence),
                "features": feature_tables.feature_table(trained, settings),
                "folds": outcome_tables.fold_table(trained),
                "gates": policy_tables.gate_table(gates, settings.gates, screened=trained.later is None),
                "identity": lineage_tables.identity_table(artefact),
                "later": None if trained.later is None else outcome_tables.measure_table(trained.later),
                "levels": outcome_tables.level_table(trained.evaluation, trained.policy),
                "measures": outcome_tables.measure_table(trained.evaluation),
                "prices": policy_tables.price_table(trained, settings),
                "protected": feature_tables.left_out(settings),
                "rules": feature_tables.rule_table(trained, settings),
            },
            groups={name: group_tables.group_table(found) for name, found in groups.items()},
        )
    )


def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("training.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    shown = (cells.count, cells.decimal, cells.percent, cells.span)
    environment.filters |= {function.__name__: function for function in shown}
    return environment
