"""Judging a challenger: every gate, on rows that neither it nor the champion was fitted on."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scoring import Artefact, DecisionPolicy, Scorer
from training.data import Dataset
from training.errors import RegistryError
from training.evaluation import Group, evaluate
from training.registry import PARITY_CLIENTS, Registered, artefact_folder, differing_probabilities, download, reigning
from training.settings import TrainingSettings

from .comparison import compare
from .contender import Contender, contend
from .gates import (
    Gate,
    comparability_gate,
    comparison_gates,
    evaluation_gates,
    latency_gate,
    parity_gate,
    source_gate,
)
from .latency import median_milliseconds
from .screening import screen


@dataclass(frozen=True, slots=True, eq=False)
class Verdict:
    """How a challenger did on `rows` rows, against the champion if there is one.

    `incumbent` is in charge. `champion` are its PDs, None where there are none to compare with; `obstacle` says why.
    `groups` are the approvals behind the fairness gates.
    """

    rows: int
    challenger: Contender
    incumbent: Registered | None
    champion: Contender | None
    obstacle: str | None
    groups: tuple[Group, ...]
    gates: tuple[Gate, ...]

    @property
    def missed(self) -> tuple[Gate, ...]:
        """The gates that are not passed."""
        return tuple(gate for gate in self.gates if not gate.passed)


def judge(
    registered: Registered,
    dataset: Dataset,
    settings: TrainingSettings,
    *,
    generated_allowed: bool = False,
    uncompared_allowed: bool = False,
) -> Verdict:
    """The verdict on a registered version from the labelled rows of `dataset`; nothing is changed.

    Champion and challenger are judged on the same rows, and on every row by a model that was not fitted on it: out of
    fold where the row was in a model's training data, by the registered model itself otherwise. So a champion that was
    trained on these very rows has no advantage. Out-of-fold PDs describe how a model is made rather than the one that
    was refitted on all rows, and settings that were tuned on these rows flatter the challenger: labelled rows that came
    in since are the stronger test.

    A champion that this code cannot score, since its features or an older release made it otherwise, is compared with
    only if it was fitted on all of the rows. To do without the comparison must be asked for.

    RegistryError if the version lacks what that needs.
    """
    incumbent = reigning(registered.name)
    challenger = contend(registered, dataset)
    rival, obstacle = _rival(incumbent, dataset)
    with tempfile.TemporaryDirectory() as scratch:
        artefact = artefact_folder(download(registered, Path(scratch)), registered)
        differing = differing_probabilities(artefact)
        scorer = Scorer(Artefact.read(artefact))
    policy, limits = scorer.artefact.policy, settings.gates
    gates = [*_absolute(challenger, dataset, policy, settings)]
    if rival is not None:
        gates += _paired(challenger, rival, dataset, policy, settings)
    if obstacle is not None:
        gates.append(comparability_gate(allowed=uncompared_allowed))
    if incumbent is not None:
        gates.append(source_gate(registered.source, incumbent.source, generated_allowed=generated_allowed))
    screening = screen(dataset.columns, challenger.probability, policy, limits.fairness)
    gates += screening.gates(limits)
    gates.append(latency_gate(median_milliseconds(scorer, dataset.columns, limits.latency.applications), limits))
    gates.append(parity_gate(differing, PARITY_CLIENTS))
    return Verdict(len(dataset), challenger, incumbent, rival, obstacle, screening.groups, tuple(gates))


def _rival(incumbent: Registered | None, dataset: Dataset) -> tuple[Contender | None, str | None]:
    """The version in charge on the rows, or why it cannot be had."""
    if incumbent is None:
        return None, None
    try:
        return contend(incumbent, dataset), None
    except RegistryError as error:
        return None, str(error)


def _absolute(
    challenger: Contender, dataset: Dataset, policy: DecisionPolicy, settings: TrainingSettings
) -> Iterator[Gate]:
    evaluation = evaluate(dataset.target, challenger.probability, policy, settings.evaluation, seed=settings.seed)
    return evaluation_gates(evaluation, settings.gates)


def _paired(
    challenger: Contender, rival: Contender, dataset: Dataset, policy: DecisionPolicy, settings: TrainingSettings
) -> Iterator[Gate]:
    confidence = settings.evaluation.confidence
    comparison = compare(dataset.target, challenger.probability, rival.probability, policy, confidence)
    return comparison_gates(comparison, settings.gates)
