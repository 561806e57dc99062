"""The portfolio that most tests use, with its parts under short names."""

from __future__ import annotations

from pathlib import Path

from features.portfolio import Portfolio
from features.request import Applications
from serving.schemas import Requests, example_of

PORTFOLIO = Portfolio.load(Path(__file__).resolve().parents[1] / "configs" / "portfolios" / "home_credit")
APPLICATION = PORTFOLIO.schema
CATALOGUE = PORTFOLIO.catalogue
PROTECTED = APPLICATION.attributes
EXAMPLE = example_of(PORTFOLIO)
"""A body of /predict."""
READER = Applications(PORTFOLIO)
Application = READER.model
columns_of = READER.columns_of
REQUESTS = Requests(PORTFOLIO)
