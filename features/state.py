"""What was learned about the features from a training fold, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from .application import APPLICATION
from .catalogue import CATALOGUE, DEFINITION_DIGEST
from .errors import SchemaError


@dataclass(frozen=True, slots=True)
class FeatureState:
    """The fitted part of the features.

    Attributes
    ----------
    names : features of the model matrix, in its order
    vocabularies : for each categorical column the known levels; the position of a level is its code
    clip : for each clipped numeric column its inclusive bounds
    definition : digest of the declaration that this state was fitted with
    """

    names: tuple[str, ...]
    vocabularies: Mapping[str, tuple[str, ...]]
    clip: Mapping[str, tuple[float, float]]
    definition: str = DEFINITION_DIGEST

    def __post_init__(self) -> None:
        if self.definition != DEFINITION_DIGEST:
            raise SchemaError("the features were fitted with another feature definition than this code's")
        unknown = set(self.names) - {feature.name for feature in CATALOGUE}
        if unknown or len(set(self.names)) != len(self.names):
            raise SchemaError(f"features that are not declared, or declared twice: {sorted(unknown)}")
        categories = {column.name for column in APPLICATION.categorical}
        without = [name for name in self.names if name in categories and name not in self.vocabularies]
        if without:
            raise SchemaError(f"categories without a vocabulary: {', '.join(without)}")

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form; `from_dict` is its inverse."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The state that `to_dict` wrote; SchemaError if it belongs to another definition."""
        return cls(
            names=tuple(values["names"]),
            vocabularies={name: tuple(levels) for name, levels in values["vocabularies"].items()},
            clip={name: (low, high) for name, (low, high) in values["clip"].items()},
            definition=values["definition"],
        )
