"""An AWS account on loopback, played by moto."""

from __future__ import annotations

import base64
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from deploy.command import run
from deploy.errors import DeployError
from deploy.infrastructure.terraform import ROOT

_PYTHON = ROOT / ".venv-infrastructure" / "bin" / "python"
_MOTO = Path(__file__).with_name("moto_account.py")
_REGION = "eu-west-1"
_START_SECONDS = 60.0
_ANSWER_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Account:
    """Where it answers."""

    url: str

    @property
    def environment(self) -> dict[str, str]:
        """What makes the AWS provider and the AWS command line talk to it."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "rehearsal",
            "AWS_SECRET_ACCESS_KEY": "rehearsal",
            "AWS_REGION": _REGION,
            "AWS_DEFAULT_REGION": _REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_MAX_ATTEMPTS": "2",  # what moto cannot do, it cannot do the next time either
        }

    def import_certificate(self) -> str:
        """The ARN of a self-signed certificate, imported into ACM."""
        with TemporaryDirectory() as scratch:
            key, certificate = Path(scratch, "key.pem"), Path(scratch, "certificate.pem")
            run(
                "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=rehearsal",
                "-keyout", key, "-out", certificate,
            )  # fmt: skip
            body = {"Certificate": _encoded(certificate), "PrivateKey": _encoded(key)}
        return str(self._ask("CertificateManager.ImportCertificate", "acm", body)["CertificateArn"])

    def _ask(self, target: str, service: str, body: dict[str, str]) -> Any:
        credential = f"AWS4-HMAC-SHA256 Credential=rehearsal/20260101/{_REGION}/{service}/aws4_request"
        headers = {"X-Amz-Target": target, "Content-Type": "application/x-amz-json-1.1", "Authorization": credential}
        answer = httpx.post(self.url, json=body, headers=headers, timeout=_ANSWER_SECONDS, trust_env=False)
        return answer.raise_for_status().json()


@contextmanager
def account() -> Iterator[Account]:
    """A fresh account, gone with the block. Services in it run as many tasks as they are to have."""
    if not _PYTHON.exists():
        raise DeployError(f"{_PYTHON.relative_to(ROOT)}: not installed; run `make infrastructure-tools`")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    playing = subprocess.Popen(
        [_PYTHON, _MOTO, "-H", "127.0.0.1", "-p", str(port)],
        env=os.environ | {"MOTO_ECS_SERVICE_RUNNING": "2", "MOTO_IAM_LOAD_MANAGED_POLICIES": "true"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield _answering(f"http://127.0.0.1:{port}", playing)
    finally:
        playing.terminate()
        playing.wait(30)


def _answering(url: str, playing: subprocess.Popen[bytes]) -> Account:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and playing.poll() is None:
        try:
            httpx.get(f"{url}/moto-api/data.json", trust_env=False).raise_for_status()
            return Account(url)
        except httpx.HTTPError:
            time.sleep(0.2)
    raise DeployError("moto does not answer")


def _encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
