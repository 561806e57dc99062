"""The level instalment of a loan."""

from __future__ import annotations

import numpy as np

from .columns import Floats


def annuity(credit: Floats, monthly_rate: Floats, months: Floats) -> Floats:
    """Instalment that repays `credit` in `months` at `monthly_rate` > 0, shape (n,): C r / (1 - (1 + r)^-m)."""
    return credit * monthly_rate / -np.expm1(-months * np.log1p(monthly_rate))


def outstanding(credit: Floats, monthly_rate: Floats, instalment: Floats, paid: Floats) -> Floats:
    """Principal left after `paid` instalments, shape (n,): C (1 + r)^p - A ((1 + r)^p - 1) / r."""
    growth = (1 + monthly_rate) ** paid
    return credit * growth - instalment * (growth - 1) / monthly_rate
