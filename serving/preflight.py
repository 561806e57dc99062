"""Check, once and before any worker starts, that the service can start at all."""

from __future__ import annotations

import logging
import os
import socket
import ssl
from collections.abc import Iterable, Mapping, MutableMapping
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeGuard, TypeVar

import click
from bentoml.exceptions import BentoMLConfigException
from pydantic_core import to_json

from decision_log.errors import DecisionLogError
from features.errors import FeatureError, StoreError
from features.portfolio import Portfolio
from features.store import STORE_VARIABLE, stated_address
from jobs.errors import SettingsError
from jobs.settings import Settings, read_regular
from monitoring.errors import CheckError
from monitoring.recorder import check_recording
from monitoring.settings import MonitoringSettings
from scoring.errors import ScoringError
from scoring.keys import KEYS_VARIABLE, AccessError, KeyFile
from scoring.store import StoredModel, load_portfolio, load_stored
from serving.problems import Invalid
from serving.schemas import Requests, decode, example_of
from serving.settings import ServingSettings
from serving.variants import load_application_only

_LOGGER = logging.getLogger("bentoml.credit_scoring")


def check_start(
    settings: ServingSettings, monitoring: MonitoringSettings, requests: Requests, environment: Mapping[str, str]
) -> None:
    """Check all that a start needs; BentoMLConfigException, which BentoML's command prints in one line, at a fault.

    Checked are the address, the certificate and its key, the API keys, the model, its example, the model of the
    application alone and the decision log.
    """
    check_address()
    check_encryption()
    require_keys_or_loopback(environment)
    try:
        champion = load_stored(settings.model)
        check_model(champion, requests, settings.reasons.language)
        load_application_only(settings, champion)
        if monitoring.recording.enabled:
            check_recording(monitoring.recording, environment)
    except (ScoringError, FeatureError, DecisionLogError, CheckError) as error:
        raise BentoMLConfigException(str(error)) from None


def check_model(stored: StoredModel, requests: Requests, language: str) -> None:
    """BentoMLConfigException if the model cannot score the example that warms up each worker, or lacks the language."""
    artefact = stored.scorer.artefact
    reasons = artefact.portfolio.reasons
    if reasons is not None and language not in reasons.languages:
        raise BentoMLConfigException(
            f"reasons.language: the portfolio {artefact.portfolio.name} has no wording in '{language}',"
            f" but in {', '.join(reasons.languages)}"
        )
    try:
        request = decode(requests.predict, to_json(example_of(artefact.portfolio, artefact)))
        stored.scorer.score(requests.applications.columns_of([request.application]))
    except Invalid as error:
        reason = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors or ())
        raise BentoMLConfigException(
            f"{stored.name}:{stored.version}: its example is no application: {reason}"
        ) from None
    except (FeatureError, ScoringError, ArithmeticError, LookupError, ValueError) as error:
        raise BentoMLConfigException(f"{stored.name}:{stored.version}: cannot score its example: {error}") from None


def served_portfolio(tag: str) -> tuple[str, Portfolio]:
    """Return the exact tag and the portfolio of the model to serve; BentoMLConfigException if it cannot be read."""
    try:
        return load_portfolio(tag)
    except ScoringError as error:
        raise BentoMLConfigException(str(error)) from None


def check_address() -> None:
    """BentoMLConfigException if the command cannot listen at the IP address and port of its options."""
    options = serving_options()
    host, port = options.get("host"), options.get("port")
    if not port or not _is_address(host):
        return  # BentoML has defaults, and refuses names itself
    six = ":" in host
    try:
        both = six and socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if six else socket.AF_INET
        socket.create_server((host, port), family=family, dualstack_ipv6=both).close()
    except (OSError, OverflowError) as error:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else error
        raise BentoMLConfigException(f"cannot listen at {host}, port {port}: {reason}") from None


_FILE_BYTES = 1 << 22
_OPTIONS = {
    "ssl_certfile": "--ssl-certfile",
    "ssl_keyfile": "--ssl-keyfile",
    "ssl_ca_certs": "--ssl-ca-certs",
}


def check_encryption() -> None:
    """BentoMLConfigException if the certificate, key or passphrase of the options cannot be used for TLS."""
    options = serving_options()
    files = {name: _content(options[name], _OPTIONS[name]) for name in _OPTIONS if options.get(name)}
    if not files:
        return
    if "ssl_certfile" not in files:
        raise BentoMLConfigException("TLS needs a certificate: --ssl-certfile is missing")
    _load(options, locked=b"ENCRYPTED" in files.get("ssl_keyfile", files["ssl_certfile"]))
    _warn_if_expired(options["ssl_certfile"], files["ssl_certfile"])


def _content(name: str, option: str) -> bytes:
    try:
        return read_regular(Path(name), _FILE_BYTES)
    except OSError as error:
        raise BentoMLConfigException(f"{option} {name}: cannot be read ({error.strerror})") from None


