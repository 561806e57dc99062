"""Tables of the report describe the model: features, data, origin, settings and the requirements it answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import yaml
from markupsafe import Markup

from features.reasons import Reason
from scoring.artefact import Artefact
from scoring.policy import DecisionKind
from scoring.reasons import Explanation
from scoring.scorer import Scorer
from scoring.waterfall import LIGHT, Waterfall
from training.dataset import Dataset
from training.report.figures import NOTHING, ReportTable, Row, count, percent
from training.settings import TrainingSettings
from training.trainer import TrainedModel

_DIRECTIONS = {None: "free", -1: "PD may only fall", 1: "PD may only rise"}


def feature_table(trained: TrainedModel, settings: TrainingSettings) -> ReportTable:
    """List the main features, the largest contribution first."""
    gain = dict(trained.importance)
    total = max(sum(gain.values()), 1e-300)
    main = trained.interpretation.contributions[: settings.report.features]
    rows = (
        (
            name,
            trained.features.portfolio.features[name].description,
            percent(share),
            percent(gain[name] / total),
            _missing(trained, name),
            _DIRECTIONS[settings.model.monotone.get(name)],
        )
        for name, share in main
    )
    return ReportTable.of("llrrrl", ("feature", "what it is", "contribution", "gain", "missing", "direction"), rows)


def category_table(trained: TrainedModel) -> ReportTable:
    """Show how many levels of each category the model knows, and how often others occur."""

    def row(name: str) -> Row:
        counts = trained.reference.features[name].counts
        known = len(trained.features.vocabularies[name])
        # A drift reference ends with a bin for unknown levels and one for missing values.
        return name, str(known), percent(counts[-2] / trained.reference.rows), _missing(trained, name)

    names = (name for name in trained.features.names if name in trained.features.vocabularies)
    return ReportTable.of(
        "lrrr", ("category", "known levels", "applications of other levels", "missing"), map(row, names)
    )


def rule_table(trained: TrainedModel, settings: TrainingSettings) -> ReportTable:
    """Show what happens to values that are absent, unknown or impossible."""
    return ReportTable.of("ll", ("what arrives", "what the model does with it"), _rules(trained, settings))


def _rules(trained: TrainedModel, settings: TrainingSettings) -> Iterator[Row]:
    schema = trained.features.portfolio.schema
    required = ", ".join(column.name for column in schema if column.required) or "none"
    coded = [f"{column.name} {code:g}" for column in schema.numeric for code in map(float, column.missing)]
    words = sorted({str(word) for column in schema.categorical for word in column.missing})
    codes = "; ".join(
        [*([", ".join(coded)] if coded else []), *([f"{', '.join(words)} in categories"] if words else [])]
    )
    rare = settings.features.category_min_count
    yield "a required column is absent", f"the application is refused; required are {required}"
    yield "a value of any other column is absent", "missing: each split of a tree sends it the way learned in training"
    yield "a code for not known", f"read as missing: {codes or 'none is declared'}"
    yield "a value out of the declared bounds", "the application is refused, with the column and the rule"
    clipped = len(trained.features.clip)
    if clipped and settings.features.clip is not None:
        clip = settings.features.clip
        tails = f"its quantiles {clip.lower:g} and {clip.upper:g} in training"
        yield "an extreme but legal number", f"clipped to {tails}, in {clipped} columns"
    shared = (
        f"a code of its own, shared with levels of fewer than {rare} applications in training; such rows are counted"
    )
    yield "a category's level that is not known", shared
    yield "a ratio that divides by zero or by a missing value", "missing"


def _missing(trained: TrainedModel, name: str) -> str:
    bins = trained.reference.features.get(name)
    return NOTHING if bins is None else percent(bins.counts[-1] / trained.reference.rows)


def protected_table(settings: TrainingSettings) -> ReportTable:
    """List the columns that state a protected attribute, and whether features may read them."""
    schema = settings.declared.schema
    barred = schema.protected(settings.features.without)
    rows = (
        (
            column.name,
            ", ".join(one.attribute.replace("_", " ") for one in column.protections),
            "kept out, with everything derived from it" if column.name in barred else "IN the model",
        )
        for column in schema
        if column.protected
    )
    return ReportTable.of("lll", ("column", "states", "the model"), rows)


def feature_counts(trained: TrainedModel) -> str:
    """Say in words how many features the model reads."""
    raw = sum(name in trained.features.portfolio.schema for name in trained.features.names)
    return f"{count(len(trained.features.names))} features, {count(raw)} of them raw columns"


def identity_table(artefact: Artefact) -> ReportTable:
    """Show the digests, run, commit and package versions that identify the model."""
    return ReportTable.of("ll", ("what", "value"), _identity(artefact))


def _identity(artefact: Artefact) -> Iterator[Row]:
    lineage = artefact.lineage
    yield "digest of the artefact, SHA-256", artefact.digest
    yield "portfolio", artefact.portfolio.name
    yield "digest of the portfolio, SHA-256", artefact.portfolio.digest
    yield "MLflow run", str(lineage["run_id"])
    yield "commit of the code", str(lineage["commit"] or "not in a repository")
    yield "digest of the computing code, SHA-256", str(lineage["code"])
    for name, version in lineage["versions"].items():
        yield name, str(version)


def data_table(dataset: Dataset, trained: TrainedModel, artefact: Artefact) -> ReportTable:
    """Show the data that the model was fitted on; `dataset` may hold a part of it."""
    return ReportTable.of("ll", ("what", "value"), _data(dataset, trained, artefact))


def _data(dataset: Dataset, trained: TrainedModel, artefact: Artefact) -> Iterator[Row]:
    fitted = artefact.lineage["data"]
    yield "source", dataset.source
    yield "SHA-256 of the data", dataset.fingerprint
    yield "applications fitted on", count(fitted["rows"])
    yield "defaults among them", f"{count(fitted['defaults'])} ({percent(fitted['defaults'] / fitted['rows'])})"
    if len(dataset) != trained.evaluation.rows:
        yield "applications that groups, bands and decisions are shown of", count(len(dataset))
    if trained.later is not None:
        later = trained.later
        yield "later applications, for judging only", f"{count(later.rows)}, of which {count(later.defaults)} defaults"
    if dataset.dates is not None:
        yield "days of the applications fitted on", f"{dataset.dates.min()} to {dataset.dates.max()}"


# Addresses are left out: the same training on another machine shall give the same page.
_DECIDING = (
    "seed", "features", "leakage", "out_of_time", "model", "policy", "evaluation", "interpretation", "drift_reference",
    "gates",
)  # fmt: skip


def deciding_settings(settings: TrainingSettings) -> str:
    """Write as YAML the settings that decide how a model is made and judged; they hold no address and no path."""
    values = settings.model_dump(mode="json", include=set(_DECIDING))
    return yaml.safe_dump(
        {name: values[name] for name in _DECIDING}, sort_keys=False, default_flow_style=None, width=100
    )


@dataclass(frozen=True, slots=True)
class Requirement:
    """A requirement of a law or guidance; `sections` answer it, and `open` says what the lender must add."""

    text: str
    topic: str
    sections: tuple[str, ...] = ()
    open: str = ""


SECTIONS = {
    "purpose": "Model purpose and intended use",
    "data": "Data",
    "soundness": "Conceptual soundness",
    "outcomes": "Outcomes analysis",
    "policies": "Price of each policy",
    "fairness": "Fairness screening",
    "gates": "Gates",
    "monitoring": "Ongoing monitoring",
    "limits": "Limits",
    "lineage": "Lineage, code and settings",
    "requirements": "Where each requirement is answered",
}
"""The titles of the report's sections by anchor, in their order."""
# SR 26-2 replaced SR 11-7 in April 2026. Annex III 5(b) of the EU AI Act makes credit scoring a high-risk use.
_US, _EU = "SR 26-2", "EU AI Act"
REQUIREMENTS = (
    Requirement(_US, "model purpose and use", ("purpose",), "materiality: exposure and place in the inventory"),
    Requirement(_US, "development data", ("data",), "how applicants came to be in the data"),
    Requirement(_US, "conceptual soundness", ("soundness", "policies"), "independent review"),
    Requirement(_US, "outcomes analysis", ("outcomes", "fairness"), "outcomes since the training"),
    Requirement(_US, "ongoing monitoring", ("monitoring",), "who looks, how often, what triggers a review"),
    Requirement(_US, "limits and assumptions", ("limits",)),
    Requirement(_US, "effective challenge and governance", ("gates",), "people and approvals"),
    Requirement(_EU, "Annex IV 1, general description", ("purpose", "lineage"), "provider, forms of distribution"),
    Requirement(_EU, "Annex IV 2, elements and development", ("data", "soundness", "lineage"), "security measures"),
    Requirement(
        _EU, "Annex IV 3, monitoring, functioning and control", ("purpose", "outcomes", "limits"), "training of staff"
    ),
    Requirement(_EU, "Annex IV 4, suitability of the measures", ("outcomes",)),
    Requirement(_EU, "Annex IV 5, risk management (Article 9)", (), "all of it"),
    Requirement(_EU, "Annex IV 6, changes over the life cycle", ("lineage",), "reasons for each change"),
    Requirement(_EU, "Annex IV 7, harmonised standards", (), "all of it"),
    Requirement(_EU, "Annex IV 8, declaration of conformity", (), "all of it"),
    Requirement(_EU, "Annex IV 9, monitoring after release (Article 72)", ("monitoring",), "the plan itself"),
    Requirement(_EU, "Article 10, data and bias", ("data", "fairness"), "representativeness for your applicants"),
    Requirement(_EU, "Article 14, human oversight", ("purpose", "policies"), "who decides referred applications"),
    Requirement(_EU, "Article 15, accuracy and robustness", ("outcomes", "soundness"), "security"),
    Requirement("Regulation B", "12 CFR 1002.6(b), age", ("data", "fairness"), "legal review"),
    Requirement("Regulation B", "12 CFR 1002.9(b), reasons", ("soundness",), "the notices to applicants"),
)


