"""Whether connections can be encrypted with the files that the command was given."""

from __future__ import annotations

import logging
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bentoml.exceptions import BentoMLConfigException

from features import read_regular

from .listening import serving_options

_LOGGER = logging.getLogger("bentoml.credit_scoring")
_FILE_BYTES = 1 << 22
_OPTIONS = {
    "ssl_certfile": "--ssl-certfile",
    "ssl_keyfile": "--ssl-keyfile",
    "ssl_ca_certs": "--ssl-ca-certs",
}


def check_encryption() -> None:
    """BentoMLConfigException where no worker could answer over TLS, which it would try again and again."""
    options = serving_options()
    files = {name: _content(options[name], _OPTIONS[name]) for name in _OPTIONS if options.get(name)}
    if not files:
        return
    if "ssl_certfile" not in files:
        raise BentoMLConfigException("TLS needs a certificate: --ssl-certfile is missing")
    _load(options, locked=b"ENCRYPTED" in files.get("ssl_keyfile", files["ssl_certfile"]))
    _warn_of_age(options["ssl_certfile"], files["ssl_certfile"])


def _content(name: str, option: str) -> bytes:
    try:
        return read_regular(Path(name), _FILE_BYTES)
    except OSError as error:
        raise BentoMLConfigException(f"{option} {name}: cannot be read ({error.strerror})") from None


def _load(options: dict[str, Any], *, locked: bool) -> None:
    """Do what a worker will do with the files; without a passphrase OpenSSL would ask for one."""
    certificate, key = options["ssl_certfile"], options.get("ssl_keyfile") or None
    passphrase, authorities = options.get("ssl_keyfile_password") or "", options.get("ssl_ca_certs")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, lambda: passphrase)
    except (OSError, ValueError) as error:
        raise BentoMLConfigException(
            f"TLS: {certificate} and {key or certificate}: {_reason(error, locked=locked)}"
        ) from None
    if authorities:
        try:
            context.load_verify_locations(authorities)
        except (OSError, ValueError):
            raise BentoMLConfigException(f"--ssl-ca-certs {authorities}: holds no certificate in PEM") from None


def _reason(error: OSError | ValueError, *, locked: bool) -> str:
    """What is wrong, as far as OpenSSL says it."""
    reason = error.reason if isinstance(error, ssl.SSLError) else None
    if reason == "KEY_VALUES_MISMATCH":
        return "the key is not that of the certificate"
    if locked:
        return "the key has a passphrase, and --ssl-keyfile-password is not it"
    return f"no certificate with its key, in PEM ({reason or 'not readable'})"


def _warn_of_age(name: str, content: bytes) -> None:
    from cryptography.x509 import load_pem_x509_certificate

    try:
        end = load_pem_x509_certificate(content).not_valid_after_utc
    except ValueError:  # OpenSSL reads more than it
        return
    if end < datetime.now(UTC):
        _LOGGER.warning("--ssl-certfile %s: expired on %s; who verifies it gets no answer", name, f"{end:%Y-%m-%d}")
