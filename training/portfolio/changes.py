"""Compares two portfolios: what the newer one breaks for callers of the API, and what needs a new training."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from features.errors import SchemaError
from features.portfolio import Portfolio, portfolio_of
from features.schema import Column, ColumnKind
from jobs.errors import SettingsError
from jobs.settings import SETTINGS_BYTES, read_regular

# Every whole number is a number; any other change of kind refuses values that were legal.
_WIDER = {(ColumnKind.COUNT, ColumnKind.NUMBER)}


@dataclass(frozen=True, slots=True, kw_only=True)
class PortfolioChange:
    """One difference: where it is, what it is, whether it breaks a caller's request, and whether to train again."""

    place: str
    what: str
    breaks: bool = False
    retrain: bool = False

    def __str__(self) -> str:
        effects = [word for word, holds in (("breaks callers", self.breaks), ("train again", self.retrain)) if holds]
        return f"{self.place}: {self.what}" + (f" ({', '.join(effects)})" if effects else "")


def read_portfolio(path: Path) -> Portfolio:
    """Return the portfolio in a folder, a YAML file, or the portfolio.json of an artefact; SettingsError if none."""
    if path.suffix != ".json":
        return Portfolio.load(path)
    try:
        return portfolio_of(read_regular(path, SETTINGS_BYTES))
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror})") from None
    except (SchemaError, ValueError):
        raise SettingsError(f"{path}: is no portfolio of an artefact") from None


def changes(old: Portfolio, new: Portfolio) -> tuple[PortfolioChange, ...]:
    """Return the differences from `old` to `new`, those of columns first, in the order of the columns."""
    parts = (_columns, _histories, _orders, _features, _roles)
    return tuple(itertools.chain.from_iterable(part(old, new) for part in parts))


def _columns(old: Portfolio, new: Portfolio) -> Iterator[PortfolioChange]:
    for column in old.schema:
        if column.name in new.schema:
            yield from _column(column, new.schema[column.name])
        else:
            yield PortfolioChange(
                place=column.name, what="removed: requests that state it are refused", breaks=True, retrain=True
            )
    for column in new.schema:
        if column.name not in old.schema:
            need = "required" if column.required else "optional"
            yield PortfolioChange(place=column.name, what=f"added, {need}", breaks=column.required, retrain=True)
    if _reordered([column.name for column in old.schema], [column.name for column in new.schema]):
        yield PortfolioChange(place="columns", what="another order, in which the model reads them", retrain=True)


def _histories(old: Portfolio, new: Portfolio) -> Iterator[PortfolioChange]:
    before, after = old.declared.histories, new.declared.histories
    for name in dict.fromkeys((*before, *after)):
        if before.get(name) != after.get(name):
            what = "removed" if name not in after else "added" if name not in before else "changed"
            yield PortfolioChange(
                place=f"histories.{name}",
                what=f"{what}: the feature store must be filled again",
                breaks=name in before,
                retrain=True,
            )


def _reordered(before: Sequence[str], after: Sequence[str]) -> bool:
    """Whether the names that are in both stand in another order."""
    return [name for name in before if name in set(after)] != [name for name in after if name in set(before)]


def _column(old: Column, new: Column) -> Iterator[PortfolioChange]:
    if old.kind is not new.kind:
        wider = (old.kind, new.kind) in _WIDER
        yield PortfolioChange(place=old.name, what=f"{old.kind} becomes {new.kind}", breaks=not wider, retrain=True)
    elif old.coded and not new.coded:
        yield PortfolioChange(
            place=old.name, what="whole numbers are refused, texts alone are levels", breaks=True, retrain=True
        )
    elif new.coded and not old.coded:
        yield PortfolioChange(place=old.name, what="whole numbers become levels too: 2, 2.0 and '2' are one")
    if new.required and not old.required:
        yield PortfolioChange(place=old.name, what="becomes required", breaks=True)
    elif old.required and not new.required:
        yield PortfolioChange(place=old.name, what="is no longer required")
    if old.kind is new.kind and old.numeric:
        yield from _bounds(old, new)
    yield from _codes(old, new)
    yield from _values(old, new)


def _bounds(old: Column, new: Column) -> Iterator[PortfolioChange]:
    if (old.low, old.high) != (new.low, new.high):
        narrower = new.low > old.low or new.high < old.high
        what = f"bounds {'narrowed' if narrower else 'widened'}: {old.range} becomes {new.range}"
        # A served model refuses by the bounds that it was trained with.
        where = "in requests, files and drawn data"
        yield PortfolioChange(place=old.name, what=f"{what}, {where}", breaks=narrower, retrain=True)


