"""A long log is verified in bounded memory, and what proofs cost the writer of a record.

VERIFIED_RECORDS says how many, and RECORDS_RESULTS where the figures go: `make records`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from decision_log.checkpoints import MerkleTree, leaf_hash
from decision_log.closing import close
from decision_log.format import Caller, ClientHash, Header, LineFormat
from decision_log.segments import Listing
from deploy.record import add_result
from scoring.scorer import Scores
from tests.decision_log.logs import FIRST, HEADER, KeyPair, Scribe, Signed, drawn
from tests.monitoring.test_closing import LATER, SETTINGS
from tests.server import ROOT

RECORDS = int(os.environ.get("VERIFIED_RECORDS", "4000"))
RESULTS = os.environ.get("RECORDS_RESULTS")
FEATURES = tuple(f"feature_{number}" for number in range(135))
_AT_ONCE = 500


@dataclass(frozen=True)
class Used:
    """What a command printed and used."""

    output: str
    seconds: float
    cpu_seconds: float
    megabytes: float


def verified(signed: Signed) -> Used:
    """`python -m scoring verify`, in a process of its own."""
    return used("verify", "--log", signed.log, "--checkpoints", signed.vault, "--key", signed.keys.public)


def used(*words: object, program: str = "scoring") -> Used:
    """A command of a program in a process of its own; the memory is that of its largest process."""
    begun = time.monotonic()
    command = [sys.executable, "-m", program, *map(str, words)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout
        output = process.stdout.read()
        _, status, taken = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, output
    seconds = time.monotonic() - begun
    return Used(output, round(seconds, 1), round(taken.ru_utime + taken.ru_stime, 1), round(taken.ru_maxrss / 1e3))


def written(folder: Path) -> Signed:
    """A log of RECORDS records of 135 features, with a checkpoint every 500."""
    signed = Signed(folder, KeyPair(folder / "keys"))
    header = Header("model", "1-abc", "a" * 64, FEATURES, "0123456789abcdef")
    scribe = Scribe(signed.log, signed.keys, signed.vault, segment_bytes=1 << 26, header=header)
    form, random = LineFormat(header, ClientHash(b"k" * 32)), np.random.default_rng(3)
    for first in range(0, RECORDS, _AT_ONCE):
        callers = [Caller(f"{first + row:032x}", f"{row}") for row in range(_AT_ONCE)]
        matrix = random.normal(size=(_AT_ONCE, len(FEATURES)))
        scribe.writer.append(form.lines("/predict", callers, matrix, many(random), FIRST + first))
        scribe.attest()
    scribe.close()
    return signed


def many(random: np.random.Generator) -> Scores:
    """The scores of 500 applications."""
    one = drawn(random)
    return one.take(np.zeros(_AT_ONCE, dtype=np.int64))  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_long_log_is_verified_open_and_closed(tmp_path: Path) -> None:
    signed = written(tmp_path / "signed")
    said = f"{RECORDS:,} records in {len(Listing.of(signed.log).open)} segments; checkpoints cover {RECORDS:,} of them;"
    is_open = verified(signed)
    close(signed.log, SETTINGS, LATER)
    assert Listing.of(signed.log).open == ()
    is_closed = verified(signed)
    assert is_open.output == is_closed.output == f"{said} 0 things are wrong\n"
    if RESULTS:
        figures = {
            name: {"seconds": used.seconds, "cpu_seconds": used.cpu_seconds, "peak_memory_mb": used.megabytes}
            for name, used in (("open", is_open), ("closed", is_closed))
        }
        add_result(Path(RESULTS), "make records", "verify", {"records": RECORDS, "features": len(FEATURES), **figures})


@pytest.mark.skipif(not RESULTS, reason="`make records` measures it")
def test_what_proofs_cost_a_record(tmp_path: Path) -> None:
    """Processor time: the salt and tree of each record, and its share of a checkpoint every thousand records."""
    line, tree, count = os.urandom(1_900), MerkleTree(), 200_000
    begun = time.process_time()
    for _ in range(count):
        tree.add(leaf_hash(line))
    hashed = time.process_time() - begun
    form = LineFormat(HEADER, None)
    begun = time.process_time()
    for _ in range(count):
        form._salt()
    salted = time.process_time() - begun
    scribe = Scribe(tmp_path / "log", KeyPair(tmp_path / "keys"), tmp_path / "vault", segment_bytes=1 << 26)
    attested = 0.0
    for _ in range(50):
        scribe.write(1_000)
        begun = time.process_time()
        scribe.attest()
        attested += time.process_time() - begun
    scribe.close()
    figures = {
        "salt_us": round(1e6 * salted / count, 2),
        "hash_and_tree_us": round(1e6 * hashed / count, 2),
        "checkpoint_us_of_a_thousandth": round(1e6 * attested / 50_000, 2),
        "checkpoint_us": round(1e6 * attested / 50),
    }
    add_result(Path(str(RESULTS)), "make records", "processor time of a record", figures)
