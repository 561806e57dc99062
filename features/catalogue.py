"""The catalogue declares each feature once: its name, its formula and the raw columns it reads."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from itertools import combinations

from features import operations
from features.application import APPLICATION
from features.operations import Operation
from features.schema import ProtectedAttribute


class FeatureSet(StrEnum):
    """Groups of features that a configuration switches on together."""

    BASELINE = "baseline"
    """The raw columns themselves."""
    DOMAIN = "domain"
    """The five ratios and durations that every underwriter looks at."""
    POLYNOMIAL = "polynomial"
    """Squares and products of two of the strongest columns."""
    APPLICATION = "application"
    """Further features of the application table, which public solutions of the competition use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """One column of the model matrix.

    `operation` is None for a raw column: its value, or the code of its category. `weights` are the operation's
    constants.
    """

    name: str
    description: str
    group: FeatureSet
    sources: tuple[str, ...]
    operation: Operation | None = None
    weights: tuple[float, ...] = ()


_DAYS_PER_YEAR = 365.25
_EXTERNAL = ("EXT_SOURCE_1", "EXT_SOURCE_2", "EXT_SOURCE_3")
_DOCUMENTS = tuple(column.name for column in APPLICATION if column.name.startswith("FLAG_DOCUMENT_"))
# Protected columns are not even counted: the count would tell whether somebody stated an age.
_UNPROTECTED_NUMBERS = tuple(column.name for column in APPLICATION.numeric if column.protected is None)

_STRONGEST = (*_EXTERNAL, "DAYS_BIRTH", "DAYS_EMPLOYED")

_domain = partial(Feature, group=FeatureSet.DOMAIN)
_polynomial = partial(Feature, group=FeatureSet.POLYNOMIAL, operation=operations.product)
_application = partial(Feature, group=FeatureSet.APPLICATION)


def _ratio(name: str, numerator: str, denominator: str, description: str) -> Feature:
    return _application(
        name=name, sources=(numerator, denominator), operation=operations.ratio, description=description
    )


def _difference(name: str, minuend: str, subtrahend: str, description: str) -> Feature:
    return _application(
        name=name, sources=(minuend, subtrahend), operation=operations.difference, description=description
    )


def _missing(name: str, source: str, description: str) -> Feature:
    return _application(name=name, sources=(source,), operation=operations.missing, description=description)


BASELINE = tuple(
    Feature(name=column.name, group=FeatureSet.BASELINE, sources=(column.name,), description=column.description)
    for column in APPLICATION
)

# credit_to_income is not "debt to income": the table holds this credit alone, and no other debt.
DOMAIN = (
    _domain(
        name="credit_to_income", sources=("AMT_CREDIT", "AMT_INCOME_TOTAL"), operation=operations.ratio,
        description="Credit amount per unit of yearly income",
    ),
    _domain(
        name="employment_years", sources=("DAYS_EMPLOYED",), operation=operations.scaled,
        weights=(-1 / _DAYS_PER_YEAR,), description="Years in the current employment",
    ),
    _domain(
        name="income_per_person", sources=("AMT_INCOME_TOTAL", "CNT_FAM_MEMBERS"), operation=operations.ratio,
        description="Income per member of the family",
    ),
    _domain(
        name="age_years", sources=("DAYS_BIRTH",), operation=operations.scaled,
        weights=(-1 / _DAYS_PER_YEAR,), description="Age in years",
    ),
    _domain(
        name="credit_to_goods", sources=("AMT_CREDIT", "AMT_GOODS_PRICE"), operation=operations.ratio,
        description="Credit amount per unit of the price of the goods",
    ),
)  # fmt: skip

POLYNOMIAL = (
    *(
        _polynomial(name=f"{column.lower()}_squared", sources=(column, column), description=f"Square of {column}")
        for column in _STRONGEST
    ),
    *(
        _polynomial(
            name=f"{first.lower()}_times_{second.lower().removeprefix('ext_source_')}", sources=(first, second),
            description=f"Product of {first} and {second}",
        )
        for first, second in combinations(_STRONGEST, 2)
    ),
)  # fmt: skip

_EXTERNAL_SCORES = (
    _application(
        name="ext_source_mean", sources=_EXTERNAL, operation=operations.weighted_mean, weights=(1, 1, 1),
        description="Mean of the external scores that are present",
    ),
    # The weights are those of a public solution of the competition; they are not fitted.
    _application(
        name="ext_source_weighted_mean", sources=_EXTERNAL, operation=operations.weighted_mean, weights=(2, 1, 3),
        description="Mean of the external scores that are present, weighted 2:1:3",
    ),
    _application(
        name="ext_source_min", sources=_EXTERNAL, operation=operations.minimum,
        description="Lowest external score",
    ),
    _application(
        name="ext_source_max", sources=_EXTERNAL, operation=operations.maximum,
        description="Highest external score",
    ),
    _application(
        name="ext_source_deviation", sources=_EXTERNAL, operation=operations.deviation,
        description="Standard deviation of the external scores that are present",
    ),
    _application(
        name="ext_source_product", sources=_EXTERNAL, operation=operations.product,
        description="Product of the three external scores",
    ),
)  # fmt: skip

