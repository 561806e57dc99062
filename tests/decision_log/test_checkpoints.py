"""Checkpoints: signed notes of what a segment holds, kept where the writer cannot change them."""

from __future__ import annotations

import base64
import hashlib
import logging
import os
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import fsspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from decision_log.checkpoints import Checkpoint, MerkleTree, SegmentState, leaf_hash, notes_in, verified
from decision_log.closing import close
from decision_log.errors import CheckpointError
from decision_log.format import Header, SegmentBefore
from decision_log.notary import Notary, Vault
from decision_log.proofs import verify_log
from decision_log.segments import Listing
from monitoring.recorder import check_recording
from scoring.store import public_key
from tests.decision_log.logs import WORKER, KeyPair, Scribe
from tests.monitoring.recording import KEY, settings
from tests.monitoring.test_closing import LATER, SETTINGS

KEY_OF_ZEROS = Ed25519PrivateKey.from_private_bytes(bytes(32))
CHECKPOINT = Checkpoint(
    "20260101T000000000000Z-host-1-42-1", 2, bytes(range(32)), datetime(2026, 1, 1, 12, tzinfo=UTC), bytes(32),
    SegmentBefore("20260101T000000000000Z-host-1-42-0", 7, "ab" * 32), SegmentState.GROWING,
)  # fmt: skip


@pytest.fixture
def keys(tmp_path: Path) -> KeyPair:
    return KeyPair(tmp_path / "keys")


def kept(vault: Path, keys: KeyPair, worker: object = WORKER) -> list[Checkpoint]:
    """The checkpoints of a worker, in order."""
    key = [public_key(keys.public)]
    return [verified(note, key) for note in notes_in(Vault(str(vault)).lines(f"{worker}.checkpoints"))]


def test_a_checkpoint_is_a_signed_note_in_the_form_of_c2sp() -> None:
    text, signature = CHECKPOINT.signed(KEY_OF_ZEROS).decode().split("\n\n")
    origin = "credit-scoring-decision-log/20260101T000000000000Z-host-1-42-1"
    assert text.splitlines() == [
        origin,
        "2",
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
        "time 2026-01-01T12:00:00.000000Z",
        "header AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        f"previous 20260101T000000000000Z-host-1-42-0 7 {'ab' * 32}",
        "state growing",
    ]
    dash, name, encoded = signature.rstrip("\n").split(" ")
    assert (dash, name) == ("\N{EM DASH}", origin)
    public = KEY_OF_ZEROS.public_key()
    key_id = hashlib.sha256(origin.encode() + b"\n\x01" + public.public_bytes_raw()).digest()[:4]
    assert base64.b64decode(encoded)[:4] == key_id
    public.verify(base64.b64decode(encoded)[4:], f"{text}\n".encode())


@pytest.mark.parametrize("checkpoint", [CHECKPOINT, replace(CHECKPOINT, previous=None, state=SegmentState.FINAL)])
def test_a_checkpoint_is_read_as_it_was_signed(checkpoint: Checkpoint) -> None:
    assert verified(checkpoint.signed(KEY_OF_ZEROS), [KEY_OF_ZEROS.public_key()]) == checkpoint


def test_another_text_or_key_is_not_trusted() -> None:
    note = CHECKPOINT.signed(KEY_OF_ZEROS)
    other = Ed25519PrivateKey.from_private_bytes(bytes([1] * 32))
    for changed, key in ((note.replace(b"\n2\n", b"\n3\n"), KEY_OF_ZEROS), (note, other)):
        with pytest.raises(CheckpointError, match=r"^a checkpoint of \S+ is not signed by a key that was given$"):
            verified(changed, [key.public_key()])


@pytest.mark.parametrize("torn", [b"", b"x", b"credit-scoring-decision-log/a\n1", None])
def test_a_note_is_found_after_whatever_a_crash_has_left(tmp_path: Path, torn: bytes | None) -> None:
    note = CHECKPOINT.signed(KEY_OF_ZEROS)
    (tmp_path / "w.checkpoints").write_bytes(note[:-90] if torn is None else torn)
    vault = Vault(str(tmp_path))
    for _ in range(2):
        vault.append("w.checkpoints", note)
    assert list(notes_in(vault.lines("w.checkpoints")))[-2:] == [note, note]


def test_an_address_of_fsspec_keeps_each_part_as_an_object(keys: KeyPair) -> None:
    vault = Vault("memory://bucket/checkpoints")
    notes = [replace(CHECKPOINT, size=size).signed(KEY_OF_ZEROS) for size in (1, 2, 3)]
    for note in notes:
        vault.append("w.checkpoints", note)
    assert vault.names() == ["w.checkpoints"]
    assert list(notes_in(vault.lines("w.checkpoints"))) == notes
    assert (vault.holds("w.checkpoints"), vault.holds("other.checkpoints")) == (True, False)
    assert len(fsspec.filesystem("memory").ls("/bucket/checkpoints/w.checkpoints")) == 3


