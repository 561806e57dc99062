"""The tables of what each policy costs, and of the gates."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from scoring import Outcome
from training.data import Dataset
from training.evaluation import Estimate, Threshold
from training.fitting import TrainedModel
from training.promotion import Gate, evaluation_gates, screen
from training.settings import GateSettings, TrainingSettings

from .cells import NOTHING, count, decimal, percent, signed, span
from .table import Row, Table


def price_table(trained: TrainedModel, settings: TrainingSettings) -> Table:
    """What the policies cost that a lender chooses, each measured on the folds of the training."""
    head = ("policy", "setting", "price", f"{100 * trained.evaluation.confidence:g} % interval", "measured as")
    return Table.of("llrrl", head, _prices(trained, settings))


def _prices(trained: TrainedModel, settings: TrainingSettings) -> Iterator[Row]:
    without = settings.features.without
    free = "AUC that the model would gain without this policy, paired on the same rows"
    if without:
        named = ", ".join(attribute.replace("_", " ") for attribute in without)
        yield "protected attributes out", named, *_auc(trained.price), free
    else:
        yield "protected attributes out", "none is kept out", "none", NOTHING, "nothing was given up"
    if trained.monotone_price is None:
        yield "features held to a direction", "none", "none", NOTHING, "nothing was given up"
    else:
        directions = ", ".join(f"{name} {_DIRECTIONS[way]}" for name, way in settings.model.monotone.items())
        yield "features held to a direction", directions, *_auc(trained.monotone_price), free
    referred = np.count_nonzero(trained.policy.outcomes(trained.probabilities) == Outcome.REFER)
    share, people = percent(float(referred) / len(trained.probabilities)), count(int(referred))
    band = f"PD {trained.policy.refer_from:.4f} to {trained.policy.refer_to:.4f}"
    yield (
        "refer band",
        band,
        share,
        NOTHING,
        f"applications that a person decides, {people} of those judged",
    )


_DIRECTIONS = {-1: "may only lower the PD", 1: "may only raise the PD"}


def _auc(price: Estimate) -> tuple[str, str]:
    return f"{decimal(price.value)} AUC", span(price)


def cutoff_table(trained: TrainedModel, beta: float) -> Table:
    """The cut-off of the costs against those that a search on the same rows would pick."""
    names = {
        "bayes": "implied by the costs: the policy's",
        "grid_search": "cheapest on these very rows",
        "f_beta": f"best F-{beta:g} on these very rows: the original design",
    }
    used = trained.evaluation.thresholds[0].cost_per_applicant

    def row(threshold: Threshold) -> Row:
        cost = threshold.cost_per_applicant
        figures = (decimal(threshold.cutoff), decimal(cost), signed(cost - used), decimal(threshold.f_beta))
        return names[threshold.method], *figures

    head = ("cut-off", "PD", "cost per applicant", "against the policy's", f"F-{beta:g}")
    return Table.of("lrrrr", head, map(row, trained.evaluation.thresholds))


def training_gates(dataset: Dataset, trained: TrainedModel, settings: TrainingSettings) -> tuple[Gate, ...]:
    """The gates that the training alone can judge: on its later applications, out of fold where there are none.

    Of later applications the approvals are not known here, so they are screened when the model is to be promoted.
    """
    limits = settings.gates
    if trained.later is not None:
        return tuple(evaluation_gates(trained.later, limits))
    screening = screen(dataset.columns, trained.probabilities, trained.policy, limits.fairness)
    return (*evaluation_gates(trained.evaluation, limits), *screening.gates(limits))


def gate_table(gates: tuple[Gate, ...], limits: GateSettings, *, screened: bool) -> Table:
    """Every gate with its limit; those that need the registry, or approvals not `screened` here, are judged later."""
    judged = ((gate.name, gate.figure, gate.limit, "met" if gate.passed else "missed") for gate in gates)
    rows = (*judged, *_gates_at_promotion(limits, screened=screened))
    return Table.of("lrrl", ("gate", "figure", "limit", "here"), rows)


def _gates_at_promotion(limits: GateSettings, *, screened: bool) -> Iterator[Row]:
    at = "at promotion"
    if not screened:
        yield "adverse impact ratios (screening)", NOTHING, f"at least {limits.fairness.min_impact_ratio:g}", at
    yield "AUC minus the champion's, lower end", NOTHING, f"at least {-limits.max_auc_loss:g}", at
    yield "cost minus the champion's, upper end", NOTHING, f"at most {limits.max_cost_increase:g}", at
    yield "median time of one application", NOTHING, f"at most {limits.latency.max_milliseconds:g} ms", at
    yield "probabilities that differ after the import", NOTHING, "at most 0", at
    yield "data, against the champion's", NOTHING, "real, if that is", at
