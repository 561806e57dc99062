"""Judging a challenger: every gate, on rows that neither it nor the champion was fitted on."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scoring import Artefact, DecisionPolicy, Scorer
from training.data import Dataset
from training.evaluation import Group, evaluate
from training.registry import PARITY_CLIENTS, Registered, artefact_folder, differing_probabilities, download, reigning
from training.settings import TrainingSettings

from .comparison import compare
from .contender import Contender, contend
from .gates import (
    Gate,
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

    `groups` are the approvals behind the fairness gates.
    """

    rows: int
    challenger: Contender
    champion: Contender | None
    groups: tuple[Group, ...]
    gates: tuple[Gate, ...]

    @property
    def missed(self) -> tuple[Gate, ...]:
        """The gates that are not passed."""
        return tuple(gate for gate in self.gates if not gate.passed)


def judge(
    registered: Registered, dataset: Dataset, settings: TrainingSettings, *, generated_allowed: bool = False
) -> Verdict:
    """The verdict on a registered version from the labelled rows of `dataset`; nothing is changed.

    Champion and challenger are judged on the same rows, and on every row by a model that was not fitted on it: out of
    fold where the row was in a model's training data, by the registered model itself otherwise. So a champion that was
    trained on these very rows has no advantage. Out-of-fold PDs describe how a model is made rather than the one that
    was refitted on all rows, and settings that were tuned on these rows flatter the challenger: labelled rows that came
    in since are the stronger test.

    RegistryError if a version lacks what that needs.
    """
    incumbent = reigning(registered.name)
    challenger = contend(registered, dataset)
    rival = contend(incumbent, dataset) if incumbent else None
    with tempfile.TemporaryDirectory() as scratch:
        artefact = artefact_folder(download(registered, Path(scratch)), registered)
        differing = differing_probabilities(artefact)
        scorer = Scorer(Artefact.read(artefact))
    policy, limits = scorer.artefact.policy, settings.gates
    gates = [*_absolute(challenger, dataset, policy, settings)]
    if rival is not None:
        gates += _paired(challenger, rival, dataset, policy, settings)
        gates.append(source_gate(registered.source, rival.registered.source, generated_allowed=generated_allowed))
    screening = screen(dataset.columns, challenger.probability, policy, limits.fairness)
    gates += screening.gates(limits)
    gates.append(latency_gate(median_milliseconds(scorer, dataset.columns, limits.latency.applications), limits))
    gates.append(parity_gate(differing, PARITY_CLIENTS))
    return Verdict(len(dataset), challenger, rival, screening.groups, tuple(gates))


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
