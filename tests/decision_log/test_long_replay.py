"""A long log is replayed on every processor, in bounded memory.

REPLAYED_RECORDS says how many decisions, REPLAY_MODEL and REPLAY_APPLICATIONS with which model and which applications,
and RECORDS_RESULTS where the figures go: `make records`.
"""

from __future__ import annotations

import os
from multiprocessing import get_context
from pathlib import Path

import pytest

from benchmarks.decisions import Pool, generate, stored_as
from decision_log.format import ClientHash
from decision_log.reader import DecisionLogReader
from decision_log.segments import Listing
from deploy.record import add_result
from scoring.artefact import Artefact
from scoring.policy import DecisionKind
from scoring.scorer import Scorer
from tests.decision_log.models import kept
from tests.decision_log.test_scale import used

RECORDS = int(os.environ.get("REPLAYED_RECORDS", "3000"))
MODEL, APPLICATIONS = os.environ.get("REPLAY_MODEL"), os.environ.get("REPLAY_APPLICATIONS")
RESULTS = os.environ.get("RECORDS_RESULTS")


def generated(log: Path, artefact: Path, applications: Path) -> None:
    """Write a log of RECORDS decisions."""
    pool = Pool.of(Scorer(Artefact.read(artefact)), applications)
    generate(log, pool, rows=RECORDS, client_hash=ClientHash(b"k" * 32), seed=20261128)


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
    with kept("generated", chosen) as model:
        scorer = model.scorer
        assert stored_as(scorer).version == model.version
        found = used("replay", "--log", tmp_path / "log")
        changed = used("replay", "--log", tmp_path / "log", "--model", f"generated:{model.version}")
    assert found.output == f"{RECORDS:,} of {RECORDS:,} decisions replayed; 0 differ\n"
    told = changed.output.splitlines()[-1]
    assert told == f"{RECORDS:,} of {RECORDS:,} decisions replayed with generated:{model.version}; 0 change"
    if RESULTS:
        tables = DecisionLogReader(tmp_path / "log").tables(["decision"])
        declined = sum(table["decision"].to_pylist().count(str(DecisionKind.DECLINE)) for table in tables)
        figures = {
            name: {"seconds": one.seconds, "cpu_seconds": one.cpu_seconds, "peak_memory_of_a_process_mb": one.megabytes}
            for name, one in (("bit for bit", found), ("with a model", changed))
        }
        size = {"records": RECORDS, "segments": len(Listing.of(tmp_path / "log").closed), "declines": declined}
        machine = {"processors": len(os.sched_getaffinity(0)), "load_average": round(os.getloadavg()[0], 1)}
        model_size = {"features": len(scorer.features), "trees": scorer.model.trees}
        add_result(Path(RESULTS), "make records", "replay", {**size, **model_size, **machine, **figures})
