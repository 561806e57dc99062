"""Numbers as a reader of the report sees them."""

from __future__ import annotations

import math

from training.evaluation import Estimate

NOTHING = "\N{EN DASH}"
"""Where there is no figure."""


def count(value: int) -> str:
    """A whole number.

    >>> count(35309)
    '35,309'
    """
    return f"{value:,}"


def decimal(value: float | None) -> str:
    """Four decimals; a dash for what is not known."""
    return NOTHING if value is None or math.isnan(value) else f"{value:.4f}"


def signed(value: float) -> str:
    """Four decimals and the sign."""
    return f"{value:+.4f}"


def percent(value: float | None) -> str:
    """A share in per cent; a dash for what is not known.

    >>> percent(0.0784)
    '7.84 %'
    """
    return NOTHING if value is None or math.isnan(value) else f"{100 * value:.2f} %"


def span(estimate: Estimate | None) -> str:
    """The interval."""
    return NOTHING if estimate is None else f"{decimal(estimate.low)} to {decimal(estimate.high)}"


def percent_span(estimate: Estimate | None) -> str:
    """The interval of a share.

    >>> percent_span(Estimate(0.1, 0.05, 0.15))
    '5.00 to 15.00 %'
    """
    return NOTHING if estimate is None else f"{100 * estimate.low:.2f} to {percent(estimate.high)}"


def held(value: float | None, estimate: Estimate | None) -> str:
    """Whether an expected share is inside the interval of the observed one."""
    if value is None or estimate is None:
        return NOTHING
    if value < estimate.low:
        return "too low"
    return "too high" if value > estimate.high else "inside"
