"""How and when the client applied, how the client can be reached, and how fresh the papers are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from .category import Category, Shares
from .columns import Booleans, Columns, Floats, effect, whole
from .copula import Marginal, blend, chance
from .drift import Population
from .employment import Employment
from .person import Person
from .risk import Latent

_REGISTRATION = Marginal((0, 45, 310, 675, 2_010, 4_520, 7_500, 9_920, 11_430, 13_840, 20_000))
_DOCUMENT = Marginal((0, 60, 370, 720, 1_715, 3_250, 4_295, 4_725, 4_945, 5_460, 6_230))
_PHONE = Marginal((0, 2, 50, 195, 440, 925, 1_660, 2_230, 2_570, 3_180, 4_170))
_SAME_PHONE_AS_NEVER_CHANGED = 0.122
_WEEKDAY = Shares.declared(
    "WEEKDAY_APPR_PROCESS_START",
    {
        "MONDAY": 0.167, "TUESDAY": 0.173, "WEDNESDAY": 0.169, "THURSDAY": 0.164, "FRIDAY": 0.164, "SATURDAY": 0.109,
        "SUNDAY": 0.054,
    },
)  # fmt: skip
_HOUR = Shares.of(
    {
        "0": 1, "1": 4, "2": 13, "3": 35, "4": 65, "5": 116, "6": 197, "7": 309, "8": 491, "9": 903, "10": 1209,
        "11": 1234, "12": 1115, "13": 1011, "14": 899, "15": 787, "16": 672, "17": 475, "18": 284, "19": 128, "20": 33,
        "21": 16, "22": 4, "23": 1,
    }
)  # fmt: skip
_SUITE = Shares.declared(
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
    """Days since registration, identity document and phone changed, flags and labels; shape (n,) each."""

    registration_days: Floats
    document_days: Floats
    phone_days: Floats
    flags: dict[str, Booleans]
    suite: Category
    weekday: Category
    hour: Category

    def columns(self) -> Columns:
        """The application columns that this part states."""
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
        """Effect on the log-odds of default: fresh papers and a fresh phone are risks."""
        fresh = 0.35 * np.exp(-self.document_days / 1_500) + 0.35 * np.exp(-self.phone_days / 700)
        phones = effect(self.flags["FLAG_WORK_PHONE"], 0.15) + effect(self.flags["FLAG_PHONE"], -0.08)
        return np.add(fresh, phones)


def draw_contact(
    rng: np.random.Generator, person: Person, employment: Employment, latent: Latent, population: Population
) -> Contact:
    """How each client applied."""
    size = len(person.age)
    registration = np.minimum(_REGISTRATION.at(blend(rng, (0.32, person.age_score))), person.age_days)
    document = _DOCUMENT.at(blend(rng, (0.25, person.age_score), (-0.08, latent.stability)))
    phone = _PHONE.at(blend(rng, (0.07, person.age_score), (-0.15, latent.discipline)))
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
    by_mail = population.email * expit(1.2 * employment.income_score) * 2 * np.where(employed, 1.05, 0.5)
    return {
        "FLAG_MOBIL": chance(rng, 0.99999, size),
        "FLAG_WORK_PHONE": employed & chance(rng, 0.243, size),
        "FLAG_CONT_MOBILE": chance(rng, 0.9984, size),
        "FLAG_PHONE": chance(rng, 0.279, size),
        "FLAG_EMAIL": chance(rng, by_mail, size),
    }
