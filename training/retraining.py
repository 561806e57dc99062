"""Retraining decides whether a new model is due, trains it on matured applications and leaves it as challenger.

Nothing is remembered in a file: what was trained on which data, and when, are tags of the versions in the registry. So
a command that was interrupted can be given again, on any machine: it finishes what the registry says is unfinished.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from mlflow.entities.model_registry import ModelVersion

from decision_log.errors import UnmatchedError
from decision_log.format import stated_hash
from decision_log.reader import DecisionLogReader
from jobs.commandline import Progress
from jobs.output import locked
from monitoring.drift import judge as judge_drift
from monitoring.outcomes import read_outcomes
from monitoring.performance import perform
from monitoring.settings import MonitoringSettings
from monitoring.sources import window_of_log
from scoring.artefact import Artefact
from scoring.store import read_alias
from training.dataset import Dataset, refuse_too_few, split_by_time
from training.registry.fitted import place_of_fitted
from training.registry.promotion import Verdict, judge, keep, make_champion, promote
from training.registry.registry import (
    CHALLENGER,
    CHAMPION,
    GATES,
    Registered,
    aliases,
    artefact_folder,
    changes,
    current_champion,
    data_of,
    download,
    find,
    make_challenger,
    succession,
    versions,
)
from training.registry.store import champion_lock, import_challenger, import_model, served_version
from training.registry.tracking import connect
from training.run import deliver_loaded, load, refuse_other_portfolio
from training.settings import TrainingSettings

RETRAINED = "retrained"
"""The tag of a version that this command trained: when, as ISO 8601, and why."""
_MONTH = timedelta(days=30)
_LOCK = ".retraining.lock"
_FINISHED = "finished what was interrupted"


@dataclass(frozen=True, slots=True)
class WatchedLog:
    """Where drift and loss of performance are looked for.

    Attributes
    ----------
    log : the decision log
    outcomes : matured outcomes of its decisions; without them the performance is estimated from the PDs
    """

    log: Path
    outcomes: Path | None
    settings: MonitoringSettings


@dataclass(frozen=True, slots=True)
class Retraining:
    """What a retraining decided and did, and why.

    Attributes
    ----------
    trained : whether this command trained, or finished what an interrupted one had trained
    version : the version that it trained; None if it trained none
    missed : the gates that the version missed
    alias : the alias that the version has now; None if it missed a gate, or there is no champion to compete with
    """

    trained: bool
    why: str
    version: str | None = None
    missed: tuple[str, ...] = ()
    alias: str | None = None
    model: str | None = None

    def __str__(self) -> str:
        if not self.trained:
            return f"not trained: {self.why}"
        if self.missed:
            return f"trained version {self.version}: {self.why}; not imported, since it misses {'; '.join(self.missed)}"
        placed = f"it is {self.alias}, imported as {self.model}" if self.alias else "there is no champion: promote it"
        return f"trained version {self.version}: {self.why}; it passes every gate, and {placed}"


@dataclass(frozen=True, slots=True)
class Retrainer:
    """Retrains the model of the settings; what is allowed is allowed as for `promote`.

    Attributes
    ----------
    data : labelled applications, folder or file
    """

    data: Path
    settings: TrainingSettings
    progress: Progress
    now: datetime
    generated_allowed: bool = False
    uncompared_allowed: bool = False

    def run(
        self, *, watched: WatchedLog | None = None, because: str = "as asked for", force: bool = False
    ) -> Retraining:
        """Train if it is due, and say what was decided; with `watched` it is due only if there is a reason.

        A second retraining on this machine waits for the first. `force` trains within the cooldown too.
        """
        connect(self.settings.tracking, make=True)
        # The system lets the lock go when its process ends, so a killed retraining holds nobody up.
        with locked(place_of_fitted().parent / _LOCK):
            found = versions(self.settings.tracking.model)
            if self.settings.retraining.promote and (promoted := self._promoted(found)) is not None:
                return promoted
            if (unfinished := _unfinished(found, self.settings)) is not None:
                return self._finish(unfinished)
            if (blocked := _blocked(_retrained(found), self.settings, self.now, force=force)) is not None:
                return Retraining(False, blocked)
            if watched is None:
                return self._train(found, because)
            reasons = [*self._reasons(found, watched)]
            due = [reason.text for reason in reasons if reason.due]
            if not due:
                return Retraining(False, "; ".join(reason.text for reason in reasons))
            return self._train(found, "; ".join(due))

    def _train(self, found: list[ModelVersion], why: str) -> Retraining:
        read = load(self.data, self.settings, self.progress, dates=self._dates)
        dataset = matured(read, self.settings, self.now)
        # A version of `training run` has the fingerprint of the whole file.
        same = {dataset.fingerprint, *([read.fingerprint] if len(read) == len(dataset) else [])}
        known = [str(version.version) for version in found if data_of(version) in same]
        if known:
            return Retraining(False, f"version {known[-1]} was trained on the same {len(dataset):,} applications")
        if not self.uncompared_allowed:
            refuse_other_portfolio(self.settings)
        earlier, later = split_by_time(dataset, self.settings.out_of_time)
        delivered = deliver_loaded(
            earlier,
            later,
            self.settings,
            self.progress,
            generated_allowed=self.generated_allowed,
            uncompared_allowed=self.uncompared_allowed,
            version_tags={RETRAINED: f"{self.now.isoformat()} {why}"},
        )
        return self._placed(delivered.verdict, why)

    def _finish(self, unfinished: Registered) -> Retraining:
        """Judge and import a version whose retraining was interrupted once it was registered."""
        make_challenger(unfinished)
        dataset = matured(load(self.data, self.settings, self.progress, dates=self._dates), self.settings, self.now)
        _, later = split_by_time(dataset, self.settings.out_of_time)
        verdict = judge(
            unfinished,
            dataset if later is None else later,
            self.settings,
            generated_allowed=self.generated_allowed,
            uncompared_allowed=self.uncompared_allowed,
        )
        return self._placed(verdict, _FINISHED)

    def _promoted(self, found: list[ModelVersion]) -> Retraining | None:
        """Finish an interrupted promotion of a version that passed its gates; None if there is none."""
        name = self.settings.tracking.model
        with champion_lock():
            named = aliases(name).get(CHAMPION)
            version = next((one for one in found if str(one.version) == named and RETRAINED in one.tags), None)
            if version is None or not _passed(version.tags.get(GATES)):
                return None
            registered, history = find(name, str(version.version)), changes(name)
            if succession(history)[-1:] == (named,):
                if str(served_version(name)) != registered.tag:
                    import_model(registered)
                return None
            # A version that the history names further back has the alias by a rollback that was interrupted.
            if named in [change.version for change in history]:
                return None
            return Retraining(True, _FINISHED, named, alias=CHAMPION, model=str(make_champion(registered, self.now)))

    def _placed(self, verdict: Verdict, why: str) -> Retraining:
        """Keep the gates and, if all are passed, put the version in shadow or, where the settings say so, in charge."""
        registered = verdict.challenger.registered
        keep(verdict, self.now)
        if verdict.missed:
            return Retraining(True, why, registered.version, tuple(gate.name for gate in verdict.missed))
        done = partial(Retraining, True, why, registered.version)
        if self.settings.retraining.promote:
            return done(alias=CHAMPION, model=str(promote(verdict, self.now)))
        with champion_lock():
            # Not the verdict's: another version may have been promoted meanwhile.
            incumbent = current_champion(registered.name)
            if incumbent is None:
                return done()
            if incumbent == registered:
                return done(alias=CHAMPION, model=registered.tag)
            # A store that serves no champion would serve the challenger.
            import_model(incumbent)
            return done(alias=CHALLENGER, model=str(import_challenger(registered)))

    @property
    def _dates(self) -> str | None:
        """The column with the day of each application; None if nothing names one."""
        of_later = self.settings.out_of_time
        return self.settings.declared.declared.decided_on if of_later is None else of_later.column

    def _reasons(self, found: list[ModelVersion], watched: WatchedLog) -> Iterator[DueReason]:
        """Say for each check what it found, and whether it makes a retraining due."""
        incumbent = current_champion(self.settings.tracking.model)
        if incumbent is None:
            yield DueReason(True, "no version is champion")
            return
        limits = self.settings.retraining
        if limits.every_days is not None:
            age = (self.now - _registered_at(found[-1])).days
            said = f"version {found[-1].version} is {age} days old, and {limits.every_days} are planned"
            yield DueReason(age >= limits.every_days, said)
        with TemporaryDirectory() as scratch:
            champion = Artefact.read(artefact_folder(download(incumbent, Path(scratch)), incumbent))
        since = self.now - timedelta(days=limits.judged_days)
        recent = DecisionLogReader(watched.log, digest=champion.digest, since=since)
        decided = sum(table.num_rows for table in recent.tables(["time"]))
        if decided < watched.settings.drift.min_rows:
            said = f"{decided:,} decisions of {incumbent} in {limits.judged_days} days"
            yield DueReason(False, f"{said} are too few to judge: {watched.settings.drift.min_rows:,} are needed")
        else:
            yield _drift(recent, champion, watched.settings, self.progress)
            if watched.outcomes is None:
                yield _performance(recent, champion, watched, self.progress)
        # Outcomes are of earlier decisions, which are there however few are recent.
        if watched.outcomes is not None:
            yield _performance(replace(recent, since=None), champion, watched, self.progress)


@dataclass(frozen=True, slots=True)
class DueReason:
    """The finding of one check: whether it makes a retraining due, and what it found."""

    due: bool
    text: str


def matured(dataset: Dataset, settings: TrainingSettings, now: datetime) -> Dataset:
    """Take the applications whose outcome counts, the newest of them: all of them if nothing dates them.

    Their fingerprint is that of their content: applications that are too young change nothing. DataError if too few
    are left to train on.
    """
    if dataset.dates is None:
        return replace(dataset, fingerprint=_content(dataset))
    limits = settings.retraining
    last = np.datetime64(now.date()) - np.timedelta64(limits.matured_days, "D")
    chosen = dataset.dates <= last
    if limits.newest_days is not None and chosen.any():
        chosen &= dataset.dates > dataset.dates[chosen].max() - np.timedelta64(limits.newest_days, "D")
    refuse_too_few(dataset.target[chosen], folds=settings.model.folds, per_fold=settings.model.min_outcomes_per_fold)
    part = dataset.take(np.flatnonzero(chosen))
    return replace(part, fingerprint=_content(part))


def _content(dataset: Dataset) -> str:
    columns = dataset.columns
    digest = hashlib.sha256(repr([column.name for column in columns.schema]).encode())
    for part in (dataset.ids.tolist(), columns.levels.tolist()):
        digest.update(repr(part).encode())
    digest.update(columns.numbers.tobytes())
    digest.update(dataset.target.tobytes())
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class _Attempt:
    at: datetime
    version: str


def _retrained(found: list[ModelVersion]) -> list[_Attempt]:
    """The versions that a retraining made, the oldest first."""
    said = ((version.tags[RETRAINED], str(version.version)) for version in found if RETRAINED in version.tags)
    return [_Attempt(datetime.fromisoformat(text.partition(" ")[0]), number) for text, number in said]


def _blocked(attempts: list[_Attempt], settings: TrainingSettings, now: datetime, *, force: bool) -> str | None:
    """Say why no retraining may begin now; None if one may."""
    limits = settings.retraining
    recent = [attempt for attempt in attempts if now - attempt.at < _MONTH]
    if len(recent) >= limits.most_per_month:
        return f"{len(recent)} retrainings in 30 days, and most_per_month is {limits.most_per_month}"
    last = max(attempts, key=lambda attempt: attempt.at, default=None)
    if last and not force and now - last.at < timedelta(days=limits.cooldown_days):
        return (
            f"version {last.version} was retrained at {last.at:%Y-%m-%d %H:%M} UTC, and cooldown_days is"
            f" {limits.cooldown_days:g}; --force trains all the same"
        )
    return None


def _unfinished(found: list[ModelVersion], settings: TrainingSettings) -> Registered | None:
    """The newest challenger of a retraining that was not judged, or passed every gate and was not imported."""
    name = settings.tracking.model
    # A kill may leave the newest version without the alias.
    newest = [version for version in found[-1:] if RETRAINED in version.tags and GATES not in version.tags]
    current = newest or [version for version in found if str(version.version) == aliases(name).get(CHALLENGER)]
    if not current or RETRAINED not in current[0].tags:
        return None
    registered, gates = find(name, str(current[0].version)), current[0].tags.get(GATES)
    if gates is None:
        return registered
    competes = current_champion(name) is not None or settings.retraining.promote
    return registered if _passed(gates) and competes and read_alias(name, CHALLENGER) != registered.label else None


def _passed(gates: str | None) -> bool:
    """Whether a version was judged and passed every gate."""
    return gates is not None and all(gate["passed"] for gate in json.loads(gates))


def _registered_at(version: ModelVersion) -> datetime:
    return datetime.fromtimestamp(version.creation_timestamp / 1000, UTC)


def _drift(log: DecisionLogReader, champion: Artefact, settings: MonitoringSettings, progress: Progress) -> DueReason:
    with progress.step("drift") as advance:
        logged = window_of_log(log, champion.reference, advance)
    judgement = judge_drift(champion.reference, logged.window, settings.drift, whole=logged.whole)
    if judgement.alarm:
        return DueReason(True, f"drift in {judgement.rows:,} decisions: {'; '.join(judgement.reasons)}")
    return DueReason(False, f"no drift in {judgement.rows:,} decisions")


def _performance(log: DecisionLogReader, champion: Artefact, watched: WatchedLog, progress: Progress) -> DueReason:
    outcomes = None if watched.outcomes is None else read_outcomes(watched.outcomes, stated_hash(os.environ))
    with progress.step("performance") as advance:
        try:
            done = perform(log, outcomes, champion.policy, watched.settings.performance, advance)
        except UnmatchedError:
            return DueReason(False, "none of its decisions has an outcome yet")
    return DueReason(done.alarm, f"performance: {'; '.join(done.reasons)}" if done.alarm else "performance holds")
