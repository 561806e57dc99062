"""What the name of a column suggests: an identity, an outcome, a protected attribute, a code, a day.

A name only suggests. Whatever is drafted from it is a question to a person, or errs to the side of caution.
"""

from __future__ import annotations

import re

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