_EXPLAINED_ROWS = 5_000
"""Applications whose reasons are looked at, evenly spaced over the file."""


@dataclass(frozen=True, slots=True)
class ReasonFindings:
    """The reasons of the training data's applications.

    Attributes
    ----------
    rows, declines : how many applications were looked at, and how many of them are declined
    first : how often each reason is the first one of a decline
    waterfalls : of the mean decline and the mean approval, by decision; a decision of too few rows has none
    """

    rows: int
    declines: int
    first: ReportTable
    waterfalls: Mapping[str, Markup]


def reason_findings(dataset: Dataset, artefact: Artefact, settings: TrainingSettings) -> ReasonFindings | None:
    """Look at the reasons of applications of the data set; None where the model gives none."""
    scorer, reasons = Scorer(artefact), artefact.portfolio.reasons
    if scorer.explainer is None or reasons is None:
        return None
    language = "en" if "en" in reasons.languages else reasons.languages[0]
    rows = np.unique(np.linspace(0, len(dataset) - 1, min(len(dataset), _EXPLAINED_ROWS)).astype(np.intp))
    matrix = scorer.transformer.transform(dataset.columns.take(rows))
    scores, explanations = scorer.score_matrix(matrix), scorer.explainer.explain(matrix)
    waterfall, drawn = Waterfall(artefact.policy, artefact.calibration, language), {}
    for kind in (DecisionKind.DECLINE, DecisionKind.APPROVE):
        chosen = np.flatnonzero(scores.decision == kind)
        # No applicant is shown: a mean of many holds nobody's values.
        if len(chosen) >= settings.report.min_rows:
            mean = _mean([explanations[row] for row in chosen.tolist()])
            drawn[str(kind)] = _waterfall(waterfall, mean, float(scores.margin[chosen].mean()), kind)
    found = [reasons[0] for reasons in scores.reasons.tolist() if reasons]
    return ReasonFindings(len(rows), int((scores.decision == "decline").sum()), _firsts(found, language), drawn)


