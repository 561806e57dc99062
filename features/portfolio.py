"""A portfolio is what is said about a lender's data, once: identity, outcome, files, columns, features, groups.

It is declared in one YAML file and travels with the model as canonical JSON, so that the service, the batch job and the
registry take it from the model, and never from the code.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from features.declaration import ColumnDeclaration
from features.errors import SchemaError
from features.formulas import Expression, Source, is_never_missing, read_formula, sources
from features.histories import Histories, HistoryDeclaration
from features.reasons import Reasons, ReasonsDeclaration
from features.schema import Calendar, Column, ColumnKind, Order, Schema
from jobs.errors import SettingsError
from jobs.settings import Settings, read_document

BASELINE = "baseline"
"""The set of the application's own columns."""
HISTORY = "history"
"""The set of the roll-ups of the histories; all other sets have the names that the portfolio gives them."""

FILE_NAME = "portfolio.yaml"


class IdentityDeclaration(Settings):
    """The column that names an application in a file."""

    column: str
    """A file that was written with its row numbers has "" as the name of their column."""
    kind: Literal["whole", "text"] = "text"
    """Whole numbers, or any text."""


class OutcomeDeclaration(Settings):
    """The column that holds the outcome, and what its values mean; a row with any other value is refused."""

    column: str
    bad: tuple[str, ...] = Field(min_length=1)
    """Values, as text, of an application that defaulted."""
    good: tuple[str, ...] = Field(min_length=1)
    means: str = "default"
    """What a bad outcome is, for people."""

    @field_validator("bad", "good", mode="before")
    @classmethod
    def _as_texts(cls, values: object) -> object:
        # People write 1 as well as "1", and one value without a list around it.
        listed = values if isinstance(values, list | tuple) else [values]
        return tuple(str(one) if isinstance(one, int) and not isinstance(one, bool) else one for one in listed)

    @model_validator(mode="after")
    def _values_differ(self) -> Self:
        both = sorted(set(self.bad) & set(self.good))
        if both:
            raise ValueError(f"both bad and good: {', '.join(both)}")
        return self


class FilesDeclaration(Settings):
    """How the files of a data folder are named and written."""

    train: str = Field(default="train", min_length=1)
    """Name, without its suffix, of the file of labelled applications."""
    later: str | None = None
    """Name of a file of later applications without outcomes; no application may be in both."""
    separator: str = Field(default=",", min_length=1, max_length=1)
    decimal: Literal[".", ","] = "."
    """The decimal mark of numbers in CSV files."""

    @model_validator(mode="after")
    def _marks_differ(self) -> Self:
        if self.separator == self.decimal:
            raise ValueError("separator and decimal must differ")
        return self


class OrderDeclaration(Settings):
    """A rule for two numeric columns; see `schema.Order`."""

    smaller: str
    larger: str


class FeatureDeclaration(Settings):
    """A feature by its formula; see `features.formulas`."""

    formula: str = Field(alias="is", max_length=2000)
    description: str = ""


class PortfolioDeclaration(Settings):
    """All of a portfolio file."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=40)
    title: str = ""
    identity: IdentityDeclaration | None = None
    """null: the rows of a file have no names."""
    outcome: OutcomeDeclaration
    decided_on: str | None = None
    """The column with the day of the application: a date, by which `out_of_time` may set the newest ones aside."""
    files: FilesDeclaration = FilesDeclaration()
    generator: str | None = None
    """The Python module that generates data where `run` gets none."""
    columns: dict[str, ColumnDeclaration] = Field(min_length=1)
    histories: dict[str, HistoryDeclaration] = Field(default={})
    """What is known of a client before the application, and the roll-ups of it."""
    orders: tuple[OrderDeclaration, ...] = ()
    features: dict[str, dict[str, FeatureDeclaration]] = Field(default={})
    """Sets of features by their free names; a formula may read the features above it."""
    reasons: ReasonsDeclaration | None = None
    """What a declined applicant is told; without it the model gives no reasons."""
    example: dict[str, Any] = Field(default={})
    training: dict[str, Any] = Field(default={})
    """Settings laid over those of configs/training.yaml, under the same names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """One column of the model matrix. The `expression` of a raw column is None: its value, or its category's code."""

    name: str
    description: str
    group: str
    sources: tuple[str, ...]
    expression: Expression | None = None
    never_missing: bool = False


