"""What the name and the values of a column suggest: its role, its kind, codes for "not known", and bounds.

A name only suggests. Whatever is drafted from it is a question to a person, or errs to the side of caution.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from features.schema import ColumnKind
from features.values import as_days, as_numbers, as_texts

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_]+")

# The grounds of 15 U.S.C. 1691(a) and of article 21 of the EU Charter that columns of credit data state in plain words.
_STEMS = {
    "sex": ("sex", "gender"),
    "marital_status": ("marital", "marriage", "married"),
    "nationality": ("foreign", "national", "citizen"),
    "race": ("ethnic",),
    "religion": ("religio",),
    "disability": ("disab", "handicap"),
}
_EXACT = {"race": {"race", "races"}}
_PHRASES = {"marital_status": ({"family", "status"}, {"personal", "status"}, {"civil", "status"})}
_BIRTHPLACES = {"country", "place", "city", "state"}
_AGES = {"age", "ages", "dob", "yob"}
_AGED_THINGS = {
    *(
        "account",
        "accounts",
        "address",
        "auto",
        "building",
        "business",
        "car",
        "card",
        "company",
        "credit",
        "employment",
    ),
    *("file", "firm", "history", "home", "house", "inquiry", "job", "line", "lines", "loan", "newest", "oldest"),
    *("phone", "property", "residence", "trade", "trades", "vehicle", "child", "children"),
}

_IDENTITIES = {
    *("id", "ids", "identifier", "key", "uuid", "guid", "reference", "ref", "index", "unnamed", "nr", "number"),
    *("no", "sk", "pk", "application", "applicant", "client", "customer", "contract", "account"),
}
_CERTAIN_IDENTITIES = {"id", "ids", "identifier", "uuid", "guid", "pk"}

_OUTCOMES = re.compile(
    r"target|default|dlq|delinq|(^|_)bad(_|$)|outcome|creditab|charged|(^|_)npl(_|$)|good_?bad|loan_status|repaid|repay_?fail"
)
_FAINT_OUTCOMES = re.compile(r"^(y|class|label|risk|status|result)$|label|(^|_)risk(_flag)?$|performing")
_EARLIER = {"file", "history", "historical", "hist", "previous", "prior", "prev", "num", "number", "count", "amount"}
_GOOD_OUTCOMES = re.compile(r"creditab|repaid|performing|(^|_)(good|paid)(_|$)")

_CODED = {
    *("code", "codes", "type", "class", "education", "educ", "region", "branch", "product", "purpose", "occupation"),
    *("job", "housing", "status", "state", "province", "district", "county", "sector", "industry", "channel"),
    *("category", "segment", "profession", "ownership", "city", "country", "race", "sex", "gender", "marriage"),
    *("marital", "zip", "zipcode", "postcode", "postal", "plz"),
}
_PLACES = {"zip", "zipcode", "postcode", "postal", "plz"}
_ORDERED = {
    *("rating", "score", "rank", "grade", "count", "cnt", "number", "num", "years", "months", "days", "age", "amount"),
    *("amt", "population", "income", "rate", "ratio", "balance", "relative", "limit"),
}

_MONEY = {
    *("amount", "amt", "amnt", "income", "inc", "salary", "balance", "bal", "price", "payment", "annuity", "debt"),
    *("bill", "value", "mortgage", "savings", "revenue", "instalment", "installment", "wage", "loan", "credit"),
}
_DECISIONS = {"application", "applied", "apply", "decision", "decided", "issue", "issued", "origination", "appl"}


def words_of(name: str) -> tuple[str, ...]:
    """Return the words of a name in lower case, divided at punctuation and at capitals.

    >>> words_of("NumberOfTime30-59DaysPastDue"), words_of("default.payment")
    (('number', 'of', 'time', '30', '59', 'days', 'past', 'due'), ('default', 'payment'))
    """
    return tuple(word.lower() for word in _WORDS.findall(name))


def protected_by_name(name: str) -> tuple[str, ...]:
    """Return the protected attributes that a name states in plain words, in the order of their names.

    >>> protected_by_name("personal_status_and_sex"), protected_by_name("OWN_CAR_AGE"), protected_by_name("DAYS_BIRTH")
    (('marital_status', 'sex'), (), ('age',))
    """
    words = set(words_of(name))
    born = any("birth" in word for word in words)
    abroad = born and bool(words & _BIRTHPLACES or {word for word in words if "birthplace" in word})
    found = {attribute for attribute, stems in _STEMS.items() if any(word.startswith(stems) for word in words)}
    found |= {attribute for attribute, exact in _EXACT.items() if words & exact}
    found |= {attribute for attribute, phrases in _PHRASES.items() if any(phrase <= words for phrase in phrases)}
    if abroad:
        found.add("nationality")
    elif born or (words & _AGES and not words & _AGED_THINGS):
        found.add("age")
    return tuple(sorted(found))


def identity_rank(name: str) -> int:
    """Return how strongly a name says that it identifies: 2 plainly, 1 perhaps, 0 not at all; no name is 1.

    >>> [identity_rank(name) for name in ("SK_ID_CURR", "", "DAYS_ID_PUBLISH", "credit_amount")]
    [2, 1, 0, 0]
    """
    words = set(words_of(name))
    if words & _CERTAIN_IDENTITIES and not words & _ORDERED:
        return 2
    return int(not words or bool(words & _IDENTITIES and not words & _ORDERED - {"number"}))


def outcome_rank(name: str) -> int:
    """Return how strongly a name says that it is the outcome: 3 plainly, 2 perhaps, 0 not at all.

    >>> outcome_rank("loan_status"), outcome_rank("Risk"), outcome_rank("default_on_file"), outcome_rank("income")
    (3, 2, 0, 0)
    """
    words = words_of(name)
    if set(words) & _EARLIER:
        return 0
    phrase = "_".join(words)
    return 3 if _OUTCOMES.search(phrase) else 2 if _FAINT_OUTCOMES.search(phrase) else 0


def is_good_outcome(name: str) -> bool:
    """Whether 1 in an outcome of this name means that the credit was repaid.

    >>> is_good_outcome("creditability"), is_good_outcome("TARGET")
    (True, False)
    """
    return bool(_GOOD_OUTCOMES.search("_".join(words_of(name))))


def sounds_coded(name: str) -> bool:
    """Whether whole numbers of this name are probably names without an order.

    >>> sounds_coded("EDUCATION"), sounds_coded("REGION_RATING_CLIENT")
    (True, False)
    """
    words = set(words_of(name))
    return bool(words & _CODED or {*protected_by_name(name)} - {"age"}) and not words & _ORDERED


def is_place_code(name: str) -> bool:
    """Whether the name is that of a postal code, which is no number however many there are."""
    return bool(set(words_of(name)) & _PLACES)


def is_money(name: str) -> bool:
    """Whether a number of this name is probably a sum of money, which may have cents even where the file has none.

    >>> is_money("MonthlyIncome"), is_money("number_of_existing_credits"), is_money("PAY_0")
    (True, False, False)
    """
    words = set(words_of(name))
    return bool(words & _MONEY) and not words & {"number", "num", "count", "cnt", "days", "months", "years", "age"}


def is_decision_day(name: str) -> bool:
    """Whether a date of this name is probably the day of the application.

    >>> is_decision_day("issue_d"), is_decision_day("last_payment_date")
    (True, False)
    """
    return bool(set(words_of(name)) & _DECISIONS)


_TEXTS = frozenset({
    "xna", "xap", "?", "unknown", "missing", "not available", "not stated", "not known", "n.a.", "-", "--",
    "none given",
})  # fmt: skip
# The fillers of credit bureaus and of survey files; 365243 days are Home Credit's thousand years.
_FILLERS = frozenset(
    {float(base - less) for base in (100, 1000, 10_000, 100_000) for less in (1, 2, 3, 4)}
    | {999_999.0, 9_999_999.0, 99_999_999.0, 999_999_999.0, 365_243.0}
)
_NEGATIVE = frozenset({-1.0, -7.0, -8.0, -9.0}) | {-filler for filler in _FILLERS}
_FEWEST_OTHERS = 2
_FAR = 0.5
"""A filler lies outside the other values by more than this part of their extent."""
_YOUNGEST = 15.0
FAR = 100.0
"""A largest value is far off if it is so many times the quantile below."""
_FAR_QUANTILE = 0.999
_MOST_CODED = 60
"""Different whole numbers that may still be codes of categories."""
_FEWEST_NUMBERS = 0.95
"""The share of texts that must be numbers for the others to be mistakes."""
_SMALLEST_SUM = 1000.0
"""Whole numbers with a name of money are counts unless one is as large as this."""
_SMALLEST, _LARGEST = 1e-300, 1e300
_COMPACT_DAYS = (19_000_101, 20_991_231)
_ISO_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_OTHER_DAY = re.compile(r"\d{1,2}[./-]\d{1,2}[./-](\d{4}|\d\d)|\d{4}[./]\d{1,2}[./]\d{1,2}|[A-Za-z]{3}-\d{2,4}")
_GROUPED = re.compile(r"[+-]?[€$£]?\s?\d{1,3}([., ']?\d{3})*([.,]\d+)?\s?[%€$£]?")


@dataclass(frozen=True, slots=True, eq=False)
class ColumnFacts:
    """What is known of a column before its kind is.

    Attributes
    ----------
    counts : the rows of each text that is present, codes for missing among them
    codes : the texts among them that mean missing
    numbers : float64, shape (n,); NaN where a text is missing or no number
    wrong : shape (n,); True where a text is no number
    """

    name: str
    stored: pa.ChunkedArray[Any]
    counts: Mapping[str, int]
    codes: tuple[str, ...]
    numbers: NDArray[np.float64]
    wrong: NDArray[np.bool_]

    @classmethod
    def of(cls, name: str, stored: pa.ChunkedArray[Any], decimal: str) -> ColumnFacts:
        """Return what is known of a column as it is stored."""
        texts, unreadable = stated_texts(stored)
        counts = {one["values"]: one["counts"] for one in texts.drop_null().value_counts().to_pylist()}
        codes = text_codes(counts)
        kind = ColumnKind.FLAG if pa.types.is_boolean(stored.type) or _is_truth(counts) else ColumnKind.NUMBER
        read = _without(texts, codes) if pa.types.is_string(stored.type) else stored
        numbers, wrong = as_numbers(read, kind, decimal=decimal)
        return cls(name, stored, counts, codes, numbers, wrong | unreadable)

    @property
    def rows(self) -> int:
        """Rows that are not missing."""
        return sum(self.counts.values())

    def kind(self) -> tuple[ColumnKind, tuple[str, ...]]:
        """The kind that the values and the name suggest, and what is in doubt about it."""
        if not self.counts:
            return ColumnKind.NUMBER, ("is empty in every row: leave it out?",)
        days = self._days()
        if days is not None:
            return ColumnKind.DATE, days
        readable = 1 - int(self.wrong.sum()) / self.rows
        if readable < _FEWEST_NUMBERS or len(self.codes) == len(self.counts):
            return self._text_kind()
        if not self._known().size:
            return ColumnKind.NUMBER, ("holds no finite number: leave it out?",)
        doubts = (f"no number in {_part(self.wrong)}: empty their cells?",) if self.wrong.any() else ()
        kind, question = self._numeric_kind()
        return kind, (*doubts, *question)

    def contradictions(self, stated: ColumnKind) -> Iterator[str]:
        """What speaks against a kind that somebody has stated."""
        if stated is ColumnKind.CATEGORY:
            return
        wrong = as_days(self.stored)[1] if stated is ColumnKind.DATE else self.wrong
        if wrong.any():
            yield f"the hint says {stated.value}, which is not in {_part(wrong)}: which is right?"
        whole = bool(np.all(self._known() == np.rint(self._known())))
        if stated is ColumnKind.COUNT and not whole:
            yield "the hint says whole numbers, and some are not: which is right?"

    def _known(self) -> NDArray[np.float64]:
        return self.numbers[np.isfinite(self.numbers)]

    def _numeric_kind(self) -> tuple[ColumnKind, tuple[str, ...]]:
        distinct = np.unique(self._known())
        whole = bool(np.all(distinct == np.rint(distinct)))
        if set(distinct.tolist()) <= {0.0, 1.0}:
            return ColumnKind.FLAG, ()
        if any(re.match(r"0\d", text) for text in self.counts):
            return ColumnKind.CATEGORY, ("numbers that begin with 0: are they names?",)
        few = len(distinct) <= _MOST_CODED or is_place_code(self.name)
        if whole and few and sounds_coded(self.name):
            return ColumnKind.CATEGORY, ("do these whole numbers stand for names without an order? if not: kind count",)
        money = is_money(self.name) and distinct.max() >= _SMALLEST_SUM
        return (ColumnKind.COUNT if whole and not money else ColumnKind.NUMBER), ()

    def _days(self) -> tuple[str, ...] | None:
        """The doubts about dates; None if the column holds none."""
        if pa.types.is_temporal(self.stored.type):
            return ()
        if not pa.types.is_string(self.stored.type):
            return None
        texts = [text.strip() for text in self.counts if text not in self.codes]
        if texts and all(map(_ISO_DAY.match, texts)) and not as_days(pa.chunked_array([pa.array(texts)]))[1].any():
            return ()
        known = self._known()
        low, high = _COMPACT_DAYS
        if known.size and not self.wrong.any() and low <= known.min() <= known.max() <= high:
            return None if as_days(pa.chunked_array([pa.array(texts)]))[1].any() else ("are these dates?",)
        if texts and all(map(_OTHER_DAY.fullmatch, texts)):
            return ("are these dates? write them as 2026-01-31",)
        return None

    def _text_kind(self) -> tuple[ColumnKind, tuple[str, ...]]:
        texts = [text.strip() for text in self.counts if text not in self.codes]
        if texts and all(map(_GROUPED.fullmatch, texts)):
            return ColumnKind.NUMBER, ("are these numbers? write them without unit and without marks for thousands",)
        return ColumnKind.CATEGORY, ()


def _part(mask: NDArray[np.bool_]) -> str:
    return f"{int(mask.sum()):,} of {len(mask):,} rows"


def text_codes(counts: Mapping[str, int]) -> tuple[str, ...]:
    """Return the texts among `counts` that mean missing by a common custom, sorted.

    >>> text_codes({"XNA": 2, "M": 5, "unknown / no property": 3})
    ('XNA',)
    """
    return tuple(sorted({text.strip() for text in counts if text.strip().casefold() in _TEXTS}))


def numeric_codes(known: NDArray[np.float64], name: str, *, least: int) -> tuple[float, ...]:
    """Return the numbers that stand apart from the other values of a column and are usual fillers.

    Parameters
    ----------
    known : the values that are present, shape (n,)
    least : rows that a code must have

    >>> numeric_codes(np.repeat([0.0, 1, 2, 3, 98], 5), "late", least=5)
    (98.0,)
    >>> numeric_codes(np.arange(0.0, 99.0), "age_of_car", least=1)
    ()
    """
    distinct, rows = np.unique(known, return_counts=True)
    fillers = np.isin(distinct, [*_FILLERS, *_NEGATIVE])
    others = distinct[~fillers]
    if len(others) < _FEWEST_OTHERS:
        return ()
    enough = distinct[fillers & (rows >= least)]
    found = [code for code in enough.tolist() if _is_apart(code, float(others[0]), float(others[-1]))]
    return tuple(sorted({*found, *_ages_of_zero(distinct, name)}))


def _is_apart(code: float, lowest: float, highest: float) -> bool:
    extent = max(highest - lowest, abs(lowest), abs(highest), 1.0)
    if code > highest:
        return code - highest > _FAR * extent
    if code < lowest:
        return (lowest >= 0 and code in _NEGATIVE) or lowest - code > _FAR * extent
    return False


def _ages_of_zero(distinct: NDArray[np.float64], name: str) -> tuple[float, ...]:
    """0 in a column of ages of which no other is a child's."""
    others = distinct[distinct != 0]
    adult = len(others) > 0 and others.min() >= _YOUNGEST and others.max() <= 150
    return (0.0,) if "age" in protected_by_name(name) and 0 in distinct and adult else ()


