"""Statements about a model, their signatures, and what is said of keys that are none."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from scoring.errors import SignatureError
from scoring.store import Statement, Trust, report_digest, sign, verify, write_signature
from tests.scoring.signers import Signer

STATEMENT = Statement("credit_model", "3", "0123456789abcdef" * 4, "f" * 64)


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    return Signer.made(tmp_path, "ours")


def private(
    path: Path, key: PrivateKeyTypes | None = None, encryption: KeySerializationEncryption | None = None
) -> Path:
    made = key or ed25519.Ed25519PrivateKey.generate()
    path.write_bytes(made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption()))
    return path


def test_what_was_signed_is_verified(signer: Signer) -> None:
    verify(STATEMENT, sign(STATEMENT, signer.private), signer.public)


def test_the_signature_is_of_these_bytes() -> None:
    """Whoever signs elsewhere, with a device or a service for keys, signs exactly this."""
    assert STATEMENT.encode() == (
        b"credit scoring model, statement 1\n"
        b'{"digest":"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef","name":"credit_model",'
        b'"report":"ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff","version":"3"}'
    )


@pytest.mark.parametrize(
    "altered",
    [
        replace(STATEMENT, name="other"),
        replace(STATEMENT, version="4"),
        replace(STATEMENT, digest="0" * 64),
        replace(STATEMENT, report=None),
    ],
)
def test_a_signature_is_of_one_statement(signer: Signer, altered: Statement) -> None:
    with pytest.raises(SignatureError, match=rf"^not signed by the key in {signer.public}$"):
        verify(altered, sign(STATEMENT, signer.private), signer.public)


@pytest.mark.parametrize("signature", ["", "zz", "00" * 64, "00"])
def test_what_is_no_signature_is_none(signer: Signer, signature: str) -> None:
    with pytest.raises(SignatureError, match=r"^not signed by the key in "):
        verify(STATEMENT, signature, signer.public)


def test_another_key_has_not_signed_it(signer: Signer, tmp_path: Path) -> None:
    other = Signer.made(tmp_path, "theirs")
    with pytest.raises(SignatureError, match=r"^not signed by the key in "):
        verify(STATEMENT, sign(STATEMENT, other.private), signer.public)


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "huge", "text", "elliptic", "public", "passphrase"])
def test_what_is_no_private_key_is_said_in_one_line(signer: Signer, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "key.pem"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "huge":
        path.write_bytes(b"-" * 100_000)
    elif kind == "text":
        path.write_text("key")
    elif kind == "elliptic":
        private(path, ec.generate_private_key(ec.SECP256R1()))
    elif kind == "public":
        path.write_bytes(signer.public.read_bytes())
    elif kind == "passphrase":
        private(path, encryption=BestAvailableEncryption(b"secret"))
    with pytest.raises(SignatureError) as refused:
        sign(STATEMENT, path)
    said = {
        "missing": "cannot be read (No such file or directory)",
        "folder": "cannot be read (Is a directory)",
        "pipe": "cannot be read (not a regular file)",
        "huge": "cannot be read (larger than 16384 bytes)",
    }
    assert str(refused.value) == (
        f"{path}: {said.get(kind, 'is not an Ed25519 private key without a passphrase, in PEM')}"
    )


@pytest.mark.parametrize("content", [b"", b"key", b"-----BEGIN PUBLIC KEY-----\n\n-----END PUBLIC KEY-----\n"])
def test_what_is_no_public_key_is_said_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "signer.pem"
    path.write_bytes(content)
    with pytest.raises(SignatureError, match=rf"^{path}: is not an Ed25519 public key in PEM$"):
        verify(STATEMENT, "00" * 64, path)


def test_a_public_key_of_another_kind_is_none(tmp_path: Path) -> None:
    path = tmp_path / "signer.pem"
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    path.write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(SignatureError, match=rf"^{path}: is not an Ed25519 public key in PEM$"):
        verify(STATEMENT, "00" * 64, path)


@pytest.mark.parametrize("digest", ["", "0123456789ab", "0" * 63, "0" * 65, "A" * 64, "0" * 64 + "\n", " " + "0" * 63])
def test_a_digest_that_is_not_whole_is_refused(digest: str) -> None:
    with pytest.raises(SignatureError, match=r"^CREDIT_SCORING_DIGEST: must be a whole digest, 64 hexadecimal digits"):
        Trust.of({"CREDIT_SCORING_DIGEST": digest})


def test_a_signer_without_a_name_is_refused() -> None:
    with pytest.raises(SignatureError, match=r"^CREDIT_SCORING_SIGNER: must name the PEM file"):
        Trust.of({"CREDIT_SCORING_SIGNER": ""})


def test_an_environment_that_says_nothing_trusts_the_store() -> None:
    assert Trust.of({}) == Trust(digest=None, signer=None)


def test_an_environment_may_name_the_digest_and_the_signer() -> None:
    environment = {"CREDIT_SCORING_DIGEST": "0123456789abcdef" * 4, "CREDIT_SCORING_SIGNER": "signer.pem"}
    assert Trust.of(environment) == Trust(digest="0123456789abcdef" * 4, signer=Path("signer.pem"))


def test_a_signature_is_a_file_beside_the_artefact(tmp_path: Path) -> None:
    write_signature(tmp_path, replace(STATEMENT, report=None), "00")
    assert (tmp_path / "signature.json").read_text().splitlines() == [
        "{",
        f' "digest": "{STATEMENT.digest}",',
        ' "name": "credit_model",',
        ' "report": null,',
        ' "signature": "00",',
        ' "version": "3"',
        "}",
    ]


def test_the_digest_of_a_report_is_of_the_file_beside_the_artefact(tmp_path: Path) -> None:
    assert report_digest(tmp_path) is None
    (tmp_path / "report.html").write_bytes(b"abc")
    assert report_digest(tmp_path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    (tmp_path / "report.html").unlink()
    (tmp_path / "report.html").mkdir()
    with pytest.raises(SignatureError, match=r"report\.html: cannot be read \(Is a directory\)$"):
        report_digest(tmp_path)


def test_a_private_key_may_have_16_kib(signer: Signer) -> None:
    padded = signer.private.read_bytes()
    signer.private.write_bytes(padded.ljust(1 << 14, b"\n"))
    verify(STATEMENT, sign(STATEMENT, signer.private), signer.public)
    signer.private.write_bytes(padded.ljust((1 << 14) + 1, b"\n"))
    with pytest.raises(SignatureError, match=r"cannot be read \(larger than 16384 bytes\)$"):
        sign(STATEMENT, signer.private)
