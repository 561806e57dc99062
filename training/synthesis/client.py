"""The clients of one chunk, as the rest of the package knows them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .address import draw_address
from .building import draw_building
from .chunk import Chunk, Stream
from .columns import Booleans, Columns, Floats, Integers, effect
from .contact import draw_contact
from .copula import chance
from .documents import draw_documents
from .employment import draw_employment
from .loan import draw_loan
from .person import draw_person
from .property import draw_property
from .references import draw_circle, draw_enquiries
from .region import draw_region
from .risk import Latent, draw_latent, true_pd
from .scores import draw_scores

_UNFILED_EFFECT = 0.15


@dataclass(frozen=True, slots=True)
class Clients:
    """Clients with their application; shape (n,) each.

    `filed` says who is known to the credit bureau, `income_score` is about standard normal, `true_pd` the probability
    that TARGET is 1, `application` holds the 120 declared columns.
    """

    ids: Integers
    latent: Latent
    filed: Booleans
    age: Floats
    income_score: Floats
    true_pd: Floats
    application: Columns

    def __len__(self) -> int:
        return len(self.ids)


def draw_clients(chunk: Chunk) -> Clients:
    """The clients of `chunk`; nothing but the chunk decides what they are."""
    rng = chunk.generator(Stream.APPLICATION)
    population, latent = chunk.population, draw_latent(rng, len(chunk))
    filed = ~chance(rng, population.unfiled, len(chunk))
    person, region = draw_person(rng, len(chunk)), draw_region(rng, len(chunk))
    employment = draw_employment(rng, person, region, latent)
    address = draw_address(rng, employment.employed)
    owned = draw_property(rng, person, employment)
    loan = draw_loan(rng, person, employment, population)
    contact = draw_contact(rng, person, employment, latent, population)
    circle = draw_circle(rng, latent)
    parts = (person, region, employment, address, owned, loan, contact, circle)
    application: Columns = {name: values for part in parts for name, values in part.columns().items()}
    application |= draw_scores(
        rng, latent=latent, person=person, employment=employment, region=region, filed=filed, population=population
    )
    application |= draw_enquiries(rng, latent, filed, population)
    application |= draw_documents(rng, loan, employment, population)
    application |= draw_building(rng, owned, region)
    return Clients(
        ids=chunk.ids,
        latent=latent,
        filed=filed,
        age=person.age,
        income_score=employment.income_score,
        true_pd=true_pd(
            latent,
            visible=sum((part.log_odds() for part in parts), effect(~filed, _UNFILED_EFFECT)),
            annuity_to_income=loan.instalment / employment.income,
        ),
        application=application,
    )


def draw_target(chunk: Chunk, clients: Clients) -> Integers:
    """TARGET, shape (n,): 1 with probability `clients.true_pd`, independently."""
    rng = chunk.generator(Stream.OUTCOME)
    return (rng.random(len(clients)) < clients.true_pd).astype(np.int64)
