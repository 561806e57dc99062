"""A challenger is judged on rows that it was not fitted on, promoted to champion, and rolled back."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path

import bentoml
import numpy as np
from mlflow import MlflowClient
from numpy.typing import NDArray

from features.errors import ColumnsError
from features.transformer import Columns
from monitoring.measures import Group
from scoring.artefact import Artefact, read_portfolio
from scoring.errors import ArtefactError
from scoring.policy import DecisionPolicy
from scoring.scorer import Scorer
from training.dataset import Dataset
from training.errors import GateError, RegistryError
from training.evaluation import evaluate
from training.gates import (
    Gate,
    ReasonChanges,
    comparability_gate,
    compare,
    comparison_gates,
    evaluation_gates,
    latency_gate,
    median_milliseconds,
    parity_gate,
    reason_changes,
    reason_gate,
    screen,
    source_gate,
)
from training.registry.registry import (
    GATES,
    Action,
    Registered,
    artefact_folder,
    champion,
    changes,
    current_champion,
    download,
    find,
    put_in_charge,
    record_change,
    record_judgement,
    recorded_predictions,
    sign_version,
    succession,
)
from training.registry.store import (
    PARITY_CLIENTS,
    SIGNING_KEY_VARIABLE,
    champion_lock,
    differing_probabilities,
    import_model,
)
from training.settings import TrainingSettings


@dataclass(frozen=True, slots=True, eq=False)
class JudgedModel:
    """A judged model is a registered version with its PDs on the rows of a data set.

    Attributes
    ----------
    probability : float64, shape (n,); each from a model that was not fitted on the row
    fitted_on : how many rows the model was fitted on; their out-of-fold PDs come from the record of its training
    """

    registered: Registered
    probability: NDArray[np.float64]
    fitted_on: int


def judged_model(registered: Registered, dataset: Dataset) -> JudgedModel:
    """Find or compute the version's PDs on `dataset`; RegistryError if it keeps none or cannot score a row."""
    with tempfile.TemporaryDirectory() as scratch:
        fitted = _as_the_model_knows_them(registered, dataset, Path(scratch))
        probability = recorded_predictions(registered, Path(scratch)).of_rows(fitted)
        new = np.isnan(probability)
        if new.any():
            probability[new] = _predicted(registered, dataset.columns.take(new), Path(scratch))
    return JudgedModel(registered, probability, int(np.count_nonzero(~new)))


def _as_the_model_knows_them(registered: Registered, dataset: Dataset, scratch: Path) -> Dataset:
    """The rows in the columns of the model's own portfolio, by which its training recorded them, if they have these."""
    # In other columns its training rows would look new, and it would be judged on rows that it was fitted on.
    try:
        portfolio = read_portfolio(artefact_folder(download(registered, scratch), registered))
        return replace(dataset, columns=dataset.columns.declared_by(portfolio))
    except (ArtefactError, ColumnsError, RegistryError):
        return dataset


def _predicted(registered: Registered, columns: Columns, scratch: Path) -> NDArray[np.float64]:
    """PDs that this code computes from the verified artefact."""
    # MLflow's own loader would run the code that is stored with the model.
    try:
        scorer = Scorer(Artefact.read(artefact_folder(download(registered, scratch), registered)))
        return scorer.score(columns).probability
    except (ArtefactError, ColumnsError) as error:
        raise RegistryError(f"{registered} cannot score the rows it was not fitted on: {error}") from None


@dataclass(frozen=True, slots=True, eq=False)
class Verdict:
    """The verdict holds the gates of a challenger on `rows` rows, against the champion if there is one.

    `incumbent` is the present champion, and `champion` has its PDs; it is None if they are not known, and then
    `obstacle` says why. `groups` are the approvals behind the fairness gates.
    """

    rows: int
    challenger: JudgedModel
    incumbent: Registered | None
    champion: JudgedModel | None
    obstacle: str | None
    groups: tuple[Group, ...]
    gates: tuple[Gate, ...]

    @property
    def missed(self) -> tuple[Gate, ...]:
        """The gates that the challenger did not pass."""
        return tuple(gate for gate in self.gates if not gate.passed)


def judge(
    registered: Registered,
    dataset: Dataset,
    settings: TrainingSettings,
    *,
    generated_allowed: bool = False,
    uncompared_allowed: bool = False,
) -> Verdict:
    """Judge a registered version on the labelled rows of `dataset`; the registry stays as it is.

    Champion and challenger are judged on the same rows. A row of a model's training data gets the out-of-fold PD, any
    other row the PD of the registered model. So a champion that was trained on these rows has no advantage. Out-of-fold
    PDs describe how a model is made rather than the one refitted on all rows, and settings tuned on these rows flatter
    the challenger. Labelled rows that came in since are the stronger test.

    This code may be unable to score a champion with other features or of an older release. Such a champion is compared
    only if all rows were in its training data. Only `uncompared_allowed` passes a challenger without the comparison.

    RegistryError if the version keeps no out-of-fold PDs or no sound artefact.
    """
    incumbent = current_champion(registered.name)
    challenger = judged_model(registered, dataset)
    rival, obstacle = _judged_champion(incumbent, dataset)
    with tempfile.TemporaryDirectory() as scratch:
        artefact = artefact_folder(download(registered, Path(scratch)), registered)
        differing = differing_probabilities(artefact)
        scorer = Scorer(Artefact.read(artefact))
    policy, limits = scorer.artefact.policy, settings.gates
    gates = [*_own_gates(challenger, dataset, policy, settings)]
    if rival is not None:
        gates += _champion_gates(challenger, rival, dataset, policy, settings)
    if incumbent is not None:
        gates.append(reason_gate(_reason_changes(scorer, incumbent, dataset), limits))
    if obstacle is not None:
        gates.append(comparability_gate(allowed=uncompared_allowed))
    if incumbent is not None:
        gates.append(source_gate(registered.source, incumbent.source, generated_allowed=generated_allowed))
    screening = screen(dataset.columns, challenger.probability, policy, limits.fairness)
    gates += screening.gates(limits)
    gates.append(latency_gate(median_milliseconds(scorer, dataset.columns, limits.latency.applications), limits))
    gates.append(parity_gate(differing, PARITY_CLIENTS))
    return Verdict(len(dataset), challenger, incumbent, rival, obstacle, screening.groups, tuple(gates))


