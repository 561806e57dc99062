"""TLS by BentoML's own options, with a certificate made here."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import httpx
import pytest
from credit_scoring_client import Client, ConnectionFailed
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from access import Scope
from serving import EXAMPLE
from tests.keys import Keys
from tests.server import Server, Tls, serve_with
from training.delivery import Delivered


def certificate(folder: Path) -> Tls:
    """A new key, and a certificate of it for 127.0.0.1, valid for a day."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "credit-scoring test")])
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    made = Tls(folder / "tls.crt", folder / "tls.key")
    made.certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    encoding, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    made.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, encoding, plain))
    return made


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    made = Keys(tmp_path_factory.mktemp("tls-keys") / "keys.yaml")
    made.create("front", Scope.PREDICT)
    return made


@pytest.fixture(scope="module")
def server(delivered: Delivered, keys: Keys, tls: Tls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("tls-server")
    with serve_with(folder, {"model": delivered.tag}, keys.environment, tls) as running:
        yield running


def test_who_trusts_the_certificate_is_answered(server: Server, keys: Keys, tls: Tls) -> None:
    transport = httpx.HTTPTransport(verify=tls.trusted())
    with Client(server.url, api_key=keys.secrets["front"], transport=transport) as client:
        assert 0 < client.predict(EXAMPLE["application"]).probability < 1
    assert httpx.get(f"{server.url}/model/info", verify=tls.trusted()).status_code == 401


def test_who_does_not_trust_it_sends_nothing(server: Server, keys: Keys) -> None:
    with (
        Client(server.url, api_key=keys.secrets["front"]) as client,
        pytest.raises(ConnectionFailed, match="CERTIFICATE"),
    ):
        client.health()


def test_plain_http_is_not_answered(server: Server) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(server.url.replace("https", "http") + "/livez")
