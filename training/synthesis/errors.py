"""Errors of the synthetic data."""

from __future__ import annotations


class SynthesisError(Exception):
    """Data that cannot be generated or written as asked."""