def _judged_champion(incumbent: Registered | None, dataset: Dataset) -> tuple[JudgedModel | None, str | None]:
    """The champion with its PDs on the rows, or the reason why this code cannot compute them."""
    if incumbent is None:
        return None, None
    try:
        return judged_model(incumbent, dataset), None
    except RegistryError as error:
        return None, str(error)


def _reason_changes(scorer: Scorer, incumbent: Registered, dataset: Dataset) -> ReasonChanges | None:
    """How the first reasons differ from the champion's; None if this code cannot score with it."""
    try:
        with tempfile.TemporaryDirectory() as scratch:
            rival = Scorer(Artefact.read(artefact_folder(download(incumbent, Path(scratch)), incumbent)))
        return reason_changes(scorer, rival, dataset.columns)
    except (ArtefactError, ColumnsError, RegistryError):
        return None


def _own_gates(
    challenger: JudgedModel, dataset: Dataset, policy: DecisionPolicy, settings: TrainingSettings
) -> Iterator[Gate]:
    evaluation = evaluate(dataset.target, challenger.probability, policy, settings.evaluation, seed=settings.seed)
    return evaluation_gates(evaluation, settings.gates)


def _champion_gates(
    challenger: JudgedModel, rival: JudgedModel, dataset: Dataset, policy: DecisionPolicy, settings: TrainingSettings
) -> Iterator[Gate]:
    confidence = settings.evaluation.confidence
    comparison = compare(dataset.target, challenger.probability, rival.probability, policy, confidence)
    return comparison_gates(comparison, settings.gates)


def keep(verdict: Verdict, now: datetime) -> None:
    """Keep the gates of a verdict with the version that was judged: as its last ones, and in its history."""
    judged, incumbent = verdict.challenger.registered, verdict.incumbent
    gates = [asdict(gate) for gate in verdict.gates]
    record_judgement(judged, gates, None if incumbent is None else incumbent.version, now)
    MlflowClient().set_model_version_tag(judged.name, judged.version, GATES, json.dumps(gates))


def promote(verdict: Verdict, now: datetime) -> bentoml.Tag:
    """Make the judged version champion and return its tag in the BentoML store.

    GateError if it misses a gate; RegistryError if another version became champion since it was judged.
    """
    # Only the change is locked. Judging takes long, and a lock around it would hold up every other command.
    with champion_lock():
        return _promoted(verdict, now)


def _promoted(verdict: Verdict, now: datetime) -> bentoml.Tag:
    judged = verdict.challenger.registered
    incumbent = verdict.incumbent
    if current_champion(judged.name) != incumbent:
        raise RegistryError(
            f"{judged} was judged against {incumbent or 'no champion'}, but the champion has changed: judge it again"
        )
    # Before the check: an audit asks for the figures of refused versions too.
    keep(verdict, now)
    if verdict.missed:
        raise GateError(f"{judged} is not promoted: it misses {'; '.join(gate.name for gate in verdict.missed)}")
    return make_champion(judged, now)


def make_champion(registered: Registered, now: datetime) -> bentoml.Tag:
    """Make a version champion that passed its gates, or finish an interrupted promotion; sign it if there is a key."""
    # The store comes last: an interrupted promotion leaves the older model served, and a repetition completes it.
    if key := os.environ.get(SIGNING_KEY_VARIABLE):
        sign_version(registered, Path(key))
    put_in_charge(registered)
    if succession(changes(registered.name))[-1:] != (registered.version,):
        record_change(registered, Action.PROMOTED, now)
    return import_model(registered)


def rollback(name: str, now: datetime, say: Callable[[str], object] = lambda _: None) -> tuple[Registered, bentoml.Tag]:
    """Restore the champion before the present one; RegistryError if there is none.

    A version that was deleted in the registry is skipped, and `say` reports it.
    The alias may name another version than the history, after an interruption or because somebody set it by hand. Then
    the history's champion is restored.
    """
    with champion_lock():
        return _rolled_back(name, now, say)


def _rolled_back(name: str, now: datetime, say: Callable[[str], object]) -> tuple[Registered, bentoml.Tag]:
    current, line = champion(name), succession(changes(name))
    if current is None or not line:
        raise RegistryError(f"{name}: no version was promoted")
    undone = line[-1] == current.version
    if undone and len(line) == 1:
        raise RegistryError(f"{current} is the first champion: there is none before it")
    restored = _newest_that_is_there(name, line[:-1] if undone else line, say)
    # The alias moves last. Until then it differs from the history, by which a repetition completes this rollback.
    tag = import_model(restored)
    if undone:
        record_change(restored, Action.RESTORED, now)
    put_in_charge(restored)
    return restored, tag


def _newest_that_is_there(name: str, line: Sequence[str], say: Callable[[str], object]) -> Registered:
    for version in reversed(line):
        try:
            return find(name, version)
        except RegistryError as error:
            say(f"passed over: {error}")
    raise RegistryError(f"{name}: no earlier champion is in the registry any more")