def _load(options: dict[str, Any], *, locked: bool) -> None:
    """Load the files as a worker will load them."""
    certificate, key = options["ssl_certfile"], options.get("ssl_keyfile") or None
    passphrase, authorities = options.get("ssl_keyfile_password") or "", options.get("ssl_ca_certs")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # A function, even for no passphrase: OpenSSL would otherwise ask for one on the terminal and wait.
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
    """Name the fault in plain words where OpenSSL gives a reason."""
    reason = error.reason if isinstance(error, ssl.SSLError) else None
    if reason == "KEY_VALUES_MISMATCH":
        return "the key is not that of the certificate"
    if locked:
        return "the key has a passphrase, and --ssl-keyfile-password does not match it"
    return f"no certificate with its key, in PEM ({reason or 'not readable'})"


def _warn_if_expired(name: str, content: bytes) -> None:
    from cryptography.x509 import load_pem_x509_certificate

    try:
        end = load_pem_x509_certificate(content).not_valid_after_utc
    except ValueError:  # OpenSSL has accepted the file, and reads more forms than this parser
        return
    if end < datetime.now(UTC):
        _LOGGER.warning(
            "--ssl-certfile %s: expired on %s; clients that verify it will not connect", name, f"{end:%Y-%m-%d}"
        )


def require_keys_or_loopback(environment: Mapping[str, str]) -> Path | None:
    """Return the path of a readable file of keys; None if no file is named and the service listens on loopback alone.

    BentoMLConfigException if the file is broken, or if none is named and other machines could reach the service.
    """
    named = environment.get(KEYS_VARIABLE)
    if not named:
        host = listening_host()
        if not is_loopback(host):
            raise BentoMLConfigException(
                f"without API keys the service listens on loopback only, not at {host}: name a file of keys in"
                f" {KEYS_VARIABLE} (python -m scoring keys create), or serve with --host 127.0.0.1; http.host of a"
                " configuration does not count"
            )
        return None
    try:
        KeyFile.read(Path(named))
    except AccessError as error:
        raise BentoMLConfigException(str(error)) from None
    return Path(named)


def listening_host() -> str:
    """Return the address on which the service listens, or is going to; "every address" if no option names one."""
    # BentoML 1.4.39 tells neither hooks nor workers their address. Both run as click commands: a worker has the number
    # of its socket as an option, the parent has the address.
    options = serving_options()
    if options.get("fd") is not None:
        with socket.socket(fileno=os.dup(options["fd"])) as listening:
            return _host(listening)
    return str(options.get("host") or "every address")  # BentoML's own default is 0.0.0.0


def is_serving_command() -> bool:
    """Whether this process is the command that serves, not one of its workers or another program."""
    options = serving_options()
    return {"host", "port"} <= options.keys() and options.get("fd") is None


def serving_options() -> dict[str, Any]:
    """Return the options of the command that serves, or of its worker; empty in any other process."""
    context = click.get_current_context(silent=True)
    return context.params if context else {}


def _host(listening: socket.socket) -> str:
    """Return the host of a socket; a Unix socket, which lies in a folder of the user's own, counts as loopback."""
    return "localhost" if listening.family == socket.AF_UNIX else str(listening.getsockname()[0])


def is_loopback(host: str) -> bool:
    """Whether only the same machine reaches this address.

    >>> [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "::", "10.0.0.1", "every address")]
    [True, True, True, False, False, False, False]
    """
    return host == "localhost" or (_is_address(host) and ip_address(host).is_loopback)


def _is_address(host: str | None) -> TypeGuard[str]:
    try:
        ip_address(host or "")
    except ValueError:
        return False
    return True


_Settings = TypeVar("_Settings", bound=Settings)


def load_settings(kind: type[_Settings], path: Path) -> _Settings:
    """Return the settings at `path`; BentoMLConfigException if they are wrong."""
    try:
        return kind.load(path)
    except SettingsError as error:
        raise BentoMLConfigException(str(error)) from None


def make_absolute(environment: MutableMapping[str, str], names: Iterable[str]) -> None:
    """Make the paths in these environment variables absolute; an address such as s3://bucket/folder stays as it is."""
    # BentoML runs the workers of a Bento in the folder of the Bento, not in that of the command.
    for name in names:
        if environment.get(name) and "://" not in environment[name]:
            environment[name] = str(Path(environment[name]).absolute())


def check_feature_store(environment: MutableMapping[str, str]) -> None:
    """Make the path of a feature store absolute; BentoMLConfigException if its address is none or cannot be read.

    The store itself may be down: it is asked for each client, and the service says when it does not answer.
    """
    try:
        address = stated_address(environment)
    except StoreError as error:
        raise BentoMLConfigException(str(error)) from None
    if address is not None and environment.get(STORE_VARIABLE):
        environment[STORE_VARIABLE] = address