def test_a_worker_signs_what_is_new_and_the_end_of_each_segment(tmp_path: Path, keys: KeyPair) -> None:
    scribe = Scribe(tmp_path / "log", keys, tmp_path / "vault")
    scribe.write(3)
    scribe.attest()
    scribe.attest()
    scribe.write(2)
    scribe.attest()
    scribe.close()
    (path,) = Listing.of(tmp_path / "log").open
    header, *lines = path.read_bytes().splitlines()
    leaves = [leaf_hash(line) for line in lines]
    begun, *found, ended = kept(tmp_path / "vault", keys)
    assert (begun.segment, begun.size, begun.state) == (path.stem, 0, SegmentState.GROWING)
    # A worker that ends in order says so: no segment after its last one is its own.
    assert (ended.segment, ended.size, ended.state) == (f"{WORKER}-2", 0, SegmentState.FINAL)
    assert [(one.size, str(one.state)) for one in found] == [(3, "growing"), (5, "growing"), (5, "final")]
    assert [one.root for one in found] == [MerkleTree.of(leaves[: one.size]).root() for one in found]
    assert {one.header for one in found} == {hashlib.sha256(header).digest()}
    hashes = (tmp_path / "vault" / f"{WORKER}.hashes").read_text().split()
    assert hashes == [
        path.stem, "0", base64.b64encode(b"".join(leaves[:3])).decode(),
        path.stem, "3", base64.b64encode(b"".join(leaves[3:])).decode(),
    ]  # fmt: skip
    (seal,) = (tmp_path / "log" / "seals").iterdir()
    assert seal.name == path.stem
    assert verified(seal.read_bytes(), [public_key(keys.public)]) == found[-1]


def test_a_checkpoint_of_the_next_segment_names_the_one_before(tmp_path: Path, keys: KeyPair) -> None:
    scribe = Scribe(tmp_path / "log", keys, tmp_path / "vault")
    scribe.write(250)
    scribe.close()
    final = [one for one in kept(tmp_path / "vault", keys) if one.state is SegmentState.FINAL]
    first, second, *_ = found = [one for one in final if one.size]
    assert [one.segment for one in found] == [path.stem for path in Listing.of(tmp_path / "log").open]
    assert first.previous is None
    assert second.previous == SegmentBefore(first.segment, first.size, first.root.hex())


def test_each_checkpoint_is_a_line_of_the_services_log(
    tmp_path: Path, keys: KeyPair, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "bentoml.credit_scoring")
    scribe = Scribe(tmp_path / "log", keys, None)
    scribe.write(2)
    scribe.attest()
    scribe.close()
    said = [record.message.split() for record in caplog.records if record.message.startswith("checkpoint ")]
    assert [(line[1].startswith(str(WORKER)), line[2], line[4]) for line in said] == [
        (True, "0", "growing"),
        (True, "2", "growing"),
        (True, "2", "final"),
        (True, "0", "final"),
    ]


def test_what_cannot_be_kept_is_counted_said_once_and_kept_later(
    tmp_path: Path, keys: KeyPair, caplog: pytest.LogCaptureFixture
) -> None:
    vault = tmp_path / "vault"
    scribe = Scribe(tmp_path / "log", keys, vault)
    shutil.rmtree(vault)
    vault.write_text("in the way")
    for _ in range(3):
        scribe.write(2)
        with scribe.checkpoints.heartbeat.guarded():
            scribe.attest()
    assert scribe.failures == 3
    said = [record.message for record in caplog.records if "checkpoints of the decision log" in record.message]
    assert said == [f"checkpoints of the decision log cannot be kept: {vault}: File exists"]
    vault.unlink()
    scribe.attest()
    scribe.close()
    assert [(one.size, str(one.state)) for one in kept(vault, keys)] == [(6, "growing"), (6, "final"), (0, "final")]
    assert (vault / f"{WORKER}.hashes").read_text().split()[1] == "0"


@pytest.mark.parametrize("torn", [b"", b'{"salt":"00', bytes(9_000), b'{"salt":"00' + bytes(9_000)])
def test_a_segment_of_a_killed_worker_is_sealed_by_the_next_one(tmp_path: Path, keys: KeyPair, torn: bytes) -> None:
    scribe = Scribe(tmp_path / "log", keys, tmp_path / "vault")
    scribe.write(3)
    scribe.attest()
    scribe.write(2)
    scribe.die()
    (path,) = Listing.of(tmp_path / "log").open
    whole = path.read_bytes()
    path.write_bytes(whole + torn)
    Scribe(tmp_path / "log", keys, tmp_path / "vault", worker=replace(WORKER, pid=43)).close()
    assert path.read_bytes() == whole
    assert states(tmp_path / "vault", keys) == [(0, "growing"), (3, "growing"), (5, "recovered")]


def test_a_segment_that_its_worker_had_just_begun_is_sealed_too(tmp_path: Path, keys: KeyPair) -> None:
    scribe = Scribe(tmp_path / "log", keys, tmp_path / "vault")
    scribe.write(2)
    scribe.die()
    Scribe(tmp_path / "log", keys, tmp_path / "vault", worker=replace(WORKER, pid=43)).close()
    assert states(tmp_path / "vault", keys) == [(0, "growing"), (2, "recovered")]


