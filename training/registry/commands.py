"""What the commands do that act on registered versions: judged, promoted, revised, compared, listed and imported."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import bentoml
import click
import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from decision_log.errors import SourceError
from decision_log.format import stated_hash
from decision_log.reader import DecisionLogReader
from decision_log.replay import OtherModel
from jobs.commandline import Progress, say, table
from jobs.errors import OutputError
from jobs.output import staged, write_json, write_text
from monitoring.comparison import PairedDecisions, PairKeys, comparison, decided_again, shadow_joined
from monitoring.fairness import read_protected
from monitoring.measures import Estimate
from monitoring.outcomes import read_outcomes
from monitoring.report import comparison_lines, comparison_report
from monitoring.settings import MonitoringSettings
from monitoring.sources import ShadowDecisions, shadow_log
from scoring.scorer import Scorer
from training.dataset import Dataset, is_generated
from training.errors import RegistryError
from training.registry.audit import champion_lines, export, history, verify
from training.registry.promotion import Verdict, judge, keep, make_champion, promote, rollback
from training.registry.registry import (
    CHAMPION,
    REVISES,
    Registered,
    aliases,
    artefact_folder,
    changes,
    copy_report,
    current_champion,
    download,
    find,
    versions,
)
from training.registry.revision import PolicyChange, Revision, log_flips, register_revision, revise
from training.registry.store import champion_lock, import_model, served_version
from training.registry.tracking import as_command, connect
from training.run import load, pasted, promoting, verdict_lines
from training.settings import TrainingSettings


@as_command
def promote_version(
    *,
    version: str,
    data: Path | None,
    allow_generated: bool,
    allow_uncompared: bool,
    settings: Path,
    portfolio: Path | None,
    tracking_uri: str | None,
) -> None:
    """Judge a registered model and put it in charge if it passes."""
    loaded = _connected(settings, portfolio, tracking_uri)
    registered = find(loaded.tracking.model, version)
    with champion_lock():
        finished = (
            make_champion(registered, datetime.now(UTC)) if registered == current_champion(registered.name) else None
        )
    if finished is not None:
        _say_champion(registered, finished)
        return
    dataset = _labelled(data, registered, loaded)
    promote_judged(
        judge(registered, dataset, loaded, generated_allowed=allow_generated, uncompared_allowed=allow_uncompared)
    )


def _labelled(data: Path | None, registered: Registered, settings: TrainingSettings) -> Dataset:
    """The rows to judge a version on; generated ones only where it was trained on such."""
    if data is None and not is_generated(registered.source):
        raise RegistryError(f"{registered} was trained on {registered.source}: give labelled rows with --data")
    return load(data, settings, Progress(), to_fit=False)


def promote_judged(verdict: Verdict) -> None:
    """Say a verdict and put its challenger in charge; GateError if it misses a gate."""
    say(verdict_lines(verdict))
    _say_champion(verdict.challenger.registered, promote(verdict, datetime.now(UTC)))


def _say_champion(registered: Registered, tag: bentoml.Tag) -> None:
    say([f"{registered} is champion", f"imported {tag}"])


@as_command
def rollback_champion(*, settings: Path, portfolio: Path | None, tracking_uri: str | None) -> None:
    """Put the previous champion back in charge."""
    name = _connected(settings, portfolio, tracking_uri).tracking.model
    _say_champion(*rollback(name, datetime.now(UTC), lambda line: say([line])))


@as_command
def revise_policy(
    *,
    version: str,
    cost_fn: float | None,
    cost_fp: float | None,
    cutoff: float | None,
    refer_from: float | None,
    refer_to: float | None,
    explore_share: float | None,
    explore_up_to: float | None,
    note: str,
    data: Path | None,
    folder: Path | None,
    dry_run: bool,
    settings: Path,
    portfolio: Path | None,
    tracking_uri: str | None,
) -> None:
    """Revise the policy of a registered model, and judge the revision."""
    loaded, now = _connected(settings, portfolio, tracking_uri), datetime.now(UTC)
    base = find(loaded.tracking.model, version)
    change = PolicyChange(cost_fn, cost_fp, cutoff, refer_from, refer_to, explore_share, explore_up_to)
    dataset = _labelled(data, base, loaded)
    if dry_run:
        say(_revision_lines(revise(base, change, dataset, loaded, run_id="", note=note, now=now), folder))
        return
    revision, registered = register_revision(base, change, dataset, loaded, note=note, now=now)
    say(_revision_lines(revision, folder))
    verdict = judge(registered, dataset, loaded)
    keep(verdict, now)
    say([*verdict_lines(verdict), f"{registered} is challenger; it revises {base}", "next, for this model:"])
    say([f"  {pasted(promoting(registered, data), settings, portfolio, tracking_uri)}"])


def _revision_lines(revision: Revision, folder: Path | None) -> Iterator[str]:
    """What a revision changes on labelled rows, and in a decision log if one is given."""
    yield from revision.lines()
    if folder is not None:
        log = DecisionLogReader(folder, digest=revision.before.digest)
        flips = log_flips(log, Scorer(revision.after), revision.before.policy)
        yield f"{flips.rows:,} decisions of this model in {folder}:"
        yield from flips.lines()


@as_command
def compare(
    *, version: str | None, settings: Path, portfolio: Path | None, tracking_uri: str | None, **options: Any
) -> None:
    """Compare recorded decisions with those of a challenger."""
    numbered = version is not None and (version.isdecimal() or version.startswith("@"))
    name = _connected(settings, portfolio, tracking_uri).tracking.model if numbered else ""
    _compare_decisions(find(name, str(version)) if numbered else version, **options)


def _compare_decisions(
    version: Registered | str | None,
    *,
    folder: Path,
    since: datetime | None,
    until: datetime | None,
    shadow: Path | None,
    groups: Path | None,
    columns: Sequence[str],
    outcomes: Path | None,
    amount: str | None,
    output: Path | None,
    monitoring: Path,
) -> None:
    """Compare the decisions of a log with those of a registered version, of a tag, or of a shadow's log, and say so.

    SourceError, SettingsError or OutputError for files that cannot be read or written; nothing is left then.
    """
    limits = MonitoringSettings.load(monitoring)
    chosen = amount or limits.comparison.amount
    # Side files come first: a fault in them is told before the log is read.
    protected = None if groups is None else read_protected(groups, stated_hash(os.environ)).only(columns)
    known = None if outcomes is None else read_outcomes(outcomes, stated_hash(os.environ))
    keys = PairKeys(chosen, frozenset(file.by for file in (protected, known) if file is not None))
    log = DecisionLogReader(folder, since=since, until=until)
    with nullcontext() if output is None else staged(output) as made, tempfile.TemporaryDirectory() as scratch:
        model = None if version is None else _challenger(version, Path(scratch))
        found = _paired(log, model, shadow, keys)
        if amount is not None and not any(np.isfinite(block.amount).any() for block in found.blocks):
            raise SourceError(f"--amount {amount}: no recorded vector has this feature")
        compared = comparison(found, limits, amount=chosen, protected=protected, outcomes=known)
        if made is not None:
            line = f"Decisions in {folder}; written {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
            write_json(made / "comparison.json", compared.to_dict())
            write_text(made / "comparison.html", comparison_report(line, compared))
    sys.stderr.write("".join(f"warning: {line}\n" for line in log.remarks()))
    say(comparison_lines(compared))


def _paired(log: DecisionLogReader, model: OtherModel | None, shadow: Path | None, keys: PairKeys) -> PairedDecisions:
    """The decisions of the log beside those that the model gives, or that a shadow recorded."""
    progress = Progress()
    if shadow is None and model is not None:
        with progress.step("decisions") as advance:
            return decided_again(log, model, keys, advance)
    if shadow is None:
        raise click.UsageError("one of --version and --shadow is required")
    with progress.step("shadow") as advance:
        recorded = ShadowDecisions.read(shadow_log(shadow, log, None if model is None else model.digest), advance)
    with progress.step("decisions") as advance:
        return shadow_joined(log, recorded, keys, advance)


def _challenger(version: Registered | str, scratch: Path) -> OtherModel:
    """The model of a version, whose artefact is put into `scratch`, or of a tag of the BentoML store."""
    if isinstance(version, str):
        return OtherModel.stored(version)
    artefact = artefact_folder(download(version, scratch), version)
    return OtherModel(version.tag, version.digest, artefact)


@as_command
def audit(
    *,
    at: datetime | None,
    output: Path | None,
    key: Path | None,
    exported: Path | None,
    publics: Sequence[Path],
    settings: Path,
    portfolio: Path | None,
    tracking_uri: str | None,
) -> None:
    """Tell who decided when, or write it, or verify what was written."""
    if bool(exported) != bool(publics):
        raise click.UsageError("--verify and --public belong together")
    if exported is not None:
        say([verify(exported, publics)])
        return
    name = _connected(settings, portfolio, tracking_uri).tracking.model
    events = history(name)
    if at is not None:
        say(champion_lines(name, events, at))
    if output is not None:
        export(name, events, output, key, datetime.now(UTC))
        say([f"{len(events):,} events of {name}: {output}"])
    if at is None and output is None:
        say(map(str, events))


@as_command
def list_registered(*, settings: Path, portfolio: Path | None, tracking_uri: str | None) -> None:
    """Show the registered models."""
    name = _connected(settings, portfolio, tracking_uri).tracking.model
    say(registry_lines(name, pasted(["import"], settings, portfolio, tracking_uri)))


_HEADINGS = ("version", "alias", "digest", "AUC", "registered", "run", "commit", "data")


def registry_lines(name: str, importing: str = "python -m training import") -> Iterator[str]:
    """Format the versions of the model `name`, the oldest first, then the history of its champions.

    A line warns if alias, history and this user's BentoML store differ; the command `importing` mends the store.
    """
    named, found = aliases(name), versions(name)
    if not found:
        yield f"{name}: nothing is registered"
        return
    yield from table([_HEADINGS, *(_row(version, named) for version in found)], right={0})
    yield from _lineage_lines(found)
    yield from map(str, changes(name))
    in_charge = current_champion(name)
    if in_charge and named.get(CHAMPION) != in_charge.version:
        yield f"the alias {CHAMPION} is not on version {in_charge.version}, as the history says: promote or roll back"
    served = served_version(name)
    if in_charge and str(served) != in_charge.tag:
        held = f"serves {served}" if served else "holds no version"
        yield f"this machine's BentoML store {held}, not version {in_charge.version}: `{importing}`"


def _lineage_lines(found: Sequence[ModelVersion]) -> Iterator[str]:
    """Say of each revision which version has the policy before."""
    known = {version.tags.get("digest"): f"version {version.version}" for version in found}
    for version in found:
        if digest := version.tags.get(REVISES):
            yield f"version {version.version} revises the policy of {known.get(digest, digest[:12])}"


def _row(version: ModelVersion, named: Mapping[str, str]) -> tuple[str, ...]:
    run = _run(version)
    registered = datetime.fromtimestamp(version.creation_timestamp / 1000, UTC)
    return (
        str(version.version),
        ", ".join(alias for alias, number in named.items() if number == str(version.version)),
        version.tags.get("digest", "")[:12],
        _auc(run) if run else "",
        f"{registered:%Y-%m-%d %H:%M}",
        run.info.run_id if run else "",
        run.data.tags.get("commit", "")[:12] if run else "",
        version.tags.get("data.source", ""),
    )


def _run(version: ModelVersion) -> Run | None:
    """The run that made a version; None if it has none, or if its run was deleted."""
    # Other tools may register a model without a run, and `list` shall show the other versions all the same.
    try:
        return MlflowClient().get_run(version.run_id) if version.run_id else None
    except MlflowException:
        return None


def _auc(run: Run) -> str:
    metrics = run.data.metrics
    return str(Estimate(metrics["auc"], metrics["auc_low"], metrics["auc_high"])) if "auc" in metrics else ""


@as_command
def report(*, version: str, output: Path, settings: Path, portfolio: Path | None, tracking_uri: str | None) -> None:
    """Copy the report of a registered model."""
    if not output.parent.is_dir() or output.is_dir():
        raise OutputError(f"--output {output}: not a file in a folder that exists")
    registered = find(_connected(settings, portfolio, tracking_uri).tracking.model, version)
    copy_report(registered, output)
    say([f"report of {registered}, digest {registered.digest[:12]}: {output}"])


@as_command
def import_champion(*, settings: Path, portfolio: Path | None, tracking_uri: str | None) -> None:
    """Import the champion into the BentoML store."""
    name = _connected(settings, portfolio, tracking_uri).tracking.model
    with champion_lock():
        registered = current_champion(name)
        if registered is None:
            raise RegistryError(f"{name}: no version was promoted")
        tag = import_model(registered)
    say([str(tag)])


def _connected(settings: Path, portfolio: Path | None, tracking_uri: str | None) -> TrainingSettings:
    loaded = TrainingSettings.load(settings, portfolio).tracked_at(tracking_uri)
    connect(loaded.tracking)
    return loaded
