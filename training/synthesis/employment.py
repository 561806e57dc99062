"""How the client earns a living: source of income, education, tenure and income."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .category import Category, Shares, draw_by, merged
from .columns import Booleans, Columns, Floats, to_multiple, whole
from .copula import Marginal, blend, chance
from .days import DAYS_PER_YEAR, NEVER
from .occupation import UNSTATED_OCCUPATION, draw_occupation, draw_organization, income_effect, occupation_log_odds
from .person import Person
from .region import Region
from .risk import Latent

_FIRST_JOB_AGE = 16.0
_PENSIONER_AT_AGE = (
    (20, 40, 46, 50, 53, 55, 57, 60, 63, 69),
    (0.003, 0.01, 0.025, 0.05, 0.11, 0.31, 0.53, 0.73, 0.84, 0.93),
)
_EARLIER_PENSION_OF_WOMEN, _LATER_PENSION_OF_MEN = 1.0, 2.0
_SOURCE = Shares.declared(
    "NAME_INCOME_TYPE",
    {
        "Working": 0.632,
        "Commercial associate": 0.283,
        "State servant": 0.0846,
        "Unemployed": 1e-4,
        "Student": 1e-4,
        "Maternity leave": 1e-4,
        "Businessman": 1e-4,
        "Pensioner": 0.0,
    },
)
_SOURCE_EFFECTS = {"Working": 0.1, "Commercial associate": -0.12, "State servant": -0.25}
_WITHOUT_EMPLOYER = ("Pensioner", "Unemployed")
_EDUCATION_LEVELS = (
    "Secondary / secondary special", "Higher education", "Incomplete higher", "Lower secondary", "Academic degree",
)  # fmt: skip
_EDUCATION = {
    source: Shares.declared("NAME_EDUCATION_TYPE", dict(zip(_EDUCATION_LEVELS, shares, strict=True)))
    for source, shares in {
        "Working": (0.74, 0.215, 0.034, 0.01, 0.0006),
        "Commercial associate": (0.622, 0.322, 0.049, 0.006, 0.0008),
        "State servant": (0.549, 0.405, 0.04, 0.005, 0.0008),
        "Unemployed": (0.7, 0.27, 0.02, 0.01, 0.0),
        "Student": (0.4, 0.2, 0.4, 0.0, 0.0),
        "Maternity leave": (0.6, 0.35, 0.04, 0.01, 0.0),
        "Businessman": (0.2, 0.7, 0.1, 0.0, 0.0),
        "Pensioner": (0.814, 0.14, 0.012, 0.033, 0.0003),
    }.items()
}
_EDUCATION_EFFECTS = {
    "Higher education": -0.4,
    "Academic degree": -0.5,
    "Incomplete higher": -0.05,
    "Lower secondary": 0.2,
}
_EDUCATED = ("Higher education", "Academic degree")
_TENURE = Marginal((12, 115, 215, 355, 800, 1_730, 3_300, 5_500, 7_600, 11_800, 17_900))
_STATE_TENURE = Marginal((35, 150, 305, 500, 1_165, 2_530, 4_800, 7_740, 9_480, 12_450, 16_500))

_LOG_INCOME = 11.76
_INCOME_OF_SOURCE = {"Commercial associate": 0.15, "Pensioner": -0.17, "Businessman": 0.4}
_INCOME_OF_EDUCATION = {
    "Higher education": 0.17,
    "Academic degree": 0.25,
    "Incomplete higher": 0.08,
    "Lower secondary": -0.1,
}
_INCOME_SPREAD = 0.39
_INCOME_STEPS = Shares.of({"22500": 0.7, "4500": 0.25, "450": 0.05})
_INCOME_LIMITS = (25_650.0, 4_500_000.0)


@dataclass(frozen=True, slots=True)
class Employment:
    """Source and size of income, education, occupation, employer and tenure in days (NaN without); shape (n,) each."""

    source: Category
    education: Category
    occupation: Category
    organization: Category
    tenure_days: Floats
    income: Floats

    @property
    def employed(self) -> Booleans:
        """Which clients have an employer."""
        return ~np.isnan(self.tenure_days)

    @property
    def educated(self) -> Booleans:
        """Which clients have a degree."""
        return self.education.among(_EDUCATED)

    @property
    def income_score(self) -> Floats:
        """Log income, about standard normal."""
        return (np.log(self.income) - 11.9) / 0.48

    def columns(self) -> Columns:
        """The application columns that this part states."""
        return {
            "AMT_INCOME_TOTAL": self.income,
            "NAME_INCOME_TYPE": self.source,
            "NAME_EDUCATION_TYPE": self.education,
            "DAYS_EMPLOYED": whole(np.where(self.employed, -self.tenure_days, NEVER)),
            "FLAG_EMP_PHONE": whole(self.employed),
            "OCCUPATION_TYPE": self.occupation,
            "ORGANIZATION_TYPE": self.organization,
        }

    def log_odds(self) -> Floats:
        """Effect on the log-odds of default: a fresh job is a risk that fades within a few years."""
        fresh = np.where(self.employed, np.exp(-np.nan_to_num(self.tenure_days) / (2.5 * DAYS_PER_YEAR)), 0.0)
        levels = self.education.values(_EDUCATION_EFFECTS) + self.source.values(_SOURCE_EFFECTS)
        return levels + 0.7 * fresh + occupation_log_odds(self.occupation, self.organization)


def draw_employment(rng: np.random.Generator, person: Person, region: Region, latent: Latent) -> Employment:
    """How each person of `person` earns a living."""
    source = _draw_source(rng, person)
    education = draw_by(rng, source, _EDUCATION)
    employed, state = ~source.among(_WITHOUT_EMPLOYER), source.equals("State servant")
    occupation = draw_occupation(rng, female=person.female, educated=education.among(_EDUCATED), state=state)
    organization = draw_organization(rng, occupation, employed=employed, state=state)
    occupation = occupation.only(employed & ~chance(rng, UNSTATED_OCCUPATION, len(employed)))
    tenure = np.where(employed, _draw_tenure(rng, person, latent, state), np.nan)
    income = _draw_income(rng, person, region, source, education, occupation)
    return Employment(source, education, occupation, organization, tenure, income)


def _draw_source(rng: np.random.Generator, person: Person) -> Category:
    shift = np.where(person.female, _EARLIER_PENSION_OF_WOMEN, -_LATER_PENSION_OF_MEN)
    pensioner = chance(rng, np.interp(person.age + shift, *_PENSIONER_AT_AGE), len(shift))
    levels = _SOURCE.levels
    retired = Category(levels, np.full(len(shift), levels.index("Pensioner"), dtype=np.int16))
    return merged(pensioner, retired, _SOURCE.draw(rng, len(shift)))


def _draw_tenure(rng: np.random.Generator, person: Person, latent: Latent, state: Booleans) -> Floats:
    """Days in the current job, never before the age of 16."""
    scores = blend(rng, (0.33, person.age_score), (-0.2, latent.stability))
    days = np.where(state, _STATE_TENURE.at(scores), _TENURE.at(scores))
    return np.floor(np.minimum(days, person.age_days - _FIRST_JOB_AGE * DAYS_PER_YEAR))


def _draw_income(
    rng: np.random.Generator,
    person: Person,
    region: Region,
    source: Category,
    education: Category,
    occupation: Category,
) -> Floats:
    mean = source.values(_INCOME_OF_SOURCE) + education.values(_INCOME_OF_EDUCATION) + income_effect(occupation)
    mean += _LOG_INCOME + 0.22 * ~person.female + 0.12 * region.score
    income = np.exp(mean + _INCOME_SPREAD * rng.standard_normal(len(mean)))
    steps = _INCOME_STEPS.draw(rng, len(mean)).values({step: float(step) for step in _INCOME_STEPS.levels})
    return np.clip(to_multiple(income, steps), *_INCOME_LIMITS)
