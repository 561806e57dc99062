"""Faults are rehearsed where REHEARSE=1 asks for it: `make faults`. They need a machine of their own."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy.record import write_record
from scoring.store import StoredModel
from tests.applications import applications
from tests.faults.rehearsal import Asked, encoded
from tests.faults.table import write_table
from tests.home_credit import REQUESTS, columns_of
from tests.server import ROOT

RESULTS = os.environ.get("FAULT_RESULTS")
_DIFFERENT = 64
Note = Callable[..., None]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and os.environ.get("REHEARSE") != "1":
            item.add_marker(pytest.mark.skip(reason="`make faults` runs it: it needs a machine of its own"))


@pytest.fixture(scope="session")
def asked(generated: Path, stored: StoredModel) -> Asked:
    """Different applications, and what the scorer says of them."""
    chosen = applications(generated / "application_train.csv")[:_DIFFERENT]
    columns = columns_of([REQUESTS.predict.model_validate({"application": one}).application for one in chosen])
    probabilities: list[float] = np.asarray(stored.scorer.score(columns).probability).tolist()
    return Asked(tuple(map(encoded, chosen)), tuple(probabilities))


@pytest.fixture(scope="session")
def _rows() -> Iterator[dict[str, Any]]:
    """The accounts of all faults, written at the end where FAULT_RESULTS says, and into docs/explanation/faults.md.

    Those that are rehearsed replace what was written of them before.
    """
    written = Path(RESULTS) if RESULTS else None
    rows: dict[str, Any] = json.loads(written.read_text())["faults"] if written and written.exists() else {}
    yield rows
    if written:
        write_record(written, "make faults", {"faults": rows})
        write_table(ROOT / "docs" / "explanation" / "faults.md", json.loads(written.read_text()))


@pytest.fixture
def note(_rows: dict[str, Any]) -> Note:
    """Notes the account of a fault under its name, with what else there is to say."""

    def noted(name: str, account: dict[str, Any], **more: Any) -> None:
        _rows[name] = {"measured": datetime.now(UTC).date().isoformat()} | account | more
        assert account["wrong"] == 0
        assert account["not_in_the_log"] == 0

    return noted
