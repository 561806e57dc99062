"""What `make demo` prints."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from credit_scoring_client.answer import CreditDecision as Decided
from credit_scoring_client.answer import DecisionReason

from examples.demo import _as_answered
from serving.schemas import Decision
from tests.server import ROOT

DECIDED = Decided(
    request_id="r",
    client_id=None,
    timestamp=datetime(2026, 1, 31, 12, 0, 0, 123_456, tzinfo=UTC),
    model_version="1-abc",
    probability=0.25,
    prediction=1,
    threshold=0.1,
    decision="decline",
    risk_level="CRITICAL",
    score=500,
    missing=2,
    unknown=0,
)


@pytest.mark.parametrize("reasons", [(), (DecisionReason(code="R03", text="The income is insufficient"),)])
def test_the_decision_is_shown_as_the_service_writes_it(reasons: tuple[DecisionReason, ...]) -> None:
    shown = json.loads(_as_answered(replace(DECIDED, reasons=reasons)))
    assert shown["timestamp"] == "2026-01-31T12:00:00.123Z"
    assert shown["reasons"] == [asdict(reason) for reason in reasons]
    assert Decision.model_validate(shown).decision == "decline"


@pytest.mark.parametrize("target", ["demo", "bento"])
@pytest.mark.parametrize(("folder", "refused"), [(".local/src", True), ("src/.worktree", True), ("src/a.b", False)])
def test_below_a_hidden_folder_nothing_is_trained_in_vain(
    tmp_path: Path, target: str, folder: str, *, refused: bool
) -> None:
    """BentoML refuses to build a Bento there, at the end of it all and with a traceback."""
    checkout = tmp_path / folder
    for name in ("Makefile", "deploy/targets.mk", "docs/targets.mk"):
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, checkout / name)
    made = subprocess.run(["make", target, "PYTHON=false"], cwd=checkout, capture_output=True, text=True, check=False)
    said = f"BentoML builds nothing below a folder whose name begins with a dot: move {checkout}"
    assert (made.stderr.splitlines()[0] == said) == refused
    assert made.returncode != 0