def _codes(old: Column, new: Column) -> Iterator[PortfolioChange]:
    if old.numeric != new.numeric or set(old.missing) == set(new.missing):
        return
    gone = sorted(set(old.missing) - set(new.missing), key=str)
    refused = [code for code in gone if isinstance(code, float) and not new.low <= code <= new.high]
    said = f"codes for missing: {_listed(old.missing)} becomes {_listed(new.missing)}"
    # A category's old code becomes an unknown level, which is legal; a required column then takes what it refused.
    yield PortfolioChange(place=old.name, what=said, breaks=bool(refused), retrain=True)


def _values(old: Column, new: Column) -> Iterator[PortfolioChange]:
    if old.levels != new.levels:
        added, gone = len(set(new.levels) - set(old.levels)), len(set(old.levels) - set(new.levels))
        same = "another order" if not added + gone else f"{added} added, {gone} removed"
        yield PortfolioChange(place=old.name, what=f"levels: {same}")
    if old.most_levels != new.most_levels:
        what = f"most_levels: {old.most_levels} becomes {new.most_levels}"
        yield PortfolioChange(place=old.name, what=what, retrain=True)
    if old.protections != new.protections:
        before, after = ({one.attribute for one in column.protections} for column in (old, new))
        what = (
            f"protected: {_listed(before)} becomes {_listed(after)}" if before != after else "protected groups change"
        )
        yield PortfolioChange(place=old.name, what=what, retrain=True)
    if old.calendar != new.calendar:
        yield PortfolioChange(place=old.name, what="calendar changes")
    if old.changeable != new.changeable:
        # No score changes; but a served model suggests what its own declaration lets an applicant change.
        yield PortfolioChange(place=old.name, what="changeable changes", retrain=True)
    for key in ("unit", "description"):
        if old.kind is new.kind and getattr(old, key) != getattr(new, key):
            yield PortfolioChange(place=old.name, what=f"{key} changes")


def _orders(old: Portfolio, new: Portfolio) -> Iterator[PortfolioChange]:
    for order in new.schema.orders:
        if order not in old.schema.orders:
            yield PortfolioChange(place="orders", what=f"added: {order.smaller} {order.rule}", breaks=True)
    for order in old.schema.orders:
        if order not in new.schema.orders:
            yield PortfolioChange(place="orders", what=f"removed: {order.smaller} {order.rule}")


def _features(old: Portfolio, new: Portfolio) -> Iterator[PortfolioChange]:
    before, after = _expressions(old), _expressions(new)
    for name in {**before, **after}:
        if name not in after:
            yield PortfolioChange(place=f"features.{name}", what="removed", retrain=True)
        elif name not in before:
            yield PortfolioChange(place=f"features.{name}", what="added", retrain=True)
        elif before[name] != after[name]:
            yield PortfolioChange(place=f"features.{name}", what="another formula or set", retrain=True)
        elif old.features[name].description != new.features[name].description:
            yield PortfolioChange(place=f"features.{name}", what="description changes")
    if _reordered(list(before), list(after)):
        yield PortfolioChange(place="features", what="another order, in which the model reads them", retrain=True)


def _expressions(portfolio: Portfolio) -> Mapping[str, object]:
    """Each derived feature's set and what it computes; a formula written otherwise may compute the same."""
    return {
        feature.name: (feature.group, feature.expression)
        for feature in portfolio.catalogue
        if feature.expression is not None
    }


def _roles(old: Portfolio, new: Portfolio) -> Iterator[PortfolioChange]:
    before, after = old.declared, new.declared
    meanings = [(one.column, set(one.bad), set(one.good)) for one in (before.outcome, after.outcome)]
    if meanings[0] != meanings[1]:
        yield PortfolioChange(place="outcome", what="another column, or other values", retrain=True)
    if before.training != after.training:
        yield PortfolioChange(place="training", what="other settings", retrain=True)
    if before.outcome.means != after.outcome.means:
        yield PortfolioChange(place="outcome.means", what=f"{before.outcome.means} becomes {after.outcome.means}")
    if before.reasons != after.reasons:
        yield PortfolioChange(place="reasons", what="other groups or words", retrain=True)
    for place in ("name", "title", "identity", "decided_on", "files", "generator", "example"):
        if getattr(before, place) != getattr(after, place):
            yield PortfolioChange(place=place, what="changes")


def _listed(values: object) -> str:
    stated = sorted(values, key=str) if isinstance(values, set | tuple) else []
    texts = [f"{value:g}" if isinstance(value, float) and math.isfinite(value) else str(value) for value in stated]
    return ", ".join(texts) or "none"
