"""TLS by BentoML's own options, with a certificate made here."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from datetime import timedelta
from urllib.parse import urlsplit

import httpx
import pytest
from credit_scoring_client.client import Client
from credit_scoring_client.errors import ConnectionFailed

from scoring.keys import Scope
from tests.certificates import certificate
from tests.home_credit import EXAMPLE
from tests.keys import Keys
from tests.server import Server, Tls, serve_with
from training.run import Delivered


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    return certificate(tmp_path_factory.mktemp("tls"), valid=timedelta(days=1))


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


def negotiated(server: Server, tls: Tls, ciphers: str) -> str | None:
    """The cipher of TLS 1.2 that a caller with these gets; None where there is none in common."""
    context = tls.trusted()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(ciphers)
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port), timeout=60) as plain:
        try:
            with context.wrap_socket(plain, server_hostname=address.hostname) as secured:
                cipher = secured.cipher()
        except ssl.SSLError:
            return None
    return cipher and cipher[0]


@pytest.mark.parametrize("ciphers", ["ECDHE+AESGCM", "ECDHE+CHACHA20"])
def test_tls_1_2_has_authenticated_ciphers(server: Server, tls: Tls, ciphers: str) -> None:
    found = negotiated(server, tls, ciphers)
    assert found
    assert found.startswith("ECDHE-")
    assert "GCM" in found or "CHACHA20" in found


@pytest.mark.parametrize(
    "ciphers", ["AES128-SHA:AES256-SHA", "ECDHE-RSA-AES256-SHA:ECDHE-ECDSA-AES256-SHA:@SECLEVEL=0", "AES128-GCM-SHA256"]
)
def test_tls_1_2_has_no_others(server: Server, tls: Tls, ciphers: str) -> None:
    assert negotiated(server, tls, ciphers) is None
