"""The declaration of one raw column, as it is written in a portfolio file, and the column that it declares."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Literal, Self

from pydantic import Field, model_validator

from features.schema import MOST_LEVELS, Calendar, Changeable, Column, ColumnKind, Protection, day_number
from jobs.settings import Settings

_UNITS = {ColumnKind.CATEGORY: "level", ColumnKind.FLAG: "0 or 1", ColumnKind.DATE: "date", ColumnKind.COUNT: "count"}
_ELDERLY = 62.0
# The usual bands of an age in years; 62 is where Regulation B calls applicants elderly (12 CFR 1002.2(o)).
_AGE_BANDS = (25.0, 40.0, _ELDERLY)


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


def _texts(values: Collection[str | int | float]) -> tuple[str, ...]:
    return tuple(f"{value:g}" if isinstance(value, float) else str(value) for value in values)
