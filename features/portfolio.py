"""A portfolio is what is said about a lender's data, once: identity, outcome, files, columns, features, groups.

It is declared in one YAML file and travels with the model as canonical JSON, so that the service, the batch job and the
registry take it from the model, and never from the code.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from features.errors import SchemaError
from features.formulas import Expression, Source, is_never_missing, read_formula, sources
from features.reasons import Reasons, ReasonsDeclaration
from features.schema import MOST_LEVELS, Calendar, Changeable, Column, ColumnKind, Order, Protection, Schema, day_number
from jobs.errors import SettingsError
from jobs.settings import Settings, read_document

BASELINE = "baseline"
"""The set of the raw columns themselves; the other sets have the names that the portfolio gives them."""

FILE_NAME = "portfolio.yaml"

_UNITS = {ColumnKind.CATEGORY: "level", ColumnKind.FLAG: "0 or 1", ColumnKind.DATE: "date", ColumnKind.COUNT: "count"}
_ELDERLY = 62.0
# The usual bands of an age in years; 62 is where Regulation B calls applicants elderly (12 CFR 1002.2(o)).
_AGE_BANDS = (25.0, 40.0, _ELDERLY)


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


class ProtectionDeclaration(Settings):
    """The groups of a protected attribute; see `schema.Protection`."""

    groups: dict[str, tuple[str | int, ...]] = Field(default={})
    bands: tuple[float, ...] = ()
    elderly: float | None = None
    per_unit: float = 1.0

    def build(self, attribute: str, column: ColumnDeclaration) -> Protection:
        """The protection of a column; ValueError if its groups do not fit the column."""
        if column.kind is ColumnKind.CATEGORY:
            if self.bands:
                raise ValueError(f"{attribute}: bands are of numbers; a category has groups of levels")
            groups = self.groups or {str(level): (level,) for level in column.levels}
            grouped = [level for levels in groups.values() for level in _texts(levels)]
            unknown = sorted(set(grouped) - set(_texts(column.levels))) if column.levels else []
            if unknown or len(set(grouped)) < len(grouped):
                # A misspelt level would leave its applicants out of every group, and so out of the screening.
                told = ", ".join(unknown) or "one that is in two groups"
                raise ValueError(f"{attribute}: groups must hold declared levels, each once, not {told}")
            return Protection(
                attribute=attribute, groups=tuple((name, _texts(levels)) for name, levels in groups.items())
            )
        bands, elderly = self.bands, self.elderly
        if column.kind is ColumnKind.FLAG:
            bands = bands or (1.0,)
        elif not bands and attribute == "age":
            bands, elderly = _AGE_BANDS, _ELDERLY
        if self.groups or not bands or list(bands) != sorted(set(bands)):
            raise ValueError(f"{attribute}: a number needs rising bands, such as [25, 40, 62], and no groups of levels")
        if elderly not in (None, *bands) or not self.per_unit or column.kind is ColumnKind.DATE:
            raise ValueError(f"{attribute}: elderly must be one of the bands, per_unit not 0, and the column no date")
        return Protection(attribute=attribute, bands=bands, elderly=elderly, per_unit=self.per_unit)


class ChangeableDeclaration(Settings):
    """How far an applicant can change a column; see `schema.Changeable`."""

    to: Literal["lower", "higher", "either"]
    most: float | None = Field(default=None, gt=0)
    """Share of the value that a change may have at most."""
    step: float | None = Field(default=None, ge=1e-6)
    """Changed values are multiples of it; 1 for counts, which need none."""
    scaled: tuple[str, ...] = Field(default=(), alias="with")
    """Columns that are scaled by the same factor."""

    def build(self, column: ColumnDeclaration, low: float, high: float) -> Changeable:
        """How far a column with these bounds can be changed; ValueError if that is not told, or it is protected."""
        if column.kind not in (ColumnKind.NUMBER, ColumnKind.COUNT) or column.protected:
            raise ValueError("changeable: only numbers and counts can be, and none that states a protected attribute")
        step = 1.0 if self.step is None and column.kind is ColumnKind.COUNT else self.step
        if step is None or (column.kind is ColumnKind.COUNT and not step.is_integer()):
            raise ValueError("changeable: needs a step, such as 100; that of a count is a whole number")
        lower, higher = self.to != "higher", self.to != "lower"
        if self.most is None and ((lower and low == -math.inf) or (higher and high == math.inf)):
            raise ValueError("changeable: needs most, such as 0.5, since the column has no bound in that direction")
        most = math.inf if self.most is None else self.most
        return Changeable(lower=lower, higher=higher, most=most, step=step, scaled=self.scaled)


class ColumnDeclaration(Settings):
    """One raw column; see `schema.Column`."""

    kind: ColumnKind
    description: str = ""
    unit: str = ""
    low: float | str | None = None
    high: float | str | None = None
    required: bool = False
    missing: tuple[float | str, ...] = ()
    protected: str | tuple[str, ...] | dict[str, ProtectionDeclaration] = ()
    levels: tuple[str | int, ...] = ()
    coded: bool = False
    most_levels: int = Field(default=MOST_LEVELS, ge=1, le=100_000)
    calendar: Calendar | None = None
    changeable: ChangeableDeclaration | None = None

    @model_validator(mode="after")
    def _parts_fit_the_kind(self) -> Self:
        category = self.kind is ColumnKind.CATEGORY
        if (self.low is not None or self.high is not None) and (category or self.kind is ColumnKind.FLAG):
            raise ValueError("only numbers, counts and dates have bounds")
        if (self.levels or self.coded) and not category:
            raise ValueError("only categories have levels")
        if len(set(map(type, self.levels))) > 1 or len(set(self.levels)) < len(self.levels):
            raise ValueError("levels must differ, and be texts or whole numbers, not both")
        if not category and not all(isinstance(code, float) for code in self.missing):
            raise ValueError("codes for missing must be numbers")
        if set(_texts(self.levels)) & set(_texts(self.missing)):
            raise ValueError("a level cannot be a code for missing")
        if self._bound(self.low, -math.inf) > self._bound(self.high, math.inf):
            raise ValueError("low must be at most high")
        self._protections()
        self._changes()
        return self

    def build(self, name: str) -> Column:
        """The column of this name."""
        flag, category = self.kind is ColumnKind.FLAG, self.kind is ColumnKind.CATEGORY
        return Column(
            name=name,
            kind=self.kind,
            description=self.description or name,
            unit=self.unit or _UNITS.get(self.kind, "number"),
            low=0.0 if flag else self._bound(self.low, -math.inf),
            high=1.0 if flag else self._bound(self.high, math.inf),
            required=self.required,
            missing=_texts(self.missing) if category else tuple(map(float, self.missing)),
            protections=self._protections(),
            levels=_texts(self.levels),
            coded=self.coded or any(isinstance(level, int) for level in self.levels),
            most_levels=self.most_levels,
            calendar=self.calendar,
            changeable=self._changes(),
        )

    def _bound(self, stated: float | str | None, otherwise: float) -> float:
        if stated is None:
            return otherwise
        if isinstance(stated, str) != (self.kind is ColumnKind.DATE):
            raise ValueError("bounds are numbers, or texts such as 2026-01-31 of a date")
        return day_number(stated) if isinstance(stated, str) else stated

    def _changes(self) -> Changeable | None:
        low, high = self._bound(self.low, -math.inf), self._bound(self.high, math.inf)
        return None if self.changeable is None else self.changeable.build(self, low, high)

    def _protections(self) -> tuple[Protection, ...]:
        stated = self.protected
        if isinstance(stated, str):
            stated = (stated,)
        named = stated if isinstance(stated, dict) else {name: ProtectionDeclaration() for name in stated}
        return tuple(one.build(attribute, self) for attribute, one in named.items())


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
    def schema(self) -> Schema:
        """The raw columns and the orders between them."""
        declared = self.declared
        return Schema(
            id_column=declared.identity.column if declared.identity else None,
            target_column=declared.outcome.column,
            columns=tuple(column.build(name) for name, column in declared.columns.items()),
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
                if group == BASELINE or name in schema or name in above:
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
        """The names of all sets of features, the raw columns' own first."""
        return (BASELINE, *self.declared.features)

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


def _texts(values: Collection[str | int | float]) -> tuple[str, ...]:
    return tuple(f"{value:g}" if isinstance(value, float) else str(value) for value in values)


def _raw(column: Column) -> Feature:
    return Feature(name=column.name, description=column.description, group=BASELINE, sources=(column.name,))


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
