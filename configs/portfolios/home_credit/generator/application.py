"""The application table: draws all 120 declared columns of clients, their true PDs and their outcomes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

from configs.portfolios.home_credit.generator.building import Property, draw_building, draw_property
from configs.portfolios.home_credit.generator.draws import (
    Booleans,
    Columns,
    CountDistribution,
    Floats,
    Integers,
    Marginal,
    blend,
    chance,
    effect,
    missing_where,
)
from configs.portfolios.home_credit.generator.loan import Contact, Loan, draw_contact, draw_documents, draw_loan
from configs.portfolios.home_credit.generator.person import (
    Address,
    Person,
    Region,
    draw_address,
    draw_person,
    draw_region,
)
from configs.portfolios.home_credit.generator.population import Chunk, Latent, Population, Stream, draw_latent, true_pd
from configs.portfolios.home_credit.generator.work import Employment, draw_employment

_PROBABILITIES = (0.0, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.975, 0.99, 1.0)
# A finer grid than elsewhere, since these three scores rank the outcome better than other columns do.
_FIRST_SCORE = Marginal(
    (
        0.014, 0.06, 0.083, 0.121, 0.16, 0.215, 0.295, 0.37, 0.439, 0.506, 0.57, 0.638, 0.709, 0.785, 0.832, 0.862,
        0.892, 0.95,
    ),
    _PROBABILITIES,
)  # fmt: skip
_SECOND_SCORE = Marginal(
    (
        1e-5, 0.013, 0.03, 0.071, 0.136, 0.222, 0.341, 0.44, 0.512, 0.566, 0.607, 0.645, 0.682, 0.722, 0.747, 0.765,
        0.782, 0.855,
    ),
    _PROBABILITIES,
)  # fmt: skip
_THIRD_SCORE = Marginal(
    (
        5e-4, 0.035, 0.061, 0.104, 0.151, 0.223, 0.327, 0.403, 0.472, 0.532, 0.589, 0.64, 0.693, 0.749, 0.785, 0.813,
        0.833, 0.883,
    ),
    _PROBABILITIES,
)  # fmt: skip
_THIRD_STEPS = 120
_SECOND_MISSING = 0.0022
_THIRD_MISSING_IN_BUREAU = 0.072


def draw_scores(
    rng: np.random.Generator,
    *,
    latent: Latent,
    person: Person,
    employment: Employment,
    region: Region,
    in_bureau: Booleans,
    population: Population,
) -> Columns:
    """Draw EXT_SOURCE_1 .. 3, in 0..1; the third comes from the bureau, so clients unknown to it lack it."""
    size = len(in_bureau)
    absent = (
        chance(rng, _first_missing(person, employment, population), size),
        chance(rng, _SECOND_MISSING, size),
        ~in_bureau | chance(rng, _THIRD_MISSING_IN_BUREAU, size),
    )
    drawn = (
        _first_score(rng, latent, person, employment),
        _second_score(rng, latent, employment, region),
        _third_score(rng, latent, person),
    )
    names = (f"EXT_SOURCE_{i}" for i in (1, 2, 3))
    return {name: missing_where(gaps, scores) for name, gaps, scores in zip(names, absent, drawn, strict=True)}


def _first_score(rng: np.random.Generator, latent: Latent, person: Person, employment: Employment) -> Floats:
    """Rises with age; women and graduates score higher."""
    traits = 0.55 * (person.female - 0.66) + 0.35 * (employment.educated - 0.24)
    return _FIRST_SCORE.at(0.95 * blend(rng, (-0.72, latent.stability), (0.64, person.age_score)) + traits + 0.05)


def _second_score(rng: np.random.Generator, latent: Latent, employment: Employment, region: Region) -> Floats:
    """Depends on the region and, a little, on the income."""
    return _SECOND_SCORE.at(
        blend(rng, (-0.82, latent.discipline), (0.3, region.score), (0.08, employment.income_score))
    )


def _third_score(rng: np.random.Generator, latent: Latent, person: Person) -> Floats:
    """Takes some hundreds of distinct values, as the real score does."""
    scores = blend(rng, (-0.86, latent.burden), (0.2, person.age_score))
    return _THIRD_SCORE.at(np.rint(scores * _THIRD_STEPS) / _THIRD_STEPS)


def _first_missing(person: Person, employment: Employment, population: Population) -> Floats:
    """Probability that the first score is missing, shape (n,): highest without an employer, lower for graduates."""
    by_employment = effect(employment.educated, -0.45) + effect(~employment.employed, 1.1)
    # -0.14 offsets the mean of these effects, so that about the population's share is missing.
    odds = logit(population.source_1_missing) - 0.14 + by_employment + effect(~person.female, 0.15)
    return np.asarray(expit(odds), dtype=np.float64)


_OBSERVED = CountDistribution(
    (0.536, 0.16, 0.0945, 0.065, 0.048, 0.031, 0.023, 0.0135, 0.009, 0.0065, 0.004, 0.003, 0.002, 0.001, 0.001)
)
_UNKNOWN_CIRCLE = 0.0034
_DEFAULTED, _STILL_AFTER_60, _NOT_OBSERVED_60 = 0.1, 0.7, 0.011
_ENQUIRY_BURDEN = 0.15


@dataclass(frozen=True, slots=True)
class Circle:
    """Counts of people around the client, observed and defaulted at 30 and 60 days past due; NaN where unknown."""

    observed_30: Floats
    defaulted_30: Floats
    observed_60: Floats
    defaulted_60: Floats

    def columns(self) -> Columns:
        """The application columns that this part fills."""
        return {
            "OBS_30_CNT_SOCIAL_CIRCLE": self.observed_30,
            "DEF_30_CNT_SOCIAL_CIRCLE": self.defaulted_30,
            "OBS_60_CNT_SOCIAL_CIRCLE": self.observed_60,
            "DEF_60_CNT_SOCIAL_CIRCLE": self.defaulted_60,
        }

    def log_odds(self) -> Floats:
        """Effect on the log-odds of default."""
        return 0.15 * np.minimum(np.nan_to_num(self.defaulted_60), 3)


def draw_circle(rng: np.random.Generator, latent: Latent) -> Circle:
    """Draw the people around each client; they default more where the client's life is unstable."""
    size = len(latent.stability)
    observed = _OBSERVED.at(rng.standard_normal(size)).astype(np.int64)
    probability = np.minimum(_DEFAULTED * np.exp(0.3 * latent.stability), 1.0)
    # Each count is drawn from the one that contains it: defaults at 60 days are never more than at 30.
    defaulted = rng.binomial(observed, probability)
    defaulted_60 = rng.binomial(defaulted, _STILL_AFTER_60)
    observed_60 = np.maximum(observed - rng.binomial(observed, _NOT_OBSERVED_60), defaulted_60)
    unknown = chance(rng, _UNKNOWN_CIRCLE, size)
    return Circle(*(missing_where(unknown, counts) for counts in (observed, defaulted, observed_60, defaulted_60)))


