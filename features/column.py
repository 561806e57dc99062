"""What is declared about one raw column."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """How a raw column is stored, checked and turned into a feature."""

    NUMBER = "number"
    """Any finite float64."""
    COUNT = "count"
    """A whole number, stored as float64."""
    FLAG = "flag"
    """0 or 1, stored as float64."""
    CATEGORY = "category"
    """A non-empty string."""


class Calendar(StrEnum):
    """The period over which the values of a column come round: a shorter time sees only some of them."""

    DAY = "day"
    WEEK = "week"


class Protected(StrEnum):
    """Attributes that fair-lending law protects (12 CFR 1002.2(z); EU Charter, article 21)."""

    SEX = "sex"
    MARITAL_STATUS = "marital_status"
    AGE = "age"


MISSING_WORDS = frozenset(
    {
        "", "na", "n/a", "#na", "#n/a", "#n/a n/a", "<na>", "nan", "-nan", "nat", "null", "(null)", "none", "\\n",
        "1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan",
    }
)  # fmt: skip
"""Words that mean a missing value in every column, in lower case."""


def is_missing_word(text: str) -> bool:
    """Whether a text is a word for missing, whatever its case and the blanks around it; blanks alone are one.

    >>> [is_missing_word(text) for text in ("N/A", " nan ", "  ", "no", "0")]
    [True, True, True, False, False]
    """
    return text.strip().casefold() in MISSING_WORDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One raw column of the application table.

    `low` and `high` are inclusive and apply to present values; a value in `missing` (the data's own code for "not
    known") is read as missing before the bounds are looked at, and so is a text in `MISSING_WORDS`. `levels` lists the
    categories the data dictionary names: any other string is legal and becomes the unknown category. `calendar` is for
    a column that says when somebody applied: drift of its values is judged over whole periods only.
    """

    name: str
    kind: Kind
    description: str
    unit: str
    low: float = -math.inf
    high: float = math.inf
    required: bool = False
    missing: tuple[float, ...] | tuple[str, ...] = ()
    protected: Protected | None = None
    levels: tuple[str, ...] = ()
    calendar: Calendar | None = None

    @property
    def numeric(self) -> bool:
        """True unless the column is a category."""
        return self.kind is not Kind.CATEGORY

    @property
    def whole(self) -> bool:
        """True where only whole numbers are legal."""
        return self.kind in (Kind.COUNT, Kind.FLAG)

    def is_missing(self, level: str) -> bool:
        """Whether the text of a category means a missing value: a word for it, or the column's own code.

        A declared level never does, not even one that is such a word elsewhere.
        """
        stated = level.strip()
        return stated not in self.levels and (stated in self.missing or is_missing_word(stated))
