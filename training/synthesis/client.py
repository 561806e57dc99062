"""The clients of one chunk, as the rest of the package knows them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .application import draw_application
from .chunk import Chunk, Stream
from .columns import Booleans, Columns, Floats, Integers, effect
from .copula import chance
from .risk import Latent, draw_latent, true_pd

_UNFILED_EFFECT = 0.15


@dataclass(frozen=True, slots=True)
class Clients:
    """Clients with their applications; shape (n,) each.

    `filed` says who is known to the credit bureau, `income_score` is about standard normal, `true_pd` the probability
    that TARGET is 1, `application` holds the 120 declared columns.
    """

    ids: Integers
    latent: Latent
    filed: Booleans
    income_score: Floats
    true_pd: Floats
    application: Columns

    def __len__(self) -> int:
        return len(self.ids)


def draw_clients(chunk: Chunk) -> Clients:
    """The clients of `chunk`; nothing but the chunk decides what they are."""
    rng = chunk.generator(Stream.APPLICATION)
    latent = draw_latent(rng, len(chunk))
    filed = ~chance(rng, chunk.population.unfiled, len(chunk))
    application = draw_application(rng, latent, filed=filed, population=chunk.population)
    visible = application.log_odds() + effect(~filed, _UNFILED_EFFECT)
    return Clients(
        ids=chunk.ids,
        latent=latent,
        filed=filed,
        income_score=application.employment.income_score,
        true_pd=true_pd(latent, visible=visible, annuity_to_income=application.annuity_to_income),
        application=application.columns(),
    )


def draw_target(chunk: Chunk, clients: Clients) -> Integers:
    """TARGET, shape (n,): 1 with probability `clients.true_pd`, independently."""
    rng = chunk.generator(Stream.OUTCOME)
    return (rng.random(len(clients)) < clients.true_pd).astype(np.int64)
