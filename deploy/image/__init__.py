"""The container image of a Bento: `python -m deploy.image build|check`."""

from __future__ import annotations

from .container import Container, hardened

__all__ = ["Container", "hardened"]
