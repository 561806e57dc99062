"""Changes that an insider might plant in a log, drawn at random: each is found, and its first record is named.

PLANTED_CHANGES says how many, and RECORDS_RESULTS where the counts go: `make records`.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from decision_log.checkpoints import MerkleTree, leaf_hash
from decision_log.closed_segments import (
    closed_header,
    closed_lines,
    decision_table,
    read_whole,
    with_erased,
    with_lines,
    write_segment,
)
from decision_log.closing import Closed, close
from decision_log.format import Header, decoded
from decision_log.notary import Notary, Vault
from decision_log.proofs import Verification, stored_records, verify_log
from decision_log.segments import CLOSED_SUFFIX, Listing, first_line
from deploy.record import add_result
from scoring.store import public_key
from tests.decision_log.logs import FIRST, Signed, signed_log
from tests.decision_log.test_proofs import SETTINGS, closed

CHANGES = int(os.environ.get("PLANTED_CHANGES", "84"))
RESULTS = os.environ.get("RECORDS_RESULTS")
EVERY = 20
"""Records between two checkpoints."""
Lines = list[bytes]


def flipped(lines: Lines, draw: random.Random) -> Lines:
    """One bit of one record is another."""
    at = draw.randrange(len(lines))
    line = bytearray(lines[at])
    line[draw.randrange(len(line))] ^= 1 << draw.randrange(8)
    return [*lines[:at], bytes(line), *lines[at + 1 :]]


def altered(lines: Lines, draw: random.Random) -> Lines:
    """One decision is another."""
    at = draw.randrange(len(lines))
    return [*lines[:at], _turned(lines[at]), *lines[at + 1 :]]


def dropped(lines: Lines, draw: random.Random) -> Lines:
    at, count = draw.randrange(len(lines) - 5), draw.randint(1, 5)
    return lines[:at] + lines[at + count :]


def inserted(lines: Lines, draw: random.Random) -> Lines:
    at, other = draw.randrange(len(lines)), draw.randrange(len(lines))
    return [*lines[:at], *[_turned(lines[other])] * draw.randint(1, 3), *lines[at:]]


def swapped(lines: Lines, draw: random.Random) -> Lines:
    one, other = sorted(draw.sample(range(len(lines)), 2))
    changed = lines.copy()
    changed[one], changed[other] = lines[other], lines[one]
    return changed


def cut(lines: Lines, draw: random.Random) -> Lines:
    return lines[: draw.randrange(1, len(lines))]


def rewritten(lines: Lines, draw: random.Random) -> Lines:
    """Every decision is another; `plant` makes the next segment name the new root."""
    return [_turned(line) for line in lines]


def tail_replaced(lines: Lines, draw: random.Random) -> Lines:
    """What was signed last is other records, as many."""
    at = draw.randrange(0, len(lines), EVERY)
    return lines[:at] + [_turned(line) for line in lines[at:]]


def _turned(line: bytes) -> bytes:
    kinds = (b'"decision":"approve"', b'"decision":"decline"')
    return line.replace(*kinds) if kinds[0] in line else line.replace(*kinds[::-1])


KINDS: dict[str, Callable[[Lines, random.Random], Lines]] = {
    "a bit is flipped": flipped,
    "a decision is altered": altered,
    "records are dropped": dropped,
    "records are inserted": inserted,
    "two records are swapped": swapped,
    "the end is cut off": cut,
    "a segment is rewritten whole, with valid hashes": rewritten,
    "the tail after a checkpoint is replaced": tail_replaced,
}


def columns_altered(table: pa.Table, draw: random.Random) -> pa.Table:
    return _with_column(table, "decision", ["decline"] * table.num_rows)


def figures_altered(table: pa.Table, draw: random.Random) -> pa.Table:
    return _with_column(table, "feature_b", [draw.random() for _ in range(table.num_rows)])


def made_older(table: pa.Table, draw: random.Random) -> pa.Table:
    return _with_column(table, "time", [datetime(2000, 1, 1, tzinfo=UTC)] * table.num_rows)


def model_altered(table: pa.Table, draw: random.Random) -> pa.Table:
    name = draw.choice(["model", "model_version", "digest", "policy", "explained_by"])
    return _with_column(table, name, ["another"] * table.num_rows)


def _with_column(table: pa.Table, name: str, values: Sequence[object]) -> pa.Table:
    at = table.schema.get_field_index(name)
    return table.set_column(at, table.schema.field(at), pa.array(values, table.schema.field(at).type))


COLUMNS: dict[str, Callable[[pa.Table, random.Random], pa.Table]] = {
    "decisions are altered beside the kept lines": columns_altered,
    "figures are altered beside the kept lines": figures_altered,
    "times are altered beside the kept lines": made_older,
    "columns name another model beside the kept lines": model_altered,
}
"""Changes of the columns of a closed segment that keeps every line as it was signed."""
ALL = (*KINDS, *COLUMNS)


def beside_lines(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """Change the columns of a closed segment, and keep the bytes of every line beside them."""
    lines = list(closed_lines(path))
    write_segment(_with_column(change(read_whole(path)), "line", lines), path)


@dataclass(frozen=True)
class Planted:
    """A change: the segment, and the first record that differs."""

    segment: str
    record: int


def plant(path: Path, kind: str, draw: random.Random) -> Planted:
    """Change a segment as an insider can who has all of our code, and not the key."""
    before = list(stored_records(path))
    if kind in COLUMNS:
        beside_lines(path, lambda table: COLUMNS[kind](table, draw))
        return Planted(path.stem, 0)
    after = KINDS[kind](before, draw)
    if path.suffix == CLOSED_SUFFIX:
        _write_closed(path, after)
    else:
        path.write_bytes(b"\n".join([first_line(path)[:-1], *after]) + b"\n")
    if kind.startswith("a segment is rewritten"):
        _chain(path, MerkleTree.of([leaf_hash(line) for line in after]).root().hex())
        (path.parent.parent / "seals" / path.stem).unlink()
    stored = list(stored_records(path))
    differing = (at for at, (one, other) in enumerate(zip(before, stored, strict=False)) if one != other)
    return Planted(path.stem, next(differing, min(len(before), len(stored))))


def _write_closed(path: Path, lines: Lines) -> None:
    header = Header.parse(closed_header(path))
    values = [decoded(line) for line in lines]
    table = decision_table(header, [one for one in values if one is not None])
    write_segment(with_lines(header, table, lines), path)


def _chain(path: Path, root: str) -> None:
    """Let the next open segment name the new root."""
    following = path.with_name(f"{path.stem[:-1]}{int(path.stem[-1]) + 1}{path.suffix}")
    if following.exists() and path.suffix != CLOSED_SUFFIX:
        header, rest = following.read_bytes().split(b"\n", 1)
        values = json.loads(header)
        values["previous"]["root"] = root
        following.write_bytes(json.dumps(values, separators=(",", ":")).encode() + b"\n" + rest)


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Signed]:
    """The same log, open and closed."""
    signed = signed_log(tmp_path_factory.mktemp("open"), records=300, every=EVERY)
    other = signed.copy(tmp_path_factory.mktemp("closed") / "log")
    closed(other)
    assert [*closed_lines(Listing.of(other.log).closed[0])] == [*stored_records(Listing.of(signed.log).open[0])]
    return {False: signed, True: other}


@pytest.mark.slow
def test_every_planted_change_is_found_and_its_record_is_named(logs: dict[bool, Signed], tmp_path: Path) -> None:
    draw = random.Random(20261128)
    found: Counter[str] = Counter()
    for number in range(CHANGES):
        kind = ALL[number % len(ALL)]
        # Parquet has no bits of lines, and open segments have no columns
        is_closed = kind in COLUMNS or (kind != "a bit is flipped" and number // len(ALL) % 2 == 1)
        signed = logs[is_closed].copy(tmp_path / "copy")
        paths = Listing.of(signed.log).closed if is_closed else Listing.of(signed.log).open
        planted = plant(draw.choice(paths), kind, draw)
        findings = seen(signed).findings
        named = [(one.segment, one.record) for one in findings]
        assert (planted.segment, planted.record) in named, (kind, is_closed, planted, findings)
        found[f"{kind}, {'closed' if is_closed else 'open'}"] += 1
        shutil.rmtree(signed.folder)
    assert found.total() == CHANGES
    if RESULTS:
        counts = {
            "planted": CHANGES,
            "found": found.total(),
            "located": found.total(),
            "kinds": dict(sorted(found.items())),
        }
        add_result(Path(RESULTS), "make records", "changes", counts)


def seen(signed: Signed) -> Verification:
    return verify_log(signed.log, Vault(str(signed.vault)), [public_key(signed.keys.public)])


@pytest.mark.parametrize("kind", COLUMNS)
def test_columns_that_the_kept_lines_do_not_give_are_found(logs: dict[bool, Signed], tmp_path: Path, kind: str) -> None:
    signed = logs[True].copy(tmp_path / "copy")
    planted = plant(Listing.of(signed.log).closed[1], kind, random.Random(1))
    assert [(one.segment, one.record) for one in seen(signed).findings] == [(planted.segment, planted.record)]


@pytest.mark.parametrize("name", [b"model", b"version", b"digest"])
def test_metadata_that_names_another_model_is_found(logs: dict[bool, Signed], tmp_path: Path, name: bytes) -> None:
    signed = logs[True].copy(tmp_path / "copy")
    path = Listing.of(signed.log).closed[1]
    table = read_whole(path)
    write_segment(table.replace_schema_metadata({**table.schema.metadata, name: b"another"}), path)
    said = f"{path.stem}: it cannot be read: its metadata names another model than its header"
    assert [str(one) for one in seen(signed).findings] == [said]


def test_lines_that_are_kept_beside_their_own_columns_prove(logs: dict[bool, Signed], tmp_path: Path) -> None:
    signed = logs[True].copy(tmp_path / "copy")
    for path in Listing.of(signed.log).closed:
        beside_lines(path, lambda table: table)
    assert seen(signed) == seen(logs[True])


def test_a_segment_that_was_made_older_is_not_signed_as_expired(logs: dict[bool, Signed], tmp_path: Path) -> None:
    signed = logs[True].copy(tmp_path / "copy")
    path = Listing.of(signed.log).closed[0]
    beside_lines(path, lambda table: made_older(table, random.Random(1)))
    done = closed_at_first(signed)
    assert (done.expired, len(done.aside)) == (0, 1)
    assert "it is not what was signed" in done.aside[0]
    assert [one.what.split(",")[0] for one in seen(signed).findings] == ["the segment is missing"]


def test_what_is_passed_for_erased_long_ago_is_not_signed_as_expired(logs: dict[bool, Signed], tmp_path: Path) -> None:
    signed = logs[True].copy(tmp_path / "copy")
    path = Listing.of(signed.log).closed[0]
    leaves = dict(enumerate(map(leaf_hash, closed_lines(path))))
    write_segment(with_erased(read_whole(path).slice(0, 0), leaves, datetime(2000, 1, 1, tzinfo=UTC)), path)
    assert closed_at_first(signed).expired == 0
    (finding,) = seen(signed).findings
    assert (finding.segment, finding.record) == (path.stem, 0)
    assert finding.what.startswith("was destroyed, and no signed statement")


def closed_at_first(signed: Signed) -> Closed:
    """Close a log shortly after its first decision."""
    notary = Notary.of(signed.keys.environment(signed.vault), signed.log)
    return close(signed.log, SETTINGS, datetime.fromtimestamp(FIRST, UTC) + timedelta(hours=1), notary)
