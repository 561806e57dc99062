"""Whether the client is registered, lives and works in one place, by city and by region."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .category import Category, Shares, draw_by, merged
from .columns import Booleans, Columns, Floats, effect, whole
from .copula import chance

_EMPLOYED = Shares.of(
    {
        "same": 0.703,
        "works elsewhere": 0.203,
        "lives elsewhere": 0.075,
        "all differ": 0.014,
        "registered elsewhere": 0.005,
    }
)
_NOT_EMPLOYED = Shares.of(
    {
        "same": 0.975,
        "works elsewhere": 0.0,
        "lives elsewhere": 0.0,
        "all differ": 0.0,
        "registered elsewhere": 0.025,
    }
)
_BY_EMPLOYMENT = {"employed": _EMPLOYED, "not employed": _NOT_EMPLOYED}
_REGISTERED_IS_NOT_HOME = ("lives elsewhere", "all differ", "registered elsewhere")
_REGISTERED_IS_NOT_WORK = ("works elsewhere", "lives elsewhere", "all differ")
_HOME_IS_NOT_WORK = ("works elsewhere", "all differ", "registered elsewhere")
_ACROSS_REGIONS = 0.2


@dataclass(frozen=True, slots=True)
class Address:
    """How the three places differ, by city and by region; shape (n,) each. Regions differ only where cities do."""

    by_city: Category
    by_region: Category

    def columns(self) -> Columns:
        """The application columns that this part states."""
        return {
            "REG_REGION_NOT_LIVE_REGION": whole(self.by_region.among(_REGISTERED_IS_NOT_HOME)),
            "REG_REGION_NOT_WORK_REGION": whole(self.by_region.among(_REGISTERED_IS_NOT_WORK)),
            "LIVE_REGION_NOT_WORK_REGION": whole(self.by_region.among(_HOME_IS_NOT_WORK)),
            "REG_CITY_NOT_LIVE_CITY": whole(self.by_city.among(_REGISTERED_IS_NOT_HOME)),
            "REG_CITY_NOT_WORK_CITY": whole(self.by_city.among(_REGISTERED_IS_NOT_WORK)),
            "LIVE_CITY_NOT_WORK_CITY": whole(self.by_city.among(_HOME_IS_NOT_WORK)),
        }

    def log_odds(self) -> Floats:
        """Effect on the log-odds of default."""
        home, work = self.by_city.among(_REGISTERED_IS_NOT_HOME), self.by_city.among(_REGISTERED_IS_NOT_WORK)
        return effect(home, 0.15) + effect(work, 0.1)


def draw_address(rng: np.random.Generator, employed: Booleans) -> Address:
    """Addresses of clients who are `employed` (shape (n,)) or not."""
    group = Category(tuple(_BY_EMPLOYMENT), np.where(employed, np.int16(0), np.int16(1)))
    by_city = draw_by(rng, group, _BY_EMPLOYMENT)
    same = Category(by_city.levels, np.zeros(len(employed), dtype=np.int16))
    return Address(by_city, merged(chance(rng, _ACROSS_REGIONS, len(employed)), by_city, same))
