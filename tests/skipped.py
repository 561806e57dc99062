"""What a run left out, and what brings it: the reason of a skip names the command, in backticks."""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from collections.abc import Generator, Iterable
from pathlib import Path

import pytest

HOME_CREDIT = Path(os.environ.get("HOME_CREDIT") or Path(__file__).parents[1] / "data" / "home_credit")
"""The folder of Kaggle's files, where somebody has them."""
PACKAGES = {
    "amtool": "prometheus-alertmanager",
    "chromium": "chromium",
    "h2load": "nghttp2-client",
    "initdb": "postgresql",
    "nginx": "nginx-light",
    "podman": "podman",
    "prometheus": "prometheus",
    "prometheus-alertmanager": "prometheus-alertmanager",
    "promtool": "prometheus",
}
"""The Debian package of each program that tests drive."""
_ELSEWHERE = {"kubectl": "https://kubernetes.io/docs/tasks/tools"}  # Debian's is too old for the manifests
_INSTALL = "apt-get install"
_COMMAND = re.compile(r"`([^`]+)`")

needs_home_credit = pytest.mark.skipif(
    not HOME_CREDIT.is_dir(), reason="Kaggle's files are not here: `HOME_CREDIT=DIR make test`"
)


def missing(program: str) -> str:
    """Why a test without this program is skipped."""
    if program in _ELSEWHERE:
        return f"need {program}, see {_ELSEWHERE[program]}"
    return f"{program} is not installed: `{_INSTALL} {PACKAGES[program]}`"


def needs(program: str) -> pytest.MarkDecorator:
    """Skips where the program is not installed."""
    return pytest.mark.skipif(shutil.which(program) is None, reason=missing(program))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Generator[None]:
    """Write the line below pytest's own list."""
    yield
    line = summary(report.longrepr[2].removeprefix("Skipped: ") for report in terminalreporter.getreports("skipped"))
    if line:
        terminalreporter.write_line(line)


def summary(reasons: Iterable[str]) -> str:
    """The line at the end of a run; empty where nothing was skipped.

    >>> summary([missing("promtool"), missing("initdb"), "elsewhere: `make faults`", "no glibc"])
    '4 tests were skipped: 2 need `apt-get install postgresql prometheus`; 1 `make faults`; 1 no glibc'
    """
    counts, packages = Counter[str](), set[str]()
    for reason in reasons:
        found = _COMMAND.search(reason)
        command = found[1] if found else ""
        if command.startswith(_INSTALL):
            packages |= set(command.removeprefix(_INSTALL).split())
            command = _INSTALL
        counts[command or reason] += 1
    if not counts:
        return ""
    install = f"need `{' '.join([_INSTALL, *sorted(packages)])}`"
    shown = [f"{n} {install if what == _INSTALL else _shown(what)}" for what, n in counts.most_common()]
    return f"{counts.total()} test{'s were' if counts.total() > 1 else ' was'} skipped: {'; '.join(shown)}"


def _shown(what: str) -> str:
    return f"`{what}`" if what.startswith(("make ", "HOME_CREDIT=", "sudo ")) else what
