"""A long log is replayed on every processor, and compared with a challenger, in bounded memory.

REPLAYED_RECORDS says how many decisions, REPLAY_MODEL and REPLAY_APPLICATIONS with which model and which applications,
and RECORDS_RESULTS where the figures go: `make records`.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from benchmarks.decisions import Pool, generate, stored_as
from decision_log.format import FEATURE_PREFIX, ClientHash
from decision_log.reader import DecisionLogReader
from decision_log.segments import Listing
from deploy.record import add_result
from scoring.artefact import Artefact
from scoring.policy import DecisionKind
from scoring.scorer import Scorer, with_conformance
from tests.decision_log.models import kept
from tests.decision_log.test_scale import used

RECORDS = int(os.environ.get("REPLAYED_RECORDS", "3000"))
MODEL, APPLICATIONS = os.environ.get("REPLAY_MODEL"), os.environ.get("REPLAY_APPLICATIONS")
RESULTS = os.environ.get("RECORDS_RESULTS")


def generated(log: Path, artefact: Path, applications: Path) -> None:
    """Write a log of RECORDS decisions."""
    pool = Pool.of(Scorer(Artefact.read(artefact)), applications)
    generate(log, pool, rows=RECORDS, client_hash=ClientHash(b"k" * 32), seed=20261128)


def changed_decisions(log: Path, challenger: Scorer) -> Counter[tuple[str, str]]:
    """The decisions that a challenger of the same features changes, computed without the code under test."""
    found: Counter[tuple[str, str]] = Counter()
    names = [f"{FEATURE_PREFIX}{name}" for name in challenger.features]
    for table in DecisionLogReader(log).tables(["decision", *names]):
        matrix = np.column_stack([table[name].to_numpy() for name in names])
        now = challenger.decide(matrix, challenger.model.margins(matrix), with_reasons=False).decision.tolist()
        found.update((was, str(one)) for was, one in zip(table["decision"].to_pylist(), now, strict=True) if was != one)
    return found


@pytest.mark.slow
def test_a_long_log_is_replayed_bit_for_bit(artefact: Artefact, labelled_csv: Path, tmp_path: Path) -> None:
    chosen = Artefact.read(Path(MODEL)) if MODEL else artefact
    chosen.write(tmp_path / "artefact")
    arguments = (tmp_path / "log", tmp_path / "artefact", Path(APPLICATIONS) if APPLICATIONS else labelled_csv)
    # In a process of its own: the commands below would begin with the peak memory of this one.
    process = get_context("spawn").Process(target=generated, args=arguments)
    process.start()
    process.join()
    assert process.exitcode == 0
    policy = replace(chosen.policy, refer_from=chosen.policy.refer_from * 0.8)
    calibration = replace(chosen.calibration, slope=chosen.calibration.slope * 0.9)
    other = with_conformance(replace(chosen, policy=policy, calibration=calibration))
    with kept("generated", chosen) as model, kept("challenger", other) as challenger:
        scorer = model.scorer
        assert stored_as(scorer).version == model.version
        found = used("replay", "--log", tmp_path / "log")
        tag, output = f"challenger:{challenger.version}", tmp_path / "compared"
        words = ("compare", "--log", tmp_path / "log", "--version", tag, "--output", output)
        changed = used(*words, program="training")
        expected = changed_decisions(tmp_path / "log", challenger.scorer)
    assert found.output == f"{RECORDS:,} of {RECORDS:,} decisions replayed; 0 differ\n"
    told = changed.output.splitlines()[-1]
    assert told == f"{RECORDS:,} of {RECORDS:,} decisions compared with {tag}; {expected.total():,} change"
    flips = json.loads((output / "comparison.json").read_text())["bands"][-1]["flips"]
    assert {(one["was"], one["now"]): one["decisions"] for one in flips if one["decisions"]} == expected
    assert expected.total() > RECORDS / 100
    if RESULTS:
        tables = DecisionLogReader(tmp_path / "log").tables(["decision"])
        declined = sum(table["decision"].to_pylist().count(str(DecisionKind.DECLINE)) for table in tables)
        figures = {
            name: {"seconds": one.seconds, "cpu_seconds": one.cpu_seconds, "peak_memory_of_a_process_mb": one.megabytes}
            for name, one in (("bit for bit", found), ("with a challenger", changed))
        }
        size = {"records": RECORDS, "segments": len(Listing.of(tmp_path / "log").closed), "declines": declined}
        machine = {"processors": len(os.sched_getaffinity(0)), "load_average": round(os.getloadavg()[0], 1)}
        model_size = {"features": len(scorer.features), "trees": scorer.model.trees}
        add_result(Path(RESULTS), "make records", "replay", {**size, **model_size, **machine, **figures})
