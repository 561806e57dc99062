"""What the service cannot start with, said in one line before any worker is started."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from tests.certificates import certificate
from tests.scoring.signers import Signer
from tests.server import ROOT, unmeasured
from training.run import Delivered

# The types of the APIs come from the model: without one, no other fault of a start is looked for.
pytestmark = pytest.mark.usefixtures("delivered")


def start(*options: str, **variables: str) -> tuple[int, str]:
    """Exit code and standard error of a `bentoml serve` that ends by itself."""
    command = [str(Path(sys.executable).with_name("bentoml")), "serve", ".", "--host", "127.0.0.1", *options]
    environment = {**unmeasured(), **variables}
    ended = subprocess.run(
        command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True, timeout=600
    )  # fmt: skip
    return ended.returncode, ended.stderr


@pytest.mark.parametrize(
    ("variable", "content", "said"),
    [
        ("CREDIT_SCORING_SETTINGS", None, "cannot be read (No such file or directory)"),
        ("CREDIT_SCORING_SETTINGS", "boundary: [", "not YAML"),
        ("CREDIT_SCORING_MONITORING", "recordings: {}", "recordings"),
    ],
)
def test_settings_that_are_not(tmp_path: Path, variable: str, content: str | None, said: str) -> None:
    path = tmp_path / "settings.yaml"
    if content is not None:
        path.write_text(content)
    code, errors = start(**{variable: str(path)})
    assert (code, "Traceback" in errors) == (1, False)
    assert errors.splitlines()[-1].startswith(f"Error: [serve] `serve` failed: {path}: ")
    assert said in errors


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, errors = start("--port", str(port))
    assert (code, "Traceback" in errors) == (1, False)
    assert errors.splitlines()[-1].endswith(f"cannot listen at 127.0.0.1, port {port}: Address already in use")


def test_a_port_that_is_none() -> None:
    code, errors = start("--port", "99999")
    assert (code, "Traceback" in errors) == (1, False)
    assert "cannot listen at 127.0.0.1, port 99999: " in errors.splitlines()[-1]


def tls_files(folder: Path, kind: str) -> tuple[Path, Path]:
    """A certificate and a key that are wrong in one way."""
    made, other = certificate(folder, valid=timedelta(days=1)), folder / "other"
    other.mkdir()
    second = certificate(other, valid=timedelta(days=1))
    files = {"certificate": made.certificate, "key": made.key}
    part, _, fault = kind.partition(": ")
    if fault == "missing":
        files[part].unlink()
    elif fault == "folder":
        files[part].unlink()
        files[part].mkdir()
    elif fault == "pipe":
        files[part].unlink()
        os.mkfifo(files[part])
    elif fault == "garbage":
        files[part].write_bytes(b"\xff" * 100)
    elif fault == "empty":
        files[part].write_bytes(b"")
    elif fault == "of another":
        files["key"] = second.key
    elif fault == "with a passphrase":
        loaded = load_pem_private_key(made.key.read_bytes(), None)
        made.key.write_bytes(
            loaded.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"S3CR3T"))
        )
    return files["certificate"], files["key"]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("certificate: missing", "--ssl-certfile {0}: cannot be read (No such file or directory)"),
        ("key: missing", "--ssl-keyfile {1}: cannot be read (No such file or directory)"),
        ("certificate: folder", "--ssl-certfile {0}: cannot be read (Is a directory)"),
        ("key: pipe", "--ssl-keyfile {1}: cannot be read (not a regular file)"),
        ("certificate: garbage", "TLS: {0} and {1}: no certificate with its key, in PEM"),
        ("key: garbage", "TLS: {0} and {1}: no certificate with its key, in PEM"),
        ("certificate: empty", "TLS: {0} and {1}: no certificate with its key, in PEM"),
        ("key: of another", "TLS: {0} and {1}: the key is not that of the certificate"),
        (
            "key: with a passphrase",
            "TLS: {0} and {1}: the key has a passphrase, and --ssl-keyfile-password does not match it",
        ),
    ],
)
def test_files_for_tls_that_are_none(tmp_path: Path, kind: str, said: str) -> None:
    crt, key = tls_files(tmp_path, kind)
    code, errors = start("--ssl-certfile", str(crt), "--ssl-keyfile", str(key))
    assert (code, "Traceback" in errors) == (1, False)
    assert said.format(crt, key) in errors.splitlines()[-1]


def test_a_key_without_a_certificate(tmp_path: Path) -> None:
    _, key = tls_files(tmp_path, "")
    code, errors = start("--ssl-keyfile", str(key))
    assert (code, "Traceback" in errors) == (1, False)
    assert errors.splitlines()[-1].endswith("TLS needs a certificate: --ssl-certfile is missing")


def test_an_address_in_the_settings_is_said_to_count_for_nothing(tmp_path: Path) -> None:
    settings = yaml.safe_load((ROOT / "configs" / "serving.yaml").read_text())
    settings["bentoml"]["http"] = {"host": "127.0.0.1", "port": 3000}
    (tmp_path / "serving.yaml").write_text(yaml.safe_dump(settings))
    code, errors = start(CREDIT_SCORING_SETTINGS=str(tmp_path / "serving.yaml"))
    assert (code, "Traceback" in errors) == (1, False)
    assert "http is not read by the command that serves: give it --host and --port" in errors.splitlines()[-1]


@pytest.mark.parametrize("digest", ["", "0123456789ab"])
def test_a_digest_that_is_not_whole(delivered: Delivered, digest: str) -> None:
    code, errors = start(CREDIT_SCORING_DIGEST=digest)
    assert (code, "Traceback" in errors) == (1, False)
    assert "CREDIT_SCORING_DIGEST: must be a whole digest, 64 hexadecimal digits" in errors.splitlines()[-1]


def test_a_model_that_is_not_signed(delivered: Delivered, tmp_path: Path) -> None:
    signer = Signer.made(tmp_path, "ours")
    code, errors = start(CREDIT_SCORING_SIGNER=str(signer.public))
    assert (code, "Traceback" in errors) == (1, False)
    assert errors.splitlines()[-1].endswith("is not signed (signature.json is missing)")
