"""What git, image builders and package indexes are told: no secret goes in, and nothing of one machine stays."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SECRETS = [
    ".env",
    ".env.production",
    "deploy/.env",
    "tls.key",
    "certificates/server.pem",
    "server.p12",
    "server.pfx",
    "trust.jks",
    "trust.keystore",
    ".pgpass",
    ".netrc",
    ".pypirc",
    "id_rsa",
    "id_ed25519",
    "keys.yaml",
    "config/keys.yaml",
    "decisions.key",
    "secrets/token",
    "deploy/compose/secrets/database_password",
    "deploy/terraform/own.tfvars",
    "deploy/terraform/backend.hcl",
    "deploy/terraform/terraform.tfstate.backup",
    "kubeconfig",
    "credentials.json",
    "decisions/open/1.jsonl",
]
in_git = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="it needs a checkout: `git clone`")
IMAGE_FILES = [ROOT / "deploy/image/Containerfile", ROOT / "deploy/compose/mlflow.Containerfile"]


def git(*words: str) -> list[str]:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.splitlines()


@in_git
@pytest.mark.parametrize("path", SECRETS)
def test_a_secret_is_not_added_by_mistake(path: str) -> None:
    assert git("check-ignore", "--no-index", path) == [path]


@in_git
def test_nothing_that_is_kept_is_ignored() -> None:
    assert git("ls-files", "--cached", "--ignored", "--exclude-standard") == []


@in_git
def test_no_file_holds_a_private_key_or_the_place_of_the_checkout() -> None:
    private = "-----BEGIN [A-Z ]*" + "PRIVATE KEY-----"
    assert git("grep", "--name-only", "--extended-regexp", private) == []
    assert git("grep", "--name-only", "--fixed-strings", f"{ROOT}/") == []


@pytest.mark.parametrize("lock", sorted(ROOT.glob("requirements/*.txt")), ids=lambda lock: lock.stem)
def test_a_lock_names_hashes_and_no_index(lock: Path) -> None:
    text = lock.read_text()
    assert "index-url" not in text
    assert "://" not in text
    pinned = re.findall(r"^[a-z0-9][^#\n]*==", text, flags=re.MULTILINE | re.IGNORECASE)
    assert text.count("--hash=sha256:") >= len(pinned) > 0


def test_an_image_of_the_checkout_is_given_what_it_copies_and_nothing_else() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    copied = re.findall(r"^COPY (\S+) ", IMAGE_FILES[1].read_text(), flags=re.MULTILINE)
    assert lines == ["*", *[f"!{path}" for path in copied]]


@pytest.mark.parametrize("file", IMAGE_FILES, ids=lambda file: file.name)
def test_the_base_of_an_image_can_be_given_with_its_digest(file: Path) -> None:
    text = file.read_text()
    assert len(re.findall(r"^ARG BASE=\S+:\S+$", text, flags=re.MULTILINE)) == 1
    bases = re.findall(r"^FROM (\S+)", text, flags=re.MULTILINE)
    assert [base for base in bases if base != "${BASE}" and base not in re.findall(r" AS (\S+)", text)] == []


def test_locks_can_be_made_anew() -> None:
    """They are made inside requirements/, from where the Makefile must find what it includes."""
    command = ["make", "--dry-run", "--file", "../Makefile", "lock-files"]
    done = subprocess.run(command, cwd=ROOT / "requirements", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
