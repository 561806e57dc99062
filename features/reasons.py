"""Reasons are declared in the portfolio: groups of features, each with a code and its reviewed wording.

Features that tell the same story belong to one group, so that a lender gives one reason for all of them and not four
times the same one (12 CFR 1002.9(b)(2): the specific principal reasons).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Protocol, Self

from pydantic import Field

from features.errors import SchemaError
from features.schema import Schema
from jobs.settings import Settings

_CODE = r"^[A-Z0-9][A-Z0-9_-]*$"
_LANGUAGE = r"^[a-z]{2}$"


class WordingDeclaration(Settings):
    """The code of a reason, and its words in each language by the two letters of ISO 639-1."""

    code: str = Field(pattern=_CODE, max_length=20)
    wording: dict[str, str] = Field(min_length=1)

    def build(self) -> Reason:
        """The reason."""
        return Reason(self.code, tuple(self.wording.items()))


class GroupDeclaration(WordingDeclaration):
    """A reason, and what it stands for: columns, with the features that read no others, and features by name."""

    columns: tuple[str, ...] = ()
    """Names or patterns such as FLAG_*; each column belongs to one group."""
    features: tuple[str, ...] = ()
    """Features that read columns of several groups."""
    missing: WordingDeclaration | None = None
    """The reason where the group's values are missing; without it that of `reasons.missing`."""


class ReasonsDeclaration(Settings):
    """All reasons of a portfolio."""

    missing: WordingDeclaration
    """The reason for missing information that no group of its own names."""
    groups: dict[str, GroupDeclaration] = Field(min_length=1)


class _Feature(Protocol):
    """What is asked of a feature of a portfolio."""

    @property
    def name(self) -> str: ...
    @property
    def sources(self) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True)
class Reason:
    """A reason that an applicant is told: its code, and pairs of a language and the words."""

    code: str
    wording: tuple[tuple[str, str], ...]

    def __hash__(self) -> int:
        return hash(self.code)  # all words would take four times as long, for each reason of each decline

    def text(self, language: str) -> str:
        """The words in a language; SchemaError for one without words."""
        for written, words in self.wording:
            if written == language:
                return words
        raise SchemaError(f"reason {self.code} has no wording in '{language}'")


@dataclass(frozen=True, slots=True)
class ReasonGroup:
    """A group of features that share a reason; `missing` is the reason where their values are missing."""

    name: str
    reason: Reason
    missing: Reason


@dataclass(frozen=True, slots=True)
class Reasons:
    """The reasons of a portfolio.

    Attributes
    ----------
    groups : in the order of the declaration, which decides between equal contributions
    of_feature : the group of each feature that has one, by the feature's name; a protected feature has none
    """

    groups: tuple[ReasonGroup, ...]
    missing: Reason
    of_feature: Mapping[str, ReasonGroup]

    @classmethod
    def of(cls, declared: ReasonsDeclaration, schema: Schema, features: Sequence[_Feature]) -> Self:
        """The reasons of a declaration; SchemaError for a wrong name, a column in two groups, or uneven languages."""
        general = declared.missing.build()
        groups = {
            name: ReasonGroup(name, group.build(), group.missing.build() if group.missing else general)
            for name, group in declared.groups.items()
        }
        found = cls(tuple(groups.values()), general, _assigned(declared, groups, schema, features))
        found._require_wording()
        return found

    def __iter__(self) -> Iterator[Reason]:
        """Every reason once: those of the groups, each before that of its missing values."""
        yield from dict.fromkeys([*(each for one in self.groups for each in (one.reason, one.missing)), self.missing])

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages that every reason has words in."""
        return tuple(language for language, _ in self.missing.wording)

    def unworded(self, features: Collection[_Feature], protected: Collection[str]) -> list[str]:
        """The features that no reason covers, except those that rest on a protected column."""
        return [
            one.name for one in features if one.name not in self.of_feature and set(protected).isdisjoint(one.sources)
        ]

    def _require_wording(self) -> None:
        codes = [reason.code for reason in self]
        if twice := sorted({code for code in codes if codes.count(code) > 1}):
            raise SchemaError(f"reasons: a code stands for one reason: {', '.join(twice)}")
        for reason in self:
            if sorted(language for language, _ in reason.wording) != sorted(self.languages):
                raise SchemaError(f"reasons: {reason.code} needs words in {', '.join(self.languages)}, and no others")
            if not all(words.strip() and words.isprintable() for _, words in reason.wording):
                raise SchemaError(f"reasons: {reason.code} has an empty wording")


def _assigned(
    declared: ReasonsDeclaration, groups: Mapping[str, ReasonGroup], schema: Schema, features: Sequence[_Feature]
) -> dict[str, ReasonGroup]:
    """The group of each feature: the one that names it, or else the one of all its columns."""
    # None: a protected attribute must not be a reason, whoever named its column (12 CFR 1002.6(b)).
    protected = schema.protected(schema.attributes)
    named = _members(declared, "columns", [column.name for column in schema])
    if wrong := sorted(protected & named.keys()):
        raise SchemaError(f"reasons: {', '.join(wrong)} states a protected attribute, which is never a reason")
    names = {one.name for one in features}
    apart = _members(declared, "features", [name for name in names if name not in schema])
    found = {}
    for feature in features:
        own = {apart[feature.name]} if feature.name in apart else {named.get(source) for source in feature.sources}
        group = own.pop() if len(own) == 1 else None
        if group is not None and protected.isdisjoint(feature.sources):
            found[feature.name] = groups[group]
    return found


def _members(declared: ReasonsDeclaration, part: str, names: Sequence[str]) -> dict[str, str]:
    """The group of each name that a group lists under `part`; SchemaError for one that is unknown or in two groups."""
    found: dict[str, str] = {}
    for group, declaration in declared.groups.items():
        for pattern in getattr(declaration, part):
            # A name may hold the signs of a pattern, as "income [EUR]" does.
            matched = [pattern] if pattern in names else [name for name in names if fnmatchcase(name, pattern)]
            if not matched:
                raise SchemaError(f"reasons.groups.{group}.{part}: {pattern} names none of the portfolio's {part}")
            if twice := sorted(name for name in matched if found.get(name, group) != group):
                raise SchemaError(f"reasons.groups.{group}.{part}: {twice[0]} is in the group {found[twice[0]]} too")
            found.update(dict.fromkeys(matched, group))
    return found
