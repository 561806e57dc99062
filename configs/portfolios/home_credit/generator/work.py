"""The work of clients: source of income, education, occupation, employer, tenure and income."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from configs.portfolios.home_credit.generator.draws import (
    DAYS_PER_YEAR,
    NEVER,
    Booleans,
    Category,
    Columns,
    Floats,
    LevelShares,
    Marginal,
    blend,
    chance,
    check_levels,
    draw_by,
    merged,
    to_multiple,
    whole,
)
from configs.portfolios.home_credit.generator.person import Person, Region
from configs.portfolios.home_credit.generator.population import Latent

UNSTATED_OCCUPATION = 0.158
_EDUCATED_SHARE, _STATE_SHARE = 0.26, 0.085


class _Occupation(NamedTuple):
    """Shares among women and men, factors on them, effect on log income, effect on the log-odds of default."""

    women: float
    men: float
    higher_education: float
    state_servant: float
    income: float
    log_odds: float


_OCCUPATIONS = {
    "Accountants": _Occupation(0.072, 0.004, 2.6, 0.8, 0.2, -0.3),
    "Cleaning staff": _Occupation(0.035, 0.004, 0.2, 0.5, -0.2, 0.05),
    "Cooking staff": _Occupation(0.041, 0.008, 0.25, 0.8, -0.15, 0.1),
    "Core staff": _Occupation(0.167, 0.069, 2.0, 3.2, 0.0, -0.15),
    "Drivers": _Occupation(0.008, 0.217, 0.4, 0.5, 0.05, 0.2),
    "HR staff": _Occupation(0.005, 0.001, 2.8, 1.7, 0.15, -0.2),
    "High skill tech staff": _Occupation(0.056, 0.048, 1.7, 1.0, 0.05, -0.15),
    "IT staff": _Occupation(0.001, 0.004, 3.0, 0.5, 0.25, -0.1),
    "Laborers": _Occupation(0.178, 0.389, 0.45, 0.35, -0.02, 0.12),
    "Low-skill Laborers": _Occupation(0.003, 0.023, 0.25, 0.1, -0.2, 0.45),
    "Managers": _Occupation(0.088, 0.119, 2.4, 1.2, 0.3, -0.2),
    "Medicine staff": _Occupation(0.063, 0.003, 0.4, 4.0, -0.05, -0.05),
    "Private service staff": _Occupation(0.019, 0.001, 0.9, 0.1, 0.05, 0.0),
    "Realty agents": _Occupation(0.006, 0.001, 1.4, 0.1, 0.1, 0.0),
    "Sales staff": _Occupation(0.224, 0.051, 0.65, 0.05, -0.08, 0.1),
    "Secretaries": _Occupation(0.011, 0.001, 1.7, 2.2, -0.02, -0.1),
    "Security staff": _Occupation(0.016, 0.056, 0.4, 0.85, -0.1, 0.15),
    "Waiters/barmen staff": _Occupation(0.009, 0.001, 0.6, 0.5, -0.1, 0.05),
}
# Checked at import: a level that the declaration gained would otherwise never be drawn, and nobody would notice.
check_levels("OCCUPATION_TYPE", _OCCUPATIONS)


class _Organization(NamedTuple):
    """Shares among private employees and state servants, effect on the log-odds of default."""

    private: float
    state: float
    log_odds: float = 0.0


_ORGANIZATIONS = {
    "Advertising": _Organization(0.0018, 0.001),
    "Agriculture": _Organization(0.0095, 0.0016, 0.1),
    "Bank": _Organization(0.01, 0.004, -0.2),
    "Business Entity Type 1": _Organization(0.0255, 0.006),
    "Business Entity Type 2": _Organization(0.044, 0.012),
    "Business Entity Type 3": _Organization(0.3, 0.025, 0.05),
    "Cleaning": _Organization(0.001, 0.001, 0.2),
    "Construction": _Organization(0.03, 0.004, 0.2),
    "Culture": _Organization(0.0014, 0.0037, -0.2),
    "Electricity": _Organization(0.004, 0.0037),
    "Emergency": _Organization(0.0014, 0.01),
    "Government": _Organization(0.032, 0.142, -0.1),
    "Hotel": _Organization(0.004, 0.0024),
    "Housing": _Organization(0.012, 0.0127),
    "Industry: type 1": _Organization(0.0045, 0.0012, 0.1),
    "Industry: type 2": _Organization(0.0023, 0.0004),
    "Industry: type 3": _Organization(0.015, 0.0012, 0.15),
    "Industry: type 4": _Organization(0.0035, 0.0002, 0.1),
    "Industry: type 5": _Organization(0.003, 0.0002),
    "Industry: type 6": _Organization(0.0004, 0.0001),
    "Industry: type 7": _Organization(0.0055, 0.0016),
    "Industry: type 8": _Organization(0.0001, 0.0),
    "Industry: type 9": _Organization(0.0145, 0.0045, -0.15),
    "Industry: type 10": _Organization(0.0008, 0.0004),
    "Industry: type 11": _Organization(0.011, 0.0045),
    "Industry: type 12": _Organization(0.0019, 0.0008, -0.3),
    "Industry: type 13": _Organization(0.0003, 0.0002, 0.3),
    "Insurance": _Organization(0.0023, 0.0012, -0.1),
    "Kindergarten": _Organization(0.021, 0.093, -0.1),
    "Legal Services": _Organization(0.0012, 0.002),
    "Medicine": _Organization(0.012, 0.1, -0.1),
    "Military": _Organization(0.0047, 0.057, -0.4),
    "Mobile": _Organization(0.0013, 0.0003),
    "Other": _Organization(0.06, 0.132),
    "Police": _Organization(0.0038, 0.063, -0.4),
    "Postal": _Organization(0.006, 0.025),
    "Realtor": _Organization(0.0016, 0.0008, 0.2),
    "Religion": _Organization(0.0003, 0.0001, -0.2),
    "Restaurant": _Organization(0.0075, 0.002, 0.25),
    "School": _Organization(0.012, 0.1, -0.2),
    "Security": _Organization(0.002, 0.001, 0.1),
    "Security Ministries": _Organization(0.004, 0.043, -0.4),
    "Self-employed": _Organization(0.13, 0.009, 0.15),
    "Services": _Organization(0.007, 0.0005),
    "Telecom": _Organization(0.0021, 0.0024),
    "Trade: type 1": _Organization(0.0015, 0.0004),
    "Trade: type 2": _Organization(0.0082, 0.0002),
    "Trade: type 3": _Organization(0.0162, 0.0012, 0.15),
    "Trade: type 4": _Organization(0.0003, 0.0),
    "Trade: type 5": _Organization(0.0003, 0.0),
    "Trade: type 6": _Organization(0.0029, 0.0012, -0.3),
    "Trade: type 7": _Organization(0.033, 0.003, 0.1),
    "Transport: type 1": _Organization(0.0007, 0.0004),
    "Transport: type 2": _Organization(0.0083, 0.009),
    "Transport: type 3": _Organization(0.0043, 0.0004, 0.4),
    "Transport: type 4": _Organization(0.022, 0.0045, 0.1),
    "University": _Organization(0.004, 0.0143, -0.3),
    "XNA": _Organization(0.0, 0.0),
}
check_levels("ORGANIZATION_TYPE", _ORGANIZATIONS)

_TYPICAL_EMPLOYER = {
    "Medicine staff": (0.65, "Medicine"),
    "Security staff": (0.32, "Security"),
    "Drivers": (0.07, "Transport: type 4"),
    "Cooking staff": (0.11, "Restaurant"),
    "Core staff": (0.13, "School"),
    "Sales staff": (0.27, "Self-employed"),
}


def draw_occupation(rng: np.random.Generator, *, female: Booleans, educated: Booleans, state: Booleans) -> Category:
    """Draw occupations, shape (n,), by sex, higher education and service to the state; none is missing."""
    women, men, higher, servant, *_ = np.array(tuple(_OCCUPATIONS.values())).T
    average = (1 + _EDUCATED_SHARE * (higher - 1)) * (1 + _STATE_SHARE * (servant - 1))
    # Divided by the average factor, so that the factors leave the shares of women and men about as they are stated.
    tilt = np.where(female[:, None], women, men) / average
    tilt = tilt * np.where(educated[:, None], higher, 1.0) * np.where(state[:, None], servant, 1.0)
    return LevelShares(tuple(_OCCUPATIONS), (1.0,) * len(_OCCUPATIONS)).draw_tilted(rng, tilt)


def draw_organization(
    rng: np.random.Generator, occupation: Category, *, employed: Booleans, state: Booleans
) -> Category:
    """Draw employers, shape (n,): XNA exactly for clients not `employed`, others by occupation and state service."""
    levels = tuple(_ORGANIZATIONS)
    private, servant, _ = np.array(tuple(_ORGANIZATIONS.values())).T
    drawn = Category(levels, LevelShares(levels, tuple(private)).draw(rng, len(state)).codes)
    drawn = merged(state, LevelShares(levels, tuple(servant)).draw(rng, len(state)), drawn)
    for name, (share, employer) in _TYPICAL_EMPLOYER.items():
        typical = occupation.equals(name) & chance(rng, share, len(state))
        drawn = merged(typical, _filled(levels, employer, len(state)), drawn)
    return merged(employed, drawn, _filled(levels, "XNA", len(state)))


def _filled(levels: tuple[str, ...], level: str, size: int) -> Category:
    return Category(levels, np.full(size, levels.index(level), dtype=np.int16))


def income_effect(occupation: Category) -> Floats:
    """Effect of the occupation on log income, shape (n,)."""
    return occupation.values({name: entry.income for name, entry in _OCCUPATIONS.items()})


def occupation_log_odds(occupation: Category, organization: Category) -> Floats:
    """Effect of occupation and employer on the log-odds of default, shape (n,)."""
    by_occupation = occupation.values({name: entry.log_odds for name, entry in _OCCUPATIONS.items()})
    return by_occupation + organization.values({name: entry.log_odds for name, entry in _ORGANIZATIONS.items()})


_FIRST_JOB_AGE = 16.0
_PENSIONER_AT_AGE = (
    (20, 40, 46, 50, 53, 55, 57, 60, 63, 69),
    (0.003, 0.01, 0.025, 0.05, 0.11, 0.31, 0.53, 0.73, 0.84, 0.93),
)
_EARLIER_PENSION_OF_WOMEN, _LATER_PENSION_OF_MEN = 1.0, 2.0
_SOURCE = LevelShares.declared(
    "NAME_INCOME_TYPE",
    {
        "Working": 0.632,
        "Commercial associate": 0.283,
        "State servant": 0.0846,
        "Unemployed": 1e-4,
        "Student": 1e-4,
        "Maternity leave": 1e-4,
        "Businessman": 1e-4,
        "Pensioner": 0.0,  # drawn by age and sex instead
    },
)
_SOURCE_EFFECTS = {"Working": 0.1, "Commercial associate": -0.12, "State servant": -0.25}
_WITHOUT_EMPLOYER = ("Pensioner", "Unemployed")
_EDUCATION_LEVELS = (
    "Secondary / secondary special", "Higher education", "Incomplete higher", "Lower secondary", "Academic degree",
)  # fmt: skip
_EDUCATION = {
    source: LevelShares.declared("NAME_EDUCATION_TYPE", dict(zip(_EDUCATION_LEVELS, shares, strict=True)))
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
# People state round incomes.
_INCOME_STEPS = LevelShares.of({"22500": 0.7, "4500": 0.25, "450": 0.05})
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
        # Mean and deviation of the log incomes that this module draws, rounded.
        return (np.log(self.income) - 11.9) / 0.48

    def columns(self) -> Columns:
        """The application columns that this part fills."""
        return {
            "AMT_INCOME_TOTAL": self.income,
            "NAME_INCOME_TYPE": self.source,
            "NAME_EDUCATION_TYPE": self.education,
            # Home Credit writes 365243 here, and XNA for the employer, where there is no employer.
            "DAYS_EMPLOYED": whole(np.where(self.employed, -self.tenure_days, NEVER)),
            "FLAG_EMP_PHONE": whole(self.employed),
            "OCCUPATION_TYPE": self.occupation,
            "ORGANIZATION_TYPE": self.organization,
        }

    def log_odds(self) -> Floats:
        """Effect on the log-odds of default: a new job is a risk that fades within a few years."""
        new_job = np.where(self.employed, np.exp(-np.nan_to_num(self.tenure_days) / (2.5 * DAYS_PER_YEAR)), 0.0)
        levels = self.education.values(_EDUCATION_EFFECTS) + self.source.values(_SOURCE_EFFECTS)
        return levels + 0.7 * new_job + occupation_log_odds(self.occupation, self.organization)


def draw_employment(rng: np.random.Generator, person: Person, region: Region, latent: Latent) -> Employment:
    """Draw the work and the income of each client."""
    source = _draw_source(rng, person)
    education = draw_by(rng, source, _EDUCATION)
    employed, state = ~source.among(_WITHOUT_EMPLOYER), source.equals("State servant")
    occupation = draw_occupation(rng, female=person.female, educated=education.among(_EDUCATED), state=state)
    organization = draw_organization(rng, occupation, employed=employed, state=state)
    # Blanked only now: the employer depends on the occupation even where the application does not state it.
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
    # Log-normal: incomes are skewed, and an effect raises all of them by the same share.
    income = np.exp(mean + _INCOME_SPREAD * rng.standard_normal(len(mean)))
    steps = _INCOME_STEPS.draw(rng, len(mean)).values({step: float(step) for step in _INCOME_STEPS.levels})
    return np.clip(to_multiple(income, steps), *_INCOME_LIMITS)
