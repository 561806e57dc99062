"""The comparison with the alternatives: the same model and the same applications, served in ten ways."""

from .errors import BenchmarkError
from .results import Comparison

__all__ = ["BenchmarkError", "Comparison"]