# No slots: cached_property keeps its values in __dict__.
@dataclass(frozen=True)
class Portfolio:
    """A declared portfolio; equal to another exactly when their declarations are equal.

    Attributes
    ----------
    content : the declaration as canonical JSON
    folder : where it was loaded from; None for one that travelled with a model
    """

    content: bytes
    folder: Path | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        _ = self.reasons  # an illegal declaration is refused here and not at its first use

    @classmethod
    def load(cls, path: Path) -> Self:
        """The portfolio in the YAML file `path`, or in portfolio.yaml of that folder; SettingsError if it is wrong."""
        file = path / FILE_NAME if path.is_dir() else path
        declared = PortfolioDeclaration.load(file)
        try:
            return cls(_canonical(declared), file.parent)
        except SchemaError as error:
            raise SettingsError(f"{file}: {error}") from None

    @classmethod
    def named_in(cls, settings: Path) -> Self:
        """The portfolio that a file of training settings names; SettingsError if it names none, or a wrong one."""
        document = read_document(settings)
        named = document.get("portfolio") if isinstance(document, dict) else None
        if not isinstance(named, str):
            raise SettingsError(f"{settings}: portfolio: must name a folder or file")
        return cls.load(settings.parent / named)

    @classmethod
    def of(cls, document: Mapping[str, Any], source: str = "portfolio") -> Self:
        """The portfolio of a parsed declaration; SettingsError or SchemaError, which name its fault, if it is wrong."""
        return cls(_canonical(PortfolioDeclaration.checked(document, Path(source))))

    @cached_property
    def declared(self) -> PortfolioDeclaration:
        """The declaration, parsed."""
        return PortfolioDeclaration.model_validate_json(self.content, strict=True)

    @property
    def name(self) -> str:
        """Its short name, which labels what is recorded of it."""
        return self.declared.name

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON, hexadecimal."""
        return hashlib.sha256(self.content).hexdigest()

    @cached_property
    def histories(self) -> Histories | None:
        """What is known of a client before the application; None where nothing is declared."""
        declared = self.declared
        return Histories.of(declared.histories, declared.identity) if declared.histories else None

    @cached_property
    def schema(self) -> Schema:
        """The raw columns, those of the application and then the roll-ups of the histories, and the orders of them."""
        declared, histories = self.declared, self.histories
        return Schema(
            id_column=declared.identity.column if declared.identity else None,
            target_column=declared.outcome.column,
            columns=(
                *(column.build(name) for name, column in declared.columns.items()),
                *(histories.columns if histories else ()),
            ),
            orders=tuple(Order(order.smaller, order.larger) for order in declared.orders),
        )

    # LightGBM takes the earlier of two features whose splits gain the same, so that the order is part of a model.
    @cached_property
    def catalogue(self) -> tuple[Feature, ...]:
        """Every feature, the raw columns first, in the order in which a model matrix holds those that were chosen."""
        schema, above = self.schema, dict[str, Expression]()
        day = self.declared.decided_on
        if day is not None and schema[day].kind is not ColumnKind.DATE:
            raise SchemaError(f"decided_on: {day} is no date")
        found = [_raw(column) for column in schema if column.kind is not ColumnKind.DATE]
        for group, features in self.declared.features.items():
            for name, feature in features.items():
                if group in (BASELINE, HISTORY) or name in schema or name in above:
                    raise SchemaError(f"features.{group}.{name}: is a column or a set already")
                try:
                    above[name] = read_formula(feature.formula, schema, above)
                except SchemaError as error:
                    raise SchemaError(f"features.{group}.{name}: {error}") from None
                found.append(_derived(name, group, feature.description, above[name]))
        return tuple(found)

    @cached_property
    def features(self) -> dict[str, Feature]:
        """Every feature by its name."""
        return {feature.name: feature for feature in self.catalogue}

    @cached_property
    def reasons(self) -> Reasons | None:
        """What a declined applicant is told; None where nothing is declared."""
        found = self.catalogue
        return None if self.declared.reasons is None else Reasons.of(self.declared.reasons, self.schema, found)

    @property
    def sets(self) -> tuple[str, ...]:
        """The names of all sets of features, those of the raw columns first."""
        return (BASELINE, *((HISTORY,) if self.histories else ()), *self.declared.features)

    def select(
        self, sets: Collection[str], without: Collection[str], left_out: Collection[str] = ()
    ) -> tuple[Feature, ...]:
        """The features of the sets that read neither a protected attribute in `without` nor a column `left_out`."""
        barred = self.schema.protected(without).union(left_out)
        return tuple(one for one in self.catalogue if one.group in sets and barred.isdisjoint(one.sources))

    def left_out(self, sets: Collection[str], without: Collection[str]) -> dict[str, tuple[str, ...]]:
        """The features of the sets that `select` leaves out, by the protected attribute that they read."""
        barred = {name: self.schema.protected([name]) for name in self.schema.attributes if name in without}
        chosen = [one for one in self.catalogue if one.group in sets]
        return {
            attribute: tuple(one.name for one in chosen if not columns.isdisjoint(one.sources))
            for attribute, columns in barred.items()
        }

    def calendars(self, feature: str) -> frozenset[Calendar]:
        """The calendars that the values of a feature follow."""
        described = self.features[feature]
        if described.never_missing:  # it sees only whether something is missing, which has no season
            return frozenset()
        found = (self.schema[name].calendar for name in described.sources)
        return frozenset(calendar for calendar in found if calendar is not None)


@lru_cache(maxsize=16)
def portfolio_of(content: bytes) -> Portfolio:
    """The portfolio of a canonical JSON, one object for each; SchemaError or ValueError if it is none.

    Reading a declaration takes milliseconds, and comparing two objects costs more than seeing that they are one.
    """
    return Portfolio(content)


def _canonical(declared: PortfolioDeclaration) -> bytes:
    values = declared.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def _raw(column: Column) -> Feature:
    group = HISTORY if column.history else BASELINE
    return Feature(name=column.name, description=column.description, group=group, sources=(column.name,))


def _derived(name: str, group: str, description: str, expression: Expression) -> Feature:
    if isinstance(expression, Source) and expression.level is None:
        raise SchemaError(f"features.{group}.{name}: repeats the column {expression.column}")
    return Feature(
        name=name,
        description=description or name,
        group=group,
        sources=sources(expression),
        expression=expression,
        never_missing=is_never_missing(expression),
    )