def is_far(known: NDArray[np.float64]) -> bool:
    """Whether the largest value is far above nearly all others; `known` has the shape (n,), without NaN."""
    quantile = float(np.quantile(known, _FAR_QUANTILE))
    return float(known.max()) > FAR * max(quantile, 1.0)


def bounds(lowest: float, highest: float, *, whole: bool) -> tuple[float, float]:
    """Return wide and round bounds around all values, which tell neither the lowest nor the highest of them.

    >>> bounds(3.0, 37.0, whole=True), bounds(0.1, 0.8, whole=False), bounds(-17000.0, -1.0, whole=True)
    ((0.0, 100.0), (0.0, 1.0), (-50000.0, 0.0))
    """
    if 1900 <= lowest <= highest <= 2100 and whole:
        return 1900.0, 2100.0
    low = 0.0 if lowest >= 0 else -_round_above(-lowest)
    high = 0.0 if highest <= 0 else 1.0 if highest <= 1 and low >= 0 and not whole else _round_above(highest)
    return low, high


def _round_above(value: float) -> float:
    """The first of 1, 2, 5, 10, ... times a power of ten that is at least twice the value."""
    if value > _LARGEST:
        return float("inf")
    value = max(value, _SMALLEST)
    power = 10.0 ** np.floor(np.log10(value))
    return float(next(step * power for step in (2, 5, 10, 20) if step * power >= 2 * value))


def stated_texts(stored: pa.ChunkedArray[Any]) -> tuple[pa.ChunkedArray[Any], NDArray[np.bool_]]:
    """The texts, null where missing; the word none stays, which may be a level."""
    texts, wrong = as_texts(stored)
    if not pa.types.is_string(stored.type):
        return texts, wrong
    none = pc.equal(pc.utf8_lower(pc.utf8_trim_whitespace(stored)), "none")
    return pc.if_else(none.fill_null(False), stored, texts), wrong


def _without(texts: pa.ChunkedArray[Any], codes: tuple[str, ...]) -> pa.ChunkedArray[Any]:
    unwanted = pc.is_in(texts, value_set=pa.array(codes, pa.string()))
    return pc.if_else(unwanted, pa.scalar(None, pa.string()), texts)


def _is_truth(counts: Mapping[str, int]) -> bool:
    return bool(counts) and {text.strip().casefold() for text in counts} <= {"true", "false"}
