"""The portfolio that most tests use, with its parts under short names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from features.portfolio import Portfolio
from features.request import Applications
from serving.schemas import Requests, example_of

PORTFOLIO = Portfolio.load(Path(__file__).resolve().parents[1] / "configs" / "portfolios" / "home_credit")
APPLICATION = PORTFOLIO.schema
STATED_NUMBERS = [column for column in APPLICATION.stated if column.numeric]
"""The numeric columns of an application itself."""
CATALOGUE = PORTFOLIO.catalogue
PROTECTED = APPLICATION.attributes
NAMELESS: dict[str, Any] = {"identity": None, "histories": {}, "features": {}, "reasons": None}
"""What a declaration of applications without an identifier says instead: no history and no words for one."""
EXAMPLE = example_of(PORTFOLIO)
"""A body of /predict."""
READER = Applications(PORTFOLIO)
Application = READER.model
columns_of = READER.columns_of
REQUESTS = Requests(PORTFOLIO)


def write_bare_portfolio(folder: Path) -> Path:
    """Write the portfolio without the settings that it lays over a file of settings, and return its file."""
    declared = {name: part for name, part in json.loads(PORTFOLIO.content).items() if name != "training"}
    path = folder / "portfolio.yaml"
    path.write_text(yaml.safe_dump(declared, sort_keys=False))
    return path
