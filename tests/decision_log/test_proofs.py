"""Proofs: whatever is changed in a log is found and named, and single records are proven to others."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from decision_log.cli import COMMANDS, prove, verify
from decision_log.closing import close
from decision_log.erasure import erase as erase_from
from decision_log.errors import CheckpointError
from decision_log.format import ClientHash
from decision_log.notary import Notary, Vault
from decision_log.proofs import Verification, verify_log
from decision_log.segments import Listing
from jobs.commandline import run_command
from scoring.store import public_key
from tests.decision_log.logs import FIRST, WORKER, KeyPair, Scribe, Signed, request_ids, resigned, rewrite, signed_log
from tests.monitoring.test_closing import LATER, SETTINGS
from tests.server import ROOT


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Signed:
    """Three segments of one worker, with a checkpoint every 20 records, that nobody has touched."""
    return signed_log(tmp_path_factory.mktemp("original"), records=300, every=20)


@pytest.fixture
def signed(original: Signed, tmp_path: Path) -> Signed:
    """A copy that may be touched."""
    return original.copy(tmp_path / "copy")


def found(signed: Signed) -> Verification:
    return verify_log(signed.log, Vault(str(signed.vault)), [public_key(signed.keys.public)])


def closed(signed: Signed) -> None:
    close(signed.log, SETTINGS, LATER)
    assert Listing.of(signed.log).open == ()


@pytest.mark.parametrize("is_closed", [False, True])
def test_what_nobody_has_touched_is_well_and_covered(signed: Signed, is_closed: bool) -> None:
    if is_closed:
        closed(signed)
    assert found(signed) == Verification(segments=3, records=300, covered=300)


def changed(lines: list[bytes], at: int) -> list[bytes]:
    return [*lines[:at], lines[at].replace(b'"prediction":0', b'"prediction":1'), *lines[at + 1 :]]


def dropped(lines: list[bytes], at: int) -> list[bytes]:
    return [*lines[:at], *lines[at + 1 :]]


def inserted(lines: list[bytes], at: int) -> list[bytes]:
    return [*lines[:at], lines[0].replace(b'"request_id":"', b'"request_id":"x'), *lines[at:]]


def swapped(lines: list[bytes], at: int) -> list[bytes]:
    return [*lines[:at], lines[at + 3], *lines[at + 1 : at + 3], lines[at], *lines[at + 4 :]]


def cut(lines: list[bytes], at: int) -> list[bytes]:
    return lines[:at]


CHANGES = [
    (changed, 17, "record 17 was changed (now there: request request-17)"),
    (dropped, 17, "record 17 was dropped (now there: request request-18)"),
    (inserted, 17, "record 17 was inserted (now there: request xrequest-0)"),
    (swapped, 17, "record 17 was swapped with record 20 (now there: request request-20)"),
    (cut, 99, "record 99 and all others up to {last} were cut off"),
    (cut, -1, "record {last} was cut off"),
    (cut, 0, "record 0 and all others up to {last} were cut off"),
]


@pytest.mark.parametrize("is_closed", [False, True])
@pytest.mark.parametrize(("change", "at", "said"), CHANGES)
def test_the_first_record_that_differs_is_named(
    signed: Signed, change: Callable[[list[bytes], int], list[bytes]], at: int, said: str, is_closed: bool
) -> None:
    path = Listing.of(signed.log).open[0]
    last = len(request_ids(path)) - 1
    rewrite(path, lambda lines: change(lines, at))
    if is_closed and at:
        closed(signed)
    assert [str(one) for one in found(signed).findings] == [f"{path.stem}: {said.format(last=last)}"]


def test_without_the_hashes_the_checkpoints_around_it_are_named(signed: Signed) -> None:
    (signed.vault / f"{WORKER}.hashes").unlink()
    path = Listing.of(signed.log).open[0]
    rewrite(path, lambda lines: changed(lines, 17))
    (finding,) = found(signed).findings
    assert str(finding) == (
        f"{path.stem}: record 0 or one of the others up to 19 was changed, dropped, inserted or swapped"
        " (now there: request request-0)"
    )


def test_hashes_that_were_changed_too_are_not_believed(signed: Signed) -> None:
    kept = signed.vault / f"{WORKER}.hashes"
    kept.write_bytes(kept.read_bytes().replace(b"A", b"B"))
    path = Listing.of(signed.log).open[0]
    rewrite(path, lambda lines: changed(lines, 17))
    (finding,) = found(signed).findings
    assert finding.record == 0
    assert finding.what.startswith("or one of the others up to 19 was changed")


@pytest.mark.parametrize("is_closed", [False, True])
def test_a_segment_that_is_gone_is_missing(signed: Signed, is_closed: bool) -> None:
    sizes = [len(request_ids(path)) for path in Listing.of(signed.log).open]
    if is_closed:
        closed(signed)
    path = (Listing.of(signed.log).open or Listing.of(signed.log).closed)[1]
    path.unlink()
    (finding,) = found(signed).findings
    assert str(finding) == f"{path.stem}: the segment is missing, with {sizes[1]} records"


def test_a_segment_that_is_gone_with_its_checkpoints_is_named_by_the_next_one(signed: Signed) -> None:
    path = Listing.of(signed.log).open[0]
    size = len(request_ids(path))
    path.unlink()
    kept = signed.vault / f"{WORKER}.checkpoints"
    notes = kept.read_text().split("\n\n\n")
    kept.write_text("\n\n\n".join(note for note in notes if f"/{path.stem}\n" not in note))
    (finding,) = found(signed).findings
    assert str(finding) == f"{path.stem}: the segment is missing, with {size} records"


def test_a_segment_that_is_rewritten_whole_with_valid_hashes_is_found(signed: Signed) -> None:
    path = Listing.of(signed.log).open[0]
    with Scribe(signed.folder / "forged", signed.keys.other, None).ended() as forger:
        forger.write(126)
    (forged,) = Listing.of(signed.folder / "forged").open
    path.write_bytes(forged.read_bytes())
    (finding,) = found(signed).findings
    assert (finding.segment, finding.record) == (path.stem, 0)


def test_a_header_that_is_changed_is_found(signed: Signed) -> None:
    path = Listing.of(signed.log).open[1]
    path.write_bytes(path.read_bytes().replace(b'"format":2', b'"format": 2', 1))
    assert [str(one) for one in found(signed).findings] == [f"{path.stem}: its header was changed"]


def test_a_segment_cannot_pass_for_one_of_the_first_format(signed: Signed) -> None:
    from tests.monitoring.test_closing import first_format

    path = Listing.of(signed.log).open[0]
    first_format(path)
    assert [str(one) for one in found(signed).findings] == [f"{path.stem}: its header was changed"]


def test_records_after_the_end_are_found(signed: Signed) -> None:
    path = Listing.of(signed.log).open[-1]
    requests = request_ids(path)
    rewrite(path, lambda lines: [*lines, lines[0]])
    (finding,) = found(signed).findings
    assert str(finding) == (
        f"{path.stem}: record {len(requests)} was added after the segment had ended (now there: request {requests[0]})"
    )


def test_a_checkpoint_of_another_key_is_wrong(signed: Signed) -> None:
    resigned(signed)
    path = Listing.of(signed.log).open[0]
    findings = found(signed).findings
    assert {str(one) for one in findings} == {
        f"{WORKER}: a checkpoint of {path.stem[:-1]}{number} is not signed by a key that was given"
        for number in (0, 1, 2, 4)  # the last is the one that the worker would have begun next
    }


def test_a_log_that_was_signed_by_one_key_after_another_is_verified_with_both(tmp_path: Path) -> None:
    log, vault = tmp_path / "log", tmp_path / "vault"
    old, new = KeyPair(tmp_path / "old"), KeyPair(tmp_path / "new")
    for pid, keys in ((42, old), (43, new)):
        with Scribe(log, keys, vault, worker=replace(WORKER, pid=pid)).ended() as scribe:
            scribe.write(3)
    both = [public_key(new.public), public_key(old.public)]
    assert verify_log(log, Vault(str(vault)), both) == Verification(segments=2, records=6, covered=6)
    assert verify_log(log, Vault(str(vault)), both[:1]).findings


def test_what_has_no_checkpoint_yet_is_told_and_not_wrong(tmp_path: Path) -> None:
    scribe = Scribe(tmp_path / "log", KeyPair(tmp_path / "keys"), tmp_path / "vault")
    scribe.write(5)
    scribe.attest()
    scribe.write(3)
    seen = verify_log(
        tmp_path / "log", Vault(str(tmp_path / "vault")), [public_key(tmp_path / "keys/record-public.pem")]
    )
    segment = WORKER.segment(tmp_path, 0).stem
    assert (seen.records, seen.covered, seen.findings) == (8, 5, [])
    assert [str(one) for one in seen.remarks] == [f"{segment}: the last 3 records are not yet covered by a checkpoint"]
    scribe.close()


def test_checkpoints_in_an_object_store_prove_the_same(tmp_path: Path) -> None:
    keys, address = KeyPair(tmp_path / "keys"), "memory://bucket/proofs"
    scribe = Scribe(tmp_path / "log", keys, address)
    for _ in range(3):
        scribe.write(5)
        scribe.attest()
    scribe.close()
    path = Listing.of(tmp_path / "log").open[0]
    assert verify_log(tmp_path / "log", Vault(address), [public_key(keys.public)]) == Verification(1, 15, 15)
    rewrite(path, lambda lines: changed(lines, 7))
    (finding,) = verify_log(tmp_path / "log", Vault(address), [public_key(keys.public)]).findings
    assert (finding.segment, finding.record) == (path.stem, 7)
    with pytest.raises(CheckpointError, match=r"nothing-here"):
        verify_log(tmp_path / "log", Vault("memory://bucket/nothing-here"), [public_key(keys.public)])


def test_a_recovered_segment_is_told(tmp_path: Path) -> None:
    keys = KeyPair(tmp_path / "keys")
    scribe = Scribe(tmp_path / "log", keys, tmp_path / "vault")
    scribe.write(5)
    scribe.die()
    Scribe(tmp_path / "log", keys, tmp_path / "vault", worker=replace(WORKER, pid=43)).close()
    seen = verify_log(tmp_path / "log", Vault(str(tmp_path / "vault")), [public_key(keys.public)])
    assert (seen.records, seen.covered, seen.findings) == (5, 5, [])
    assert [one.what for one in seen.remarks] == ["its worker was killed, and its end was signed afterwards"]


def test_a_tail_that_is_replaced_before_it_is_recovered_contradicts_the_checkpoint_before(tmp_path: Path) -> None:
    keys = KeyPair(tmp_path / "keys")
    scribe = Scribe(tmp_path / "log", keys, tmp_path / "vault")
    scribe.write(5)
    scribe.attest()
    scribe.die()
    (path,) = Listing.of(tmp_path / "log").open
    rewrite(path, lambda lines: [*lines[:3], *(line.replace(b"approve", b"decline") for line in lines[3:])])
    Scribe(tmp_path / "log", keys, tmp_path / "vault", worker=replace(WORKER, pid=43)).close()
    seen = verify_log(tmp_path / "log", Vault(str(tmp_path / "vault")), [public_key(keys.public)])
    assert [(one.segment, one.record) for one in seen.findings] == [(path.stem, 3)]


def test_what_expired_is_told_and_what_stays_still_proves(signed: Signed) -> None:
    notary = Notary.of(signed.keys.environment(signed.vault), signed.log)
    first, *_ = Listing.of(signed.log).open
    size = len(request_ids(first))
    # the lines are of 2026-02-02, a second apart: the first segment is a moment older than the others
    close(signed.log, SETTINGS, LATER, notary)
    end = datetime.fromtimestamp(FIRST + size - 1, UTC)
    now = end + timedelta(days=SETTINGS.retention_days, seconds=0.5)
    assert close(signed.log, SETTINGS, now, notary).expired == 1
    assert found(signed) == Verification(segments=2, records=300 - size, covered=300 - size, expired=size)
    close(signed.log, SETTINGS, now + timedelta(days=1), notary)
    assert found(signed) == Verification(segments=0, records=0, covered=0, expired=300)


def test_a_segment_that_is_removed_too_early_is_missing(signed: Signed) -> None:
    notary = Notary.of(signed.keys.environment(signed.vault), signed.log)
    close(signed.log, SETTINGS, LATER, notary)
    Listing.of(signed.log).closed[0].unlink()
    assert [one.what.split(",")[0] for one in found(signed).findings] == ["the segment is missing"]


def test_what_was_changed_before_it_expired_is_not_forgiven(signed: Signed) -> None:
    path = Listing.of(signed.log).open[0]
    rewrite(path, lambda lines: changed(lines, 17))
    notary = Notary.of(signed.keys.environment(signed.vault), signed.log)
    close(signed.log, SETTINGS, LATER, notary)
    close(signed.log, SETTINGS, LATER + timedelta(days=1000), notary)
    assert [one.segment for one in found(signed).findings] == [path.stem]


@pytest.mark.slow
def test_a_log_is_well_while_it_is_written_closed_and_erased(tmp_path: Path) -> None:
    keys, log, vault = KeyPair(tmp_path / "keys"), tmp_path / "log", Vault(str(tmp_path / "vault"))
    notary = Notary.of(keys.environment(vault.address), log)
    chosen = SETTINGS.model_copy(update={"retention_days": 36_500})
    scribe = Scribe(log, keys, vault.address)
    scribe.write(1)
    scribe.attest()
    writing, done = threading.Event(), list[Verification]()

    def work() -> None:
        for turn in range(40):
            scribe.write(30)
            scribe.attest()
            close(log, chosen, LATER, notary)
            if turn % 10 == 9:
                erase_from(log, ClientHash(b"k" * 32).digest(f"client-{turn // 10}"), notary, LATER)
        writing.set()

    worker = threading.Thread(target=work)
    worker.start()
    while not writing.is_set():
        done.append(verify_log(log, vault, [public_key(keys.public)]))
    worker.join()
    scribe.close()
    assert [one.findings for one in done] == [[]] * len(done)
    assert verify_log(log, vault, [public_key(keys.public)]).covered == 1201


def arguments(signed: Signed) -> list[str]:
    return ["--log", str(signed.log), "--checkpoints", str(signed.vault), "--key", str(signed.keys.public)]


def test_the_command_ends_with_0_where_all_is_well(signed: Signed, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(verify, arguments(signed), program="verify") == 0
    assert capsys.readouterr().out == "300 records in 3 segments; checkpoints cover 300 of them; 0 things are wrong\n"


def test_the_command_ends_with_3_and_names_the_record(signed: Signed, capsys: pytest.CaptureFixture[str]) -> None:
    path = Listing.of(signed.log).open[2]
    requests = request_ids(path)
    rewrite(path, lambda lines: dropped(lines, 5))
    assert run_command(verify, arguments(signed), program="verify") == 3
    first, last = capsys.readouterr().out.splitlines()
    assert first == f"wrong: {path.stem}: record 5 was dropped (now there: request {requests[6]})"
    assert last == f"299 records in 3 segments; checkpoints cover {300 - len(requests)} of them; 1 things are wrong"


@pytest.mark.parametrize("missing", ["log", "vault", "keys"])
def test_what_is_not_there_is_an_error_of_one_line(
    signed: Signed, missing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(signed.folder / missing)
    assert run_command(verify, arguments(signed), program="verify") == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"error: {signed.folder / missing}")


def test_the_program_offers_the_commands() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "scoring", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert [line.split()[0] for line in done.stdout.split("Commands:\n")[1].splitlines()] == [
        *("batch", "export", "keys", *(command.name for command in COMMANDS)),
    ]


def checked(proof: dict[str, object], signed: Signed) -> tuple[int, str]:
    """What the stand-alone script says of a proof, in a process that knows nothing of the project."""
    (signed.folder / "proof.json").write_text(json.dumps(proof))
    script = shutil.copy(ROOT / "examples" / "verify_proof.py", signed.folder)
    done = subprocess.run(
        [sys.executable, "-I", script, "proof.json", str(signed.keys.public)],
        cwd=signed.folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout.strip()


@pytest.mark.slow
@pytest.mark.parametrize("is_closed", [False, True])
def test_a_record_is_proven_to_somebody_who_has_none_of_the_code(signed: Signed, is_closed: bool) -> None:
    requests = [request_ids(path) for path in Listing.of(signed.log).open]
    places = {request: number for segment in requests for number, request in enumerate(segment)}
    if is_closed:
        closed(signed)
    output = signed.folder / "proof"
    words = ["request-130", *arguments(signed), "--output", str(output)]
    assert run_command(prove, words, program="prove") == 0
    proof = json.loads(output.read_text())
    assert json.loads(proof["line"])["request_id"] == "request-130"
    assert proof["index"] == places["request-130"]
    assert checked(proof, signed) == (0, "the record is what was signed")
    not_signed = (1, "the checkpoint is not signed by this key")
    other = (1, "the record is not the one that was signed")
    outside = (1, "the record is not one of those that the checkpoint covers")
    assert checked({**proof, "line": proof["line"].replace("approve", "decline")}, signed) == other
    assert checked({**proof, "index": 5}, signed) == other
    assert checked({**proof, "index": 1000}, signed) == outside
    assert checked({**proof, "path": proof["path"][:-1]}, signed) == other
    assert checked({**proof, "path": ["00" * 32, *proof["path"][1:]]}, signed) == other
    assert (
        checked({**proof, "checkpoint": proof["checkpoint"].replace("state final", "state ended")}, signed)
        == not_signed
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["request-1000"], "error: there is no record of this request\n"),
        (["request-3", "--index", "1"], "error: there is no record of this request\n"),
    ],
)
def test_what_cannot_be_proven_is_said(
    signed: Signed, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(prove, [*words, *arguments(signed)], program="prove") == 1
    assert capsys.readouterr().err == said


def test_a_request_of_several_records_needs_an_index(signed: Signed, capsys: pytest.CaptureFixture[str]) -> None:
    path = Listing.of(signed.log).open[0]
    rewrite(path, lambda lines: [lines[0], lines[0].replace(b'"index":0', b'"index":1'), *lines[2:]])
    assert run_command(prove, ["request-0", *arguments(signed)], program="prove") == 1
    assert capsys.readouterr().err == "error: 2 records are of this request: name one with --index\n"


def test_a_record_that_was_changed_is_not_proven(signed: Signed, capsys: pytest.CaptureFixture[str]) -> None:
    path = Listing.of(signed.log).open[0]
    rewrite(path, lambda lines: changed(lines, 3))
    assert run_command(prove, ["request-3", *arguments(signed)], program="prove") == 1
    assert capsys.readouterr().err == f"error: {path.stem}: no checkpoint covers record 3 as it is stored\n"
