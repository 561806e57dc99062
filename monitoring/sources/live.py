"""Windows of running services: what `GET /drift` answers, added up over pods."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from datetime import timedelta
from http import HTTPStatus
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import numpy as np

from features import Calendar
from monitoring.drift import Window, whole_periods
from monitoring.errors import SourceError, WindowError
from scoring import Artefact

_SECONDS = 10
_KEY = "CREDIT_SCORING_API_KEY"
"""The environment variable with an API key of the scope `admin`, where the services ask for one."""


def window_of_services(
    urls: Sequence[str], model: Artefact, *, last: bool = False
) -> tuple[Window, frozenset[Calendar]]:
    """The counts since the start of the services at these addresses, or those of their `last` complete windows.

    With them come the calendars of which all of these windows cover whole periods; none of the counts since the start.
    SourceError if one does not answer or has no complete window yet; WindowError if one serves another model.
    """
    first, *others = (_window(url, model, last=last) for url in urls)
    window = sum((each for each, _ in others), first[0])
    return window, first[1].intersection(*(whole for _, whole in others))


def _window(url: str, model: Artefact, *, last: bool) -> tuple[Window, frozenset[Calendar]]:
    answer = _answer(url)
    try:
        digest, counts = str(answer["digest"]), answer["window"] if last else answer
        if digest != model.digest:
            raise WindowError(f"{url}: serves the model {digest[:12]}, not {model.digest[:12]}")
        if counts is None:
            raise SourceError(f"{url}: no window is complete yet")
        covered = timedelta(seconds=counts["end"] - counts["start"]) if last else timedelta()
        return _counted(counts, model), whole_periods(covered)
    except (KeyError, OverflowError, TypeError, ValueError) as error:
        raise SourceError(f"{url}: not what GET /drift answers ({type(error).__name__})") from None


def _counted(counts: Mapping[str, Any], model: Artefact) -> Window:
    features = np.zeros_like(model.reference.counts)
    for row, (name, bins) in zip(features, model.reference.features.items(), strict=True):
        row[: bins.size] = np.array(counts["features"][name], dtype=np.int64)
    return Window(features, np.array(counts["probability"], dtype=np.int64))


def _request(url: str) -> Request:
    request = Request(f"{url.rstrip('/')}/drift")  # noqa: S310 - the scheme was checked
    if key := os.environ.get(_KEY):
        request.add_unredirected_header("X-API-Key", key)  # another host does not get it
    return request


def _answer(url: str) -> Mapping[str, Any]:
    if not url.startswith(("http://", "https://")):
        raise SourceError(f"{url}: not an address of a service: http://... or https://...")
    try:
        with urlopen(_request(url), timeout=_SECONDS) as response:  # noqa: S310 - the scheme was checked
            answer = json.load(response)
    except HTTPError as error:
        asks = error.code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
        hint = f": set {_KEY} to an API key of the scope admin" if asks else ""
        raise SourceError(f"{url}: refuses ({error.code} {error.reason}){hint}") from None
    except URLError as error:
        raise SourceError(f"{url}: does not answer ({error.reason})") from None
    except (OSError, ValueError) as error:
        raise SourceError(f"{url}: does not answer as expected ({type(error).__name__})") from None
    if not isinstance(answer, dict):
        raise SourceError(f"{url}: not what GET /drift answers")
    return answer
