"""What both clients set up in httpx."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.request import getproxies, proxy_bypass

import httpx

from .clock import Clock
from .exchange import Attempt
from .request import checked_header
from .retry import Retry
from .version import __version__

DEFAULT_CLOCK = Clock()
DEFAULT_RETRY = Retry()
DEFAULT_TIMEOUT = httpx.Timeout(30.0, connect=5.0)


def checked_url(base_url: str) -> httpx.URL:
    """Return the server's address; ValueError if it is not one.

    >>> checked_url("localhost:3000")
    Traceback (most recent call last):
    ValueError: base_url must be http://host or https://host, optionally with port and path, and no user name
    """
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL as error:
        raise ValueError(f"base_url is not a URL: {error}") from None
    # httpx sends a user name from the URL in place of the API key, and errors would show it.
    if url.scheme not in {"http", "https"} or not url.host or url.userinfo or url.query or url.fragment:
        raise ValueError(
            "base_url must be http://host or https://host, optionally with port and path, and no user name"
        )
    return url


def standing_headers(api_key: str | None) -> dict[str, str]:
    """Headers of every request."""
    headers = {"Accept": "application/json", "User-Agent": f"credit-scoring-client/{__version__}"}
    if api_key is not None:
        headers["Authorization"] = f"Bearer {checked_header(api_key, 'api_key')}"
    return headers


def direct(url: httpx.URL) -> dict[str, None]:
    """What httpx asks directly whatever HTTP_PROXY says: a server on loopback, which no proxy can reach.

    >>> direct(httpx.URL("http://127.0.0.1:3000")), direct(httpx.URL("http://scores.example"))
    ({'all://127.0.0.1': None}, {})
    """
    return {f"all://{_bracketed(url.host)}": None} if _is_loopback(url.host) else {}


def explained(error: httpx.RequestError, url: httpx.URL) -> httpx.RequestError:
    """The error, which says so where the request went to a proxy that the environment names."""
    proxy = getproxies().get(url.scheme) or getproxies().get("all")
    if proxy is None or _is_loopback(url.host) or proxy_bypass(url.host):
        return error
    hint = f"through the proxy that {url.scheme.upper()}_PROXY names; NO_PROXY={url.host} goes round it"
    return type(error)(f"{error} ({hint})", request=error.request)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def prepared(http: httpx.Client | httpx.AsyncClient, attempt: Attempt) -> httpx.Request:
    """Make the request of an attempt."""
    request = attempt.request
    timeout = httpx.USE_CLIENT_DEFAULT if attempt.timeout is None else attempt.timeout
    return http.build_request(
        request.method, request.path, content=request.content, headers=request.headers, timeout=timeout
    )