def _mean(explanations: Sequence[Explanation]) -> Explanation:
    """The mean of explanations of one model, which adds up to their mean margin."""
    added: dict[Reason | None, float] = {}
    for explanation in explanations:
        for reason, contribution in explanation.contributions:
            added[reason] = added.get(reason, 0.0) + contribution / len(explanations)
    first = explanations[0]
    return Explanation(first.version, first.base, tuple(sorted(added.items(), key=lambda one: -one[1])), ())


def _waterfall(waterfall: Waterfall, explanation: Explanation, margin: float, kind: DecisionKind) -> Markup:
    name, subject = f"mean-{kind}", {"decline": "The mean decline", "approve": "The mean approval"}[kind]
    drawn = waterfall.svg(explanation, margin, kind, name=name, subject=subject, style=LIGHT)
    return Markup(drawn.replace(' xmlns="http://www.w3.org/2000/svg"', "", 1))  # noqa: S704 - HTML knows it; escaped


def _firsts(reasons: Sequence[Reason], language: str) -> ReportTable:
    rows = [
        (reason.code, reason.text(language), count(times), percent(times / len(reasons)))
        for reason, times in sorted(Counter(reasons).items(), key=lambda one: (-one[1], one[0].code))
    ]
    return ReportTable.of("llrr", ("reason", "words", "declines", "share"), rows)
