"""The command that compares recorded decisions with those of a challenger: of the registry, the store, or a shadow."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path

import click
import numpy as np

from decision_log.errors import SourceError
from decision_log.format import stated_hash
from decision_log.reader import DecisionLogReader
from decision_log.replay import OtherModel
from jobs.commandline import Progress, say
from jobs.output import staged, write_json, write_text
from monitoring.comparison import PairedDecisions, PairKeys, comparison, decided_again, shadow_joined
from monitoring.fairness import read_protected
from monitoring.outcomes import read_outcomes
from monitoring.report import comparison_lines, comparison_report
from monitoring.settings import MonitoringSettings
from monitoring.sources import ShadowDecisions, shadow_log
from training.registry.registry import Registered, artefact_folder, download


def compare_decisions(
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
