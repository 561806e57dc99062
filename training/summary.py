"""What the commands of `python -m training` print."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from monitoring.measures import Estimate
from training.evaluation import Evaluation
from training.fairness import group_lines
from training.promotion import JudgedModel, Verdict
from training.registry.history import changes, current_champion
from training.registry.registry import CHAMPION, aliases, versions
from training.registry.store import served_version
from training.trainer import TrainedModel

_SHOWN = (
    "auc", "gini", "ks", "average_precision", "brier", "log_loss", "ece", "calibration_slope", "lift", "precision",
    "recall", "f1", "f_beta", "declined_share", "cost_per_applicant", "cost_approve_all",
)  # fmt: skip


def trained_lines(trained: TrainedModel) -> Iterator[str]:
    """What was measured of a model when it was trained."""
    evaluation = trained.evaluation
    yield (
        f"{evaluation.rows} applications, {evaluation.defaults} defaults; "
        f"out of fold, with {evaluation.confidence:.0%} intervals:"
    )
    for name in _SHOWN:
        yield f"  {name:20} {evaluation[name]}"
    yield f"  AUC that the protected attributes would add: {trained.price}"
    if trained.monotone_price is not None:
        yield f"  AUC that features without a direction would add: {trained.monotone_price}"
    if trained.later is not None:
        later = trained.later
        yield f"  {later.rows} later applications, {later.defaults} defaults: AUC {later['auc']}, ECE {later['ece']}"
    yield from _policy_lines(evaluation)


def _policy_lines(evaluation: Evaluation) -> Iterator[str]:
    for level in evaluation.levels:
        rate = level.default_rate or "no applications"
        yield f"  {level.level:9} {level.rows:8} applications, default rate {rate}"
    for threshold in evaluation.thresholds:
        yield (
            f"  {threshold.method:12} cut-off {threshold.cutoff:.4f}, cost {threshold.cost_per_applicant:.4f} per "
            f"applicant, F-beta {threshold.f_beta:.4f}"
        )


def verdict_lines(verdict: Verdict) -> Iterator[str]:
    """Every gate with its figure and its limit, passed or not, and what they were judged on."""
    yield f"gates, judged on {verdict.rows} applications, each by a model that was not fitted on it:"
    yield f"  challenger {_judged(verdict.challenger, verdict.rows)}"
    yield f"  {_champion_line(verdict)}"
    yield from (f"  {gate}" for gate in verdict.gates)
    yield from group_lines(verdict.groups)


def _champion_line(verdict: Verdict) -> str:
    if verdict.champion is not None:
        return f"champion   {_judged(verdict.champion, verdict.rows)}"
    return f"champion   cannot be compared with: {verdict.obstacle}" if verdict.incumbent else "no champion yet"


def _judged(judged: JudgedModel, rows: int) -> str:
    return f"{judged.registered}: {judged.fitted_on} out of fold, {rows - judged.fitted_on} by the registered model"


_ROW = "{:>7}  {:20} {:12}  {:27}  {:16}  {:32}  {:12}  {}"


def registry_lines(name: str) -> Iterator[str]:
    """The versions of the model `name`, the oldest first, then the history of its champions.

    Where alias, history and this user's BentoML store differ, a line says so.
    """
    named, found = aliases(name), versions(name)
    if not found:
        yield f"{name}: nothing is registered"
        return
    yield _ROW.format("version", "alias", "digest", "AUC", "registered", "run", "commit", "data")
    for version in found:
        yield _row(version, named)
    yield from map(str, changes(name))
    in_charge = current_champion(name)
    if in_charge and named.get(CHAMPION) != in_charge.version:
        yield f"the alias {CHAMPION} is not where the history has it, version {in_charge.version}: promote or roll back"
    served = served_version(name)
    if in_charge and str(served) != in_charge.tag:
        held = f"serves {served}" if served else "holds no version"
        yield f"this machine's BentoML store {held}, not version {in_charge.version}: `python -m training import`"


def _row(version: ModelVersion, named: Mapping[str, str]) -> str:
    run = _run(version)
    registered = datetime.fromtimestamp(version.creation_timestamp / 1000, UTC)
    return _ROW.format(
        version.version,
        ", ".join(alias for alias, number in named.items() if number == str(version.version)),
        version.tags.get("digest", "")[:12],
        _auc(run) if run else "",
        f"{registered:%Y-%m-%d %H:%M}",
        run.info.run_id if run else "",
        run.data.tags.get("commit", "")[:12] if run else "",
        version.tags.get("data.source", ""),
    )


def _run(version: ModelVersion) -> Run | None:
    """The run that made a version; None for one that others registered without a run, or whose run is gone."""
    try:
        return MlflowClient().get_run(version.run_id) if version.run_id else None
    except MlflowException:
        return None


def _auc(run: Run) -> str:
    metrics = run.data.metrics
    return str(Estimate(metrics["auc"], metrics["auc_low"], metrics["auc_high"])) if "auc" in metrics else ""
