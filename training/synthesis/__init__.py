"""Synthetic applications with known default probabilities, in the layout of Kaggle's "Home Credit Default Risk"."""

from .dataset import synthesize, total_clients
from .errors import SynthesisError
from .tables import ALL, APPLICATIONS, TRUE_PD, Tables
from .writer import FileFormat

__all__ = [
    "ALL",
    "APPLICATIONS",
    "TRUE_PD",
    "FileFormat",
    "SynthesisError",
    "Tables",
    "synthesize",
    "total_clients",
]