_AFFORDABILITY = (
    _ratio("credit_to_annuity", "AMT_CREDIT", "AMT_ANNUITY", "Annuities needed to repay the credit: the term"),
    _ratio("annuity_to_income", "AMT_ANNUITY", "AMT_INCOME_TOTAL", "Annuity per unit of yearly income"),
    _ratio("goods_to_income", "AMT_GOODS_PRICE", "AMT_INCOME_TOTAL", "Price of the goods per unit of yearly income"),
    # The winners of the competition named the division by this score their most notable feature.
    _ratio("credit_to_ext_source_3", "AMT_CREDIT", "EXT_SOURCE_3", "Credit amount per unit of external score 3"),
    _difference("down_payment", "AMT_GOODS_PRICE", "AMT_CREDIT", "Price of the goods that the credit does not cover"),
)

_STABILITY = (
    _ratio("employment_to_age", "DAYS_EMPLOYED", "DAYS_BIRTH", "Share of life in the current employment"),
    _ratio("registration_to_age", "DAYS_REGISTRATION", "DAYS_BIRTH", "Share of life since the registration changed"),
    _ratio("id_publish_to_age", "DAYS_ID_PUBLISH", "DAYS_BIRTH", "Share of life since the identity document changed"),
    _ratio("phone_change_to_age", "DAYS_LAST_PHONE_CHANGE", "DAYS_BIRTH", "Share of life since the phone changed"),
    _ratio("car_age_to_age", "OWN_CAR_AGE", "DAYS_BIRTH", "Age of the car per day of life, negative"),
    _ratio("car_age_to_employment", "OWN_CAR_AGE", "DAYS_EMPLOYED", "Age of the car per day employed, negative"),
    _ratio("income_to_employment", "AMT_INCOME_TOTAL", "DAYS_EMPLOYED", "Income per day employed, negative"),
    _difference(
        "registration_after_id", "DAYS_REGISTRATION", "DAYS_ID_PUBLISH",
        "Days from the change of the identity document to that of the registration",
    ),
    _difference(
        "phone_after_id", "DAYS_LAST_PHONE_CHANGE", "DAYS_ID_PUBLISH",
        "Days from the change of the identity document to that of the phone",
    ),
)  # fmt: skip

_COMPLETENESS = (
    *(_missing(f"ext_source_{i}_missing", f"EXT_SOURCE_{i}", f"External score {i} is missing") for i in (1, 2, 3)),
    _missing("employment_missing", "DAYS_EMPLOYED", "No current employment is stated"),
    _missing("goods_price_missing", "AMT_GOODS_PRICE", "No price of goods is stated"),
    _missing("building_missing", "APARTMENTS_AVG", "Nothing is known of the building"),
    _missing("enquiries_missing", "AMT_REQ_CREDIT_BUREAU_YEAR", "The credit bureau did not answer"),
    _application(
        name="missing_count", sources=_UNPROTECTED_NUMBERS, operation=operations.missing_count,
        description="Numeric columns that are missing, protected attributes aside",
    ),
    _application(
        name="document_count", sources=_DOCUMENTS, operation=operations.total,
        description="Documents that were provided",
    ),
)  # fmt: skip

# LightGBM takes the earlier of two features whose splits gain the same, so that the order is part of a model.
CATALOGUE: tuple[Feature, ...] = (
    *BASELINE, *DOMAIN, *POLYNOMIAL, *_EXTERNAL_SCORES, *_AFFORDABILITY, *_STABILITY, *_COMPLETENESS,
)  # fmt: skip
"""Every feature, in the order in which a model matrix holds those that were chosen."""


def select(groups: Collection[FeatureSet], without: tuple[ProtectedAttribute, ...]) -> tuple[Feature, ...]:
    """The features of the groups, without those that read a column of a protected attribute in `without`."""
    barred = APPLICATION.protected(without)
    return tuple(feature for feature in CATALOGUE if feature.group in groups and barred.isdisjoint(feature.sources))


def _catalogue_digest() -> str:
    # A feature's description is not part of it: better words must not make old models unreadable.
    rows = [
        (feature.name, feature.operation and feature.operation.__name__, feature.sources, feature.weights)
        for feature in CATALOGUE
    ]
    return hashlib.sha256(json.dumps([APPLICATION.digest, rows]).encode()).hexdigest()


DEFINITION_DIGEST = _catalogue_digest()
"""SHA-256 over the raw columns and every feature's name, operation, sources and weights."""
