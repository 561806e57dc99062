"""Generated data: a portfolio may name a Python module that writes files of applications where `run` gets none."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Literal, Protocol, cast

from features.portfolio import Portfolio
from training.errors import DataError

FileFormat = Literal["csv", "parquet"]
Tables = Literal["all", "applications"]


class Generator(Protocol):
    """What the module offers that a portfolio's `generator` names."""

    def synthesize(
        self,
        output: Path,
        *,
        clients: int,
        seed: int,
        file_format: FileFormat = "csv",
        tables: Tables = "all",
        progress: Callable[[int], object] | None = None,
    ) -> None:
        """Write the portfolio's files of `clients` applications into the folder `output`, or nothing at all.

        `progress` is called with the number of clients finished since the last call. The table `true_pd`, which marks
        the data as generated, is always written.
        """
        ...

    def total_clients(self, clients: int) -> int:
        """Clients of all files together, those of later applications included."""
        ...


def generator_of(portfolio: Portfolio) -> Generator:
    """The generator of a portfolio; DataError if it names none, or one that cannot be imported."""
    name = portfolio.declared.generator
    if name is None:
        raise DataError(f"the portfolio {portfolio.name} has no generator: give --data")
    try:
        return cast("Generator", import_module(name))
    except ImportError as error:
        raise DataError(f"the generator {name} of the portfolio {portfolio.name} cannot be imported: {error}") from None
