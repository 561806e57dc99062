"""Challenger against champion: gates, promotion, rollback."""

from __future__ import annotations

from .contender import Contender
from .judging import Verdict, judge
from .promotion import enthrone, keep, promote, rollback

__all__ = ["Contender", "Verdict", "enthrone", "judge", "keep", "promote", "rollback"]
