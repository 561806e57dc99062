"""The loan asked for, how the client applied, and the documents handed in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from configs.portfolios.home_credit.generator.draws import (
    Booleans,
    Category,
    Columns,
    Floats,
    LevelShares,
    Marginal,
    blend,
    chance,
    draw_by,
    effect,
    pick,
    to_multiple,
    whole,
)
from configs.portfolios.home_credit.generator.person import Person
from configs.portfolios.home_credit.generator.population import Latent, Population
from configs.portfolios.home_credit.generator.work import Employment


def annuity(credit: Floats, monthly_rate: Floats, months: Floats) -> Floats:
    """Instalment that repays `credit` in `months` at `monthly_rate` > 0, shape (n,): C r / (1 - (1 + r)^-m)."""
    # expm1 and log1p keep the digits that 1 - (1 + r)**-m loses at small rates.
    return credit * monthly_rate / -np.expm1(-months * np.log1p(monthly_rate))


def outstanding(credit: Floats, monthly_rate: Floats, instalment: Floats, paid: Floats) -> Floats:
    """Principal left after `paid` instalments, shape (n,): C (1 + r)^p - A ((1 + r)^p - 1) / r."""
    growth = (1 + monthly_rate) ** paid
    return credit * growth - instalment * (growth - 1) / monthly_rate


_CONTRACT = ("Cash loans", "Revolving loans")
_UNPRICED_REVOLVING = 0.009
_PRICE_STEPS = LevelShares.of({"225000": 0.36, "45000": 0.24, "22500": 0.1, "4500": 0.3})
# Credit over price, and its weight: insurance is financed with the goods, so the credit exceeds their price.
_INSURANCE = {
    1.0528: 3.0, 1.066: 3.5, 1.0792: 3.6, 1.0964: 2.0, 1.1056: 5.0, 1.1188: 9.5, 1.132: 7.3, 1.1452: 5.0, 1.1584: 13.0,
    1.1716: 2.0, 1.198: 13.4, 1.2112: 6.8, 1.2376: 4.0, 1.264: 4.4, 1.2852: 2.0, 1.3168: 5.3, 1.396: 5.1, 1.4224: 2.9,
    1.4752: 2.0,
}  # fmt: skip
_MONTHLY_RATE = Marginal((0.007, 0.009, 0.011, 0.013, 0.016, 0.02, 0.024, 0.027, 0.029, 0.033, 0.038))
_LIMITS = LevelShares.of(
    {
        "135000": 7.0, "157500": 3.0, "180000": 23.0, "202500": 6.6, "225000": 5.0, "247500": 4.6, "270000": 19.5,
        "315000": 2.4, "337500": 4.1, "405000": 3.7, "450000": 3.8, "540000": 2.8, "585000": 1.9, "675000": 2.2,
        "765000": 1.5, "900000": 1.8,
    }
)  # fmt: skip
_REVOLVING_INSTALMENT = 0.05
_UNIT = 4.5


@dataclass(frozen=True, slots=True)
class Loan:
    """Amounts in currency, shape (n,) each; the goods of some revolving loans have no price (NaN)."""

    revolving: Booleans
    goods: Floats
    credit: Floats
    instalment: Floats

    def columns(self) -> Columns:
        """The application columns that this part fills."""
        return {
            "NAME_CONTRACT_TYPE": Category(_CONTRACT, self.revolving.astype(np.int16)),
            "AMT_CREDIT": self.credit,
            "AMT_ANNUITY": self.instalment,
            "AMT_GOODS_PRICE": self.goods,
        }

    def log_odds(self) -> Floats:
        """Effect on the log-odds of default: higher with insurance and near 18 months, lower for large credits."""
        term = self.credit / self.instalment
        # The effect of the term has a peak at 18 months: trees can follow it, a linear model cannot.
        loading = np.clip(np.nan_to_num(self.credit / self.goods, nan=1.0) - 1, 0, 0.5)
        cash = 2.2 * loading + 0.7 * np.exp(-(((term - 18) / 5) ** 2)) - 0.2 * np.log(self.credit / 500_000)
        return np.where(self.revolving, -0.1, cash)


def draw_loan(rng: np.random.Generator, person: Person, employment: Employment, population: Population) -> Loan:
    """Draw the loan that each client asks for; richer and older clients ask for more."""
    size = len(person.age)
    revolving = chance(rng, population.revolving, size)
    demand = blend(rng, (0.42, employment.income_score), (0.1, person.age_score))
    goods = _draw_price(rng, demand, population)
    credit = to_multiple(goods * _draw_loading(rng, size, population.uninsured), _UNIT)
    instalment = _draw_instalment(rng, credit, demand, population)
    limit = _LIMITS.draw(rng, size).values({limit: float(limit) for limit in _LIMITS.levels})
    unpriced = revolving & chance(rng, _UNPRICED_REVOLVING, size)
    return Loan(
        revolving=revolving,
        goods=np.where(unpriced, np.nan, np.where(revolving, limit, goods)),
        credit=np.where(revolving, limit, credit),
        instalment=np.where(revolving, limit * _REVOLVING_INSTALMENT, instalment),
    )


def _draw_price(rng: np.random.Generator, demand: Floats, population: Population) -> Floats:
    """Prices, most of them round; small prices are never rounded to the coarse steps."""
    price = population.price.at(demand)
    steps = _PRICE_STEPS.draw(rng, len(demand)).values({step: float(step) for step in _PRICE_STEPS.levels})
    return np.maximum(to_multiple(price, np.where(steps > price, 4_500.0, steps)), 40_500.0)


def _draw_loading(rng: np.random.Generator, size: int, uninsured: float) -> Floats:
    """Credit over price: 1 without insurance."""
    shares = np.broadcast_to(tuple(_INSURANCE.values()), (size, len(_INSURANCE)))
    insured = np.array(tuple(_INSURANCE))[pick(rng, shares)]
    return np.where(chance(rng, uninsured, size), 1.0, insured)


def _draw_instalment(rng: np.random.Generator, credit: Floats, demand: Floats, population: Population) -> Floats:
    """Larger loans run longer and cost less per month."""
    lengths = np.cumsum(tuple(population.terms.values()))
    term = Marginal(tuple(population.terms), tuple(lengths / lengths[-1]))
    months = np.array(tuple(population.terms), dtype=np.float64)
    # Interpolation may land a rounding error above a term; without the margin the next longer term would be taken.
    drawn = months[np.searchsorted(months, term.at(blend(rng, (0.68, demand))) - 1e-9)]
    rate = _MONTHLY_RATE.at(blend(rng, (-0.4, demand)))
    return to_multiple(annuity(credit, rate, drawn), _UNIT)


_REGISTRATION_DAYS = Marginal((0, 45, 310, 675, 2_010, 4_520, 7_500, 9_920, 11_430, 13_840, 20_000))
_DOCUMENT_DAYS = Marginal((0, 60, 370, 720, 1_715, 3_250, 4_295, 4_725, 4_945, 5_460, 6_230))
_PHONE_DAYS = Marginal((0, 2, 50, 195, 440, 925, 1_660, 2_230, 2_570, 3_180, 4_170))
_SAME_PHONE_AS_NEVER_CHANGED = 0.122
_WEEKDAY = LevelShares.declared(
    "WEEKDAY_APPR_PROCESS_START",
    {
        "MONDAY": 0.167, "TUESDAY": 0.173, "WEDNESDAY": 0.169, "THURSDAY": 0.164, "FRIDAY": 0.164, "SATURDAY": 0.109,
        "SUNDAY": 0.054,
    },
)  # fmt: skip
_HOUR = LevelShares.of(
    {
        "0": 1, "1": 4, "2": 13, "3": 35, "4": 65, "5": 116, "6": 197, "7": 309, "8": 491, "9": 903, "10": 1209,
        "11": 1234, "12": 1115, "13": 1011, "14": 899, "15": 787, "16": 672, "17": 475, "18": 284, "19": 128, "20": 33,
        "21": 16, "22": 4, "23": 1,
    }
)  # fmt: skip
_SUITE = LevelShares.declared(
    "NAME_TYPE_SUITE",
    {
        "Unaccompanied": 0.812,
        "Family": 0.132,
        "Spouse, partner": 0.036,
        "Children": 0.0105,
        "Other_B": 0.006,
        "Other_A": 0.003,
        "Group of people": 0.001,
    },
)


@dataclass(frozen=True, slots=True)
class Contact:
    """Days since registration, document and phone last changed, flags and labels; shape (n,) each."""

    registration_days: Floats
    document_days: Floats
    phone_days: Floats
    flags: dict[str, Booleans]
    suite: Category
    weekday: Category
    hour: Category

    def columns(self) -> Columns:
        """The application columns that this part fills."""
        return {
            **{name: whole(flag) for name, flag in self.flags.items()},
            "DAYS_REGISTRATION": -self.registration_days,
            "DAYS_ID_PUBLISH": whole(-self.document_days),
            "DAYS_LAST_PHONE_CHANGE": -self.phone_days,
            "NAME_TYPE_SUITE": self.suite,
            "WEEKDAY_APPR_PROCESS_START": self.weekday,
            "HOUR_APPR_PROCESS_START": self.hour.codes.astype(np.int64),
        }

    def log_odds(self) -> Floats:
        """Effect on the log-odds of default: a new identity document and a new phone number are risks."""
        new = 0.35 * np.exp(-self.document_days / 1_500) + 0.35 * np.exp(-self.phone_days / 700)
        phones = effect(self.flags["FLAG_WORK_PHONE"], 0.15) + effect(self.flags["FLAG_PHONE"], -0.08)
        return np.add(new, phones)


def draw_contact(
    rng: np.random.Generator, person: Person, employment: Employment, latent: Latent, population: Population
) -> Contact:
    """Draw how each client applied."""
    size = len(person.age)
    registration = np.minimum(_REGISTRATION_DAYS.at(blend(rng, (0.32, person.age_score))), person.age_days)
    document = _DOCUMENT_DAYS.at(blend(rng, (0.25, person.age_score), (-0.08, latent.stability)))
    phone = _PHONE_DAYS.at(blend(rng, (0.07, person.age_score), (-0.15, latent.discipline)))
    never = chance(rng, _SAME_PHONE_AS_NEVER_CHANGED, size)
    return Contact(
        registration_days=np.floor(registration),
        document_days=np.floor(document),
        phone_days=np.where(never, 0.0, np.floor(phone)),
        flags=_draw_flags(rng, employment, population),
        suite=_SUITE.draw(rng, size).only(~chance(rng, population.suite_missing, size)),
        weekday=_WEEKDAY.draw(rng, size),
        hour=_HOUR.draw(rng, size),
    )


def _draw_flags(rng: np.random.Generator, employment: Employment, population: Population) -> dict[str, Booleans]:
    employed = employment.employed
    size = len(employed)
    # expit of a normal score is 1/2 on average, so twice it leaves the population's share about as it is.
    email = population.email * expit(1.2 * employment.income_score) * 2 * np.where(employed, 1.05, 0.5)
    return {
        "FLAG_MOBIL": chance(rng, 0.99999, size),
        "FLAG_WORK_PHONE": employed & chance(rng, 0.243, size),
        "FLAG_CONT_MOBILE": chance(rng, 0.9984, size),
        "FLAG_PHONE": chance(rng, 0.279, size),
        "FLAG_EMAIL": chance(rng, email, size),
    }


DOCUMENTS = range(2, 22)
_MAIN_DOCUMENT = {
    "revolving": LevelShares.of({"none": 0.93, "3": 0.035, "5": 0.025, "6": 0.002, "8": 0.008}),
    "pensioner": LevelShares.of({"none": 0.005, "3": 0.5, "5": 0.011, "6": 0.474, "8": 0.01}),
    "other": LevelShares.of({"none": 0.005, "3": 0.862, "5": 0.015, "6": 0.01, "8": 0.108}),
}


def draw_documents(rng: np.random.Generator, loan: Loan, employment: Employment, population: Population) -> Columns:
    """Draw FLAG_DOCUMENT_2 .. 21: at most one main document, by contract and employment; others are rare."""
    main = draw_by(rng, _document_group(loan.revolving, employment.employed), _MAIN_DOCUMENT)
    return {f"FLAG_DOCUMENT_{number}": whole(_has_document(rng, number, main, population)) for number in DOCUMENTS}


def _document_group(revolving: Booleans, employed: Booleans) -> Category:
    return Category(tuple(_MAIN_DOCUMENT), np.where(revolving, 0, np.where(employed, 2, 1)).astype(np.int16))


def _has_document(rng: np.random.Generator, number: int, main: Category, population: Population) -> Booleans:
    if str(number) in main.levels:
        return main.equals(str(number))
    return chance(rng, population.rare_documents.get(number, 0.0), len(main))
