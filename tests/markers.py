"""Which tests are fast: told by what a test asks for and where it lies. By hand it is said of slow tests only."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.without_home_credit import FIXTURES, HERE

TESTS = Path(__file__).resolve().parent
SERVICE_FOLDERS = {"e2e", "faults", "parity"}
"""The tests below these run the real service."""
SLOW_FOLDERS = {"benchmarks", "deploy", "engines", "mutation", "training"}
"""The tests below these train, measure, or run the tools that ship; so do those of a portfolio."""
TRAINED = {"delivered", "generated", "histories", "many", "settings"}
"""A test with one of these fixtures waits for a training, or for the data of one."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test as `service`, `slow` or both; what is neither is `unit`."""
    for item in items:
        if not HERE and FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(
                pytest.mark.skip(
                    reason="Home Credit's portfolio is deleted: `git checkout configs/portfolios` brings it"
                )
            )
        for marker in _markers(item):
            item.add_marker(marker)
        if not {"service", "slow"} & {marker.name for marker in item.iter_markers()}:
            item.add_marker("unit")


def _markers(item: pytest.Item) -> set[str]:
    fixtures = set(getattr(item, "fixturenames", ()))
    folder = _folder(item.path)
    service = folder in SERVICE_FOLDERS or {"delivered", "server"} <= fixtures
    slow = folder in SLOW_FOLDERS or "portfolios" in item.path.parts or bool(TRAINED & fixtures)
    return {name for name, holds in {"service": service, "slow": slow}.items() if holds}


def _folder(path: Path) -> str:
    """The folder of tests/ that a test lies in, "" for those at the top and for doctests."""
    parts = path.relative_to(TESTS).parts if path.is_relative_to(TESTS) else ()
    return parts[0] if len(parts) > 1 else ""