def draw_enquiries(rng: np.random.Generator, latent: Latent, in_bureau: Booleans, population: Population) -> Columns:
    """Draw AMT_REQ_CREDIT_BUREAU_*: missing for clients not `in_bureau`, higher for clients in debt."""
    columns: Columns = {}
    for window, counts in population.enquiries.items():
        scores = blend(rng, (_ENQUIRY_BURDEN, latent.burden))
        columns[f"AMT_REQ_CREDIT_BUREAU_{window}"] = missing_where(~in_bureau, counts.at(scores))
    return columns


_Part = Person | Region | Employment | Address | Property | Loan | Contact | Circle


@dataclass(frozen=True, slots=True)
class Application:
    """The applications of some clients.

    The parts with an effect of their own on the risk are typed; `remainder` holds the columns of scores, enquiries,
    documents and building, which only reflect the risk or have nothing to do with it.
    """

    person: Person
    region: Region
    employment: Employment
    address: Address
    owned: Property
    loan: Loan
    contact: Contact
    circle: Circle
    remainder: Columns

    @property
    def annuity_to_income(self) -> Floats:
        """Monthly instalment over yearly income, shape (n,)."""
        return self.loan.instalment / self.employment.income

    def columns(self) -> Columns:
        """The declared columns, in no particular order."""
        return {name: values for part in self._parts() for name, values in part.columns().items()} | self.remainder

    def log_odds(self) -> Floats:
        """Effect of the parts on the log-odds of default, shape (n,)."""
        total: Floats = np.sum([part.log_odds() for part in self._parts()], axis=0)
        return total

    def _parts(self) -> tuple[_Part, ...]:
        return (
            self.person, self.region, self.employment, self.address, self.owned, self.loan, self.contact, self.circle,
        )  # fmt: skip