@pytest.mark.parametrize("sealed_by", ["worker", "close"])
@pytest.mark.parametrize("ended", [True, False], ids=["after a worker that has ended", "of no worker at all"])
def test_a_segment_that_was_put_there_is_not_signed(
    tmp_path: Path, keys: KeyPair, caplog: pytest.LogCaptureFixture, sealed_by: str, *, ended: bool
) -> None:
    log, vault = tmp_path / "log", tmp_path / "vault"
    scribe = Scribe(log, keys, vault)
    scribe.write(2)
    scribe.close()
    (last,) = Listing.of(log).open
    header, *lines = last.read_bytes().splitlines(keepends=True)
    previous = SegmentBefore(last.stem, 2, MerkleTree.of([leaf_hash(line[:-1]) for line in lines]).root().hex())
    worker = WORKER if ended else replace(WORKER, pid=7)
    forged = worker.segment(log, 1)
    forged.write_bytes(Header.parse(header).after(previous if ended else None).line() + b"".join(lines))
    if sealed_by == "worker":
        Scribe(log, keys, vault, worker=replace(WORKER, pid=43)).close()
    else:
        close(log, SETTINGS, LATER, Notary.of(keys.environment(vault), log))
    said = [record.message for record in caplog.records if "is not signed" in record.message]
    assert said == [f"{forged}: no checkpoint says that a worker began it, so it is not signed"]
    assert not (log / "seals" / forged.stem).exists()
    found = verify_log(log, Vault(str(vault)), [public_key(keys.public)])
    assert (found.covered, [str(one) for one in found.findings]) == (
        2, [f"{forged.stem}: no worker has begun it: it was put there"],
    )  # fmt: skip


def states(vault: Path, keys: KeyPair) -> list[tuple[int, str]]:
    """Size and state of each checkpoint of the first worker."""
    return [(one.size, str(one.state)) for one in kept(vault, keys)]


def test_close_seals_what_nobody_has_sealed(tmp_path: Path, keys: KeyPair) -> None:
    scribe = Scribe(tmp_path / "log", keys, tmp_path / "vault")
    scribe.write(2)
    scribe.die()
    close(tmp_path / "log", SETTINGS, LATER, Notary.of(keys.environment(tmp_path / "vault"), tmp_path / "log"))
    assert states(tmp_path / "vault", keys) == [(0, "growing"), (2, "recovered")]
    assert len(Listing.of(tmp_path / "log").closed) == 1


def test_a_segment_that_has_its_last_checkpoint_gets_no_other(tmp_path: Path, keys: KeyPair) -> None:
    scribe = Scribe(tmp_path / "log", keys, tmp_path / "vault")
    scribe.write(2)
    scribe.close()
    close(tmp_path / "log", SETTINGS, LATER, Notary.of(keys.environment(tmp_path / "vault"), tmp_path / "log"))
    assert states(tmp_path / "vault", keys) == [(0, "growing"), (2, "final"), (0, "final")]


def test_without_a_key_there_are_no_checkpoints_and_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = tmp_path / "log"
    check_recording(settings().recording, {"DECISION_LOG_DIR": str(log), "DECISION_LOG_KEY": KEY})
    said = [record.message for record in caplog.records if "checkpoint" in record.message]
    assert said == ["the decision log has no checkpoints: RECORD_KEY_FILE names no key"]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("RECORD_KEY_FILE", "{folder}/missing.pem", r"^RECORD_KEY_FILE: \S+missing.pem: cannot be read \(No such file"),
        ("RECORD_KEY_FILE", "{folder}/record-public.pem", "is not an Ed25519 private key without a passphrase, in PEM"),
        ("RECORD_CHECKPOINTS", "{log}/kept", r"^RECORD_CHECKPOINTS: \S+ is within the log, where its writer can"),
        ("RECORD_CHECKPOINTS", "nothing://bucket", r"^nothing://bucket: cannot be used \(ValueError\)$"),
    ],
)
def test_a_key_or_an_address_that_cannot_be_used_stops_the_start(
    tmp_path: Path, keys: KeyPair, name: str, value: str, said: str
) -> None:
    log = tmp_path / "log"
    environment = {"DECISION_LOG_DIR": str(log), "DECISION_LOG_KEY": KEY, **keys.environment(tmp_path / "vault")}
    environment[name] = value.format(folder=keys.folder, log=log)
    with pytest.raises(CheckpointError, match=said):
        check_recording(settings().recording, environment)


@pytest.mark.parametrize("mask", [0o000, 0o077])
def test_nobody_but_the_owner_reads_what_is_kept(tmp_path: Path, keys: KeyPair, mask: int) -> None:
    before = os.umask(mask)
    try:
        scribe = Scribe(tmp_path / "log", keys, tmp_path / "vault")
        scribe.write(2)
        scribe.close()
    finally:
        os.umask(before)
    files = [*(tmp_path / "vault").iterdir(), *(tmp_path / "log" / "seals").iterdir()]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
