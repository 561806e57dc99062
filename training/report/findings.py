"""What a reader of the report should look at first, found in its figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from features import Protected
from scoring import Artefact
from training.data import Dataset, is_generated
from training.evaluation import Evaluation, GroupPerformance
from training.fitting import TrainedModel
from training.promotion import Gate
from training.settings import TrainingSettings

from .cells import decimal, held

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
    groups: Mapping[Protected, Sequence[GroupPerformance]],
) -> Iterator[str]:
    """One sentence for each."""
    if is_generated(dataset.source):
        yield _GENERATED
    for gate in gates:
        if not gate.passed:
            yield f"Gate missed: {gate.name} is {gate.figure}, asked for {gate.limit}. It cannot be promoted like this."
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


def _of_policy(settings: TrainingSettings) -> Iterator[str]:
    inside = [attribute.replace("_", " ") for attribute in Protected if attribute not in settings.features.without]
    if inside:
        yield f"Protected attributes in the model: {', '.join(inside)}."


def _of_calibration(evaluation: Evaluation) -> Iterator[str]:
    for level in evaluation.levels:
        verdict = held(level.mean_probability, level.default_rate)
        if verdict.startswith("too"):
            yield f"Calibration: the mean PD of risk level {level.level} is {verdict} for what was observed."


def _of_groups(
    attribute: Protected, performances: Sequence[GroupPerformance], settings: TrainingSettings
) -> Iterator[str]:
    least, name = settings.gates.fairness.min_impact_ratio, str(attribute).replace("_", " ")
    for performance in performances:
        group, observed = performance.group.name, performance.observed
        if performance.impact_ratio is not None and performance.impact_ratio.value < least:
            ratio, reference = performance.impact_ratio, performance.impact_ratio.reference.name
            yield f"Fairness: {name} {group} has an impact ratio of {decimal(ratio.value)} against {reference}."
        if observed is not None and held(observed.mean_probability, observed.default_rate).startswith("too"):
            verdict = held(observed.mean_probability, observed.default_rate)
            yield f"Fairness: the mean PD of {name} {group} is {verdict} for what was observed."


def _of_later(evaluation: Evaluation, later: Evaluation) -> Iterator[str]:
    if later["auc"].high < evaluation["auc"].low:
        yield f"Ageing: AUC {later['auc']} on later applications, {evaluation['auc']} out of fold."
    if later["calibration_slope"].high < 1 or later["calibration_slope"].low > 1:
        yield f"Ageing: the calibration slope on later applications is {later['calibration_slope']}."