def draw_application(
    rng: np.random.Generator, latent: Latent, *, in_bureau: Booleans, population: Population
) -> Application:
    """Draw the applications of clients with the given risk, known to the credit bureau or not."""
    # One generator serves all parts, so the order of these calls is a part of what a seed means.
    person, region = draw_person(rng, len(in_bureau)), draw_region(rng, len(in_bureau))
    employment = draw_employment(rng, person, region, latent)
    owned = draw_property(rng, person, employment)
    loan = draw_loan(rng, person, employment, population)
    scores = draw_scores(
        rng,
        latent=latent,
        person=person,
        employment=employment,
        region=region,
        in_bureau=in_bureau,
        population=population,
    )
    enquiries = draw_enquiries(rng, latent, in_bureau, population)
    documents = draw_documents(rng, loan, employment, population)
    return Application(
        person=person,
        region=region,
        employment=employment,
        address=draw_address(rng, employment.employed),
        owned=owned,
        loan=loan,
        contact=draw_contact(rng, person, employment, latent, population),
        circle=draw_circle(rng, latent),
        remainder=scores | enquiries | documents | draw_building(rng, owned, region),
    )


_NOT_IN_BUREAU_EFFECT = 0.15


@dataclass(frozen=True, slots=True)
class Clients:
    """Clients with their applications; shape (n,) each.

    `in_bureau` says who is known to the credit bureau; `income_score` is about standard normal; `true_pd` is the
    probability that TARGET is 1; `application` holds the 120 declared columns.
    """

    ids: Integers
    latent: Latent
    in_bureau: Booleans
    income_score: Floats
    true_pd: Floats
    application: Columns

    def __len__(self) -> int:
        return len(self.ids)


def draw_clients(chunk: Chunk, intervention: Callable[[Application], Application] | None = None) -> Clients:
    """Draw the clients of `chunk`; the same chunk always gives the same clients.

    An intervention changes their applications, and so their true PDs; everything that is drawn stays the same.
    """
    rng = chunk.generator(Stream.APPLICATION)
    latent = draw_latent(rng, len(chunk))
    in_bureau = ~chance(rng, chunk.population.not_in_bureau, len(chunk))
    application = draw_application(rng, latent, in_bureau=in_bureau, population=chunk.population)
    application = application if intervention is None else intervention(application)
    # A client without a bureau file is riskier, so a missing third score carries information too.
    visible = application.log_odds() + effect(~in_bureau, _NOT_IN_BUREAU_EFFECT)
    return Clients(
        ids=chunk.ids,
        latent=latent,
        in_bureau=in_bureau,
        income_score=application.employment.income_score,
        true_pd=true_pd(latent, visible=visible, annuity_to_income=application.annuity_to_income),
        application=application.columns(),
    )


def draw_target(chunk: Chunk, clients: Clients) -> Integers:
    """Draw TARGET, shape (n,): 1 with probability `clients.true_pd`, independently."""
    # A stream of its own: another column drawn for the application leaves the random numbers of outcomes as they are.
    rng = chunk.generator(Stream.OUTCOME)
    return (rng.random(len(clients)) < clients.true_pd).astype(np.int64)
