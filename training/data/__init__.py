"""Labelled applications: read, validated, split in time, searched for leaks."""

from __future__ import annotations

from .dataset import Dataset
from .out_of_time import split_by_time
from .source import is_generated, load

__all__ = ["Dataset", "is_generated", "load", "split_by_time"]
