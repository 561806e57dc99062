"""Two models of a portfolio with histories: one reads every roll-up, the other reads the application alone."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from jobs.commandline import Progress
from scoring.artefact import Artefact
from scoring.scorer import Scorer, with_conformance
from scoring.store import StoredModel
from tests.features.histories import FOLDER
from tests.portfolios.test_portfolio import artefact_of, dataset_of, load, settings_of
from training.trainer import train

NAMES = ["credits_90d", "credits_365d", "open_debt", "late_credits"]
"""The roll-ups."""


@cache
def model() -> StoredModel:
    """A model that reads every roll-up."""
    artefact = artefact_of(FOLDER)
    assert set(NAMES) <= set(artefact.features.names)
    return StoredModel("lender", f"1-{artefact.digest[:32]}", Scorer(artefact))


@cache
def second_artefact() -> Artefact:
    """A model that reads the income alone, with a policy of its own."""
    settings = settings_of(FOLDER)
    settings = settings.model_copy(update={"features": settings.features.model_copy(update={"sets": ("baseline",)})})
    artefact = train(dataset_of(load(FOLDER)), settings, Progress(quiet=True)).artefact({})
    assert artefact.features.names == ("income",)
    return with_conformance(replace(artefact, policy=replace(artefact.policy, cutoff=artefact.policy.refer_from)))


def second() -> StoredModel:
    artefact = second_artefact()
    return StoredModel("lender", f"2-{artefact.digest[:32]}", Scorer(artefact))
