"""Workers of a real service are killed under load: every answered decision is in the log, and proven by a checkpoint.

KILLS says how often, and RECORDS_RESULTS where the counts go: `make records`.
"""

from __future__ import annotations

import os
import random
import signal
import time
from functools import partial
from pathlib import Path

from decision_log.checkpoints import audit_path, leaf_hash, root_from_path
from decision_log.notary import Vault
from decision_log.proofs import prove, read_evidence, stored_records, verify_log
from decision_log.segments import Listing
from deploy.load import Load, counted
from deploy.record import add_result
from scoring.store import public_key
from tests.applications import applications
from tests.decision_log.logs import KeyPair
from tests.faults.rehearsal import address, encoded, eventually, logged, recording_service
from tests.server import Server
from tests.workers import workers
from training.run import Delivered

KILLS = int(os.environ.get("KILLS", "2"))
RESULTS = os.environ.get("RECORDS_RESULTS")
_PROVEN = 25
"""Decisions that are proven one by one, by the command's own way."""


def test_every_answered_decision_is_proven_after_kills(delivered: Delivered, generated: Path, tmp_path: Path) -> None:
    keys, log, draw = KeyPair(tmp_path / "keys"), tmp_path / "log", random.Random(20261128)
    bodies = [encoded(one) for one in applications(generated / "application_train.csv")[:64]]
    recording = {"log": {"segment_bytes": 1 << 18, "checkpoints": {"seconds": 0.25, "records": 100}}}
    environment = keys.environment(tmp_path / "vault")
    with recording_service(tmp_path, delivered.tag, workers=2, recording=recording, environment=environment) as server:
        with Load(address(server), "/predict", *bodies, threads=4, per_second=150) as load:
            for _ in range(KILLS):
                time.sleep(draw.uniform(0.3, 1.5))
                _kill_one(server, draw)
        assert not any(result.isdigit() and result != "200" for result in counted(load.outcomes))
    answered = {str(one.decision["request_id"]) for one in load.outcomes if one.decision}
    assert answered
    assert answered - logged(log) == set()
    vault, key = Vault(str(tmp_path / "vault")), [public_key(keys.public)]
    seen = verify_log(log, vault, key)
    assert seen.findings == []
    assert seen.covered == seen.records
    assert sum("its worker was killed" in one.what for one in seen.remarks) >= 1
    _assert_proven(log, vault, keys, answered)
    for request in draw.sample(sorted(answered), min(_PROVEN, len(answered))):
        assert request in prove(log, vault, key, request)["line"]
    if RESULTS:
        counts = {"kills": KILLS, "answered": len(answered), "answered_and_not_proven": 0, "records": seen.records}
        add_result(Path(RESULTS), "make records", "kills", {**counts, "requests": counted(load.outcomes)})


def _kill_one(server: Server, draw: random.Random) -> None:
    before = workers(server)
    victim = draw.choice(before)
    os.kill(victim, signal.SIGKILL)
    eventually(partial(_replaced, server, victim))


def _replaced(server: Server, victim: int) -> bool:
    found = workers(server)
    return len(found) == 2 and victim not in found


def _assert_proven(log: Path, vault: Vault, keys: KeyPair, answered: set[str]) -> None:
    """Each answered decision has a path to the root of a signed checkpoint."""
    key = [public_key(keys.public)]
    proven: set[str] = set()
    for path in Listing.of(log).open:
        lines = list(stored_records(path))
        if not lines:
            continue
        leaves = [leaf_hash(line) for line in lines]
        evidence = read_evidence(vault, path.stem.rpartition("-")[0], key, [])[path.stem]
        last, _ = max(evidence.checkpoints, key=lambda one: one[0].size)
        assert last.size == len(leaves)
        for number, line in enumerate(lines):
            root = root_from_path(leaves[number], number, len(leaves), audit_path(leaves, number))
            if root == last.root:
                proven.add(line.split(b'"request_id":"', 1)[1].split(b'"', 1)[0].decode())
    assert answered - proven == set()
