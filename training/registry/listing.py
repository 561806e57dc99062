"""What `python -m training list` prints: every version with its lineage, and every change of champion."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from training.evaluation import Estimate

from .history import changes, reigning
from .registry import CHAMPION, aliases, versions
from .store import served_version

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
    in_charge = reigning(name)
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
