"""Runs the tests on a copy of the project: once on what is there, noting who runs which line, then on each change."""

from __future__ import annotations

import importlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from coverage import Coverage, CoverageData

from tests.mutation.changes import Change

# Imported once, before the forks. Not bentoml: it reads its home when it is imported, and the tests set that.
_HEAVY = ["scipy.stats", "pyarrow.parquet", "sklearn.metrics", "lightgbm", "hypothesis"]
_HEAVY += ["mlflow.pyfunc", "matplotlib.pyplot", "imblearn", "optuna"]
_OPTIONS = [
    "-x",
    "-q",
    "-W",
    "ignore::pytest.PytestAssertRewriteWarning",
    "-p",
    "no:cacheprovider",
    "--hypothesis-seed=0",
]
_PATIENCE = 20  # a change may make a test this many times slower before it counts as endless
_LONGEST = 300  # seconds that a test may take by the clock: what needs a processor all the time is ended before
LATE = 90
"""Exit code where a test took longer: the change is endless, or the machine was too busy to tell."""


@dataclass(frozen=True, slots=True)
class Tests:
    """What each test needed, in seconds of processor time, and the tests that run each line of each file."""

    seconds: dict[str, float]
    lines: dict[str, dict[int, list[str]]]

    def of(self, change: Change, budget: float) -> list[str]:
        """The tests that run the changed line, those of its module first and then the cheapest, within the budget.

        Then the others of their files: what a shared fixture runs is noted for the first test that asks for it.
        What runs on import is judged by the tests that run any line of its file, and by those of its package.
        """
        package, module = change.file.partition("/")[0], Path(change.file).stem
        lines = self.lines.get(change.file, {})
        names = set(lines.get(change.number, []))
        if not names:
            names = {name for names in lines.values() for name in names}
            names |= {name for name in self.seconds if name.startswith(f"tests/{package}/")}
        files = {name.partition("::")[0] for name in names}
        beside = {name for name in self.seconds if name.partition("::")[0] in files} - names
        own = f"/test_{module}.py::"
        chosen: list[str] = []
        spent = 0.0
        for name in sorted(
            names | beside, key=lambda name: (name in beside, own not in name, self.seconds[name], name)
        ):
            if not chosen or spent + self.seconds[name] <= budget:
                spent += self.seconds[name]
                chosen.append(name)
        return chosen


def copy_project(root: Path, to: Path) -> Path:
    """The files that git knows or would add, and the environment, in another folder."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (root / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, to / name)
    if not (to / ".venv").exists():
        (to / ".venv").symlink_to((root / ".venv").resolve())
    return to


class _Noting:
    """Notes what each passing test costs, and which lines it runs."""

    def __init__(self, coverage: Coverage) -> None:
        self.coverage = coverage
        self.seconds: dict[str, float] = {}
        self.failed: set[str] = set()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self.coverage.switch_context(item.nodeid)
        before = _processor_time()
        result = yield
        self.seconds[item.nodeid] = round(_processor_time() - before, 3)
        self.coverage.switch_context("")
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if not report.passed:
            self.failed.add(report.nodeid)


class _Chosen:
    """Keeps the chosen tests only, in their order."""

    def __init__(self, names: list[str]) -> None:
        self.place = {name: index for index, name in enumerate(names)}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted(
            (item for item in items if item.nodeid in self.place), key=lambda item: self.place[item.nodeid]
        )


class _Late:
    """Whether the test that failed only took too long."""

    found = False

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.found = self.found or "from pytest-timeout" in report.longreprtext


def _processor_time() -> float:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def observed(tree: Path, packages: list[str], paths: list[str], kept: Path) -> Tests:
    """The tests that pass on the copy as it is. `kept` is where that is written, and read the next time."""
    if not kept.exists():
        child = os.fork()
        if child == 0:
            _enter(tree, kept.with_suffix(".txt"))
            _observe(packages, paths, kept)
        os.waitpid(child, 0)
    found = json.loads(kept.read_text(encoding="utf-8"))
    lines = {file: {int(line): names for line, names in of.items()} for file, of in found["lines"].items()}
    return Tests(found["seconds"], lines)


def _observe(packages: list[str], paths: list[str], kept: Path) -> None:
    coverage = Coverage(data_file=None, config_file=False, source=packages)
    noting = _Noting(coverage)
    coverage.start()
    pytest.main([*_OPTIONS[1:], *paths], plugins=[noting])
    coverage.stop()
    seconds = {name: spent for name, spent in noting.seconds.items() if name not in noting.failed}
    found = {"seconds": seconds, "lines": _lines(coverage.get_data(), seconds), "failed": sorted(noting.failed)}
    kept.write_text(json.dumps(found), encoding="utf-8")
    os._exit(0)


def _lines(data: CoverageData, tests: dict[str, float]) -> dict[str, dict[int, list[str]]]:
    lines = {}
    for file in data.measured_files():
        of = {line: [name for name in names if name in tests] for line, names in data.contexts_by_lineno(file).items()}
        lines[str(Path(file).relative_to(Path.cwd()))] = {line: names for line, names in of.items() if names}
    return lines


def _enter(tree: Path, output: Path) -> None:
    """Turn a forked process to a copy of the project, in a group of its own, with its output in a file."""
    os.setsid()
    os.chdir(tree)
    sys.path[:] = [str(tree), *(path for path in sys.path if path not in {"", os.environ.get("PYTHONPATH")})]
    os.environ |= {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    sys.dont_write_bytecode = True  # a change of the same size in the same second would not be compiled again
    for name in [name for name in sys.modules if name.partition(".")[0] == "tests"]:
        del sys.modules[name]
    with output.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)


def import_heavy() -> None:
    """Load the large packages, so that no forked process has to. Nothing of them runs before the forks."""
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
    for name in _HEAVY:
        importlib.import_module(name)


def judge(change: Change, tests: list[str], tree: Path, seconds: float) -> int:
    """Start the tests on a changed copy, and return the process. Its exit code is pytest's."""
    child = os.fork()
    if child == 0:
        code = int(pytest.ExitCode.INTERNAL_ERROR)
        try:
            code = _judge(change, tests, tree, seconds)
        finally:
            os._exit(code)  # whatever was raised must not unwind what belongs to the parent
    return child


def _judge(change: Change, tests: list[str], tree: Path, seconds: float) -> int:
    _enter(tree, tree.with_suffix(".txt"))
    limit = int(30 + _PATIENCE * seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
    file = tree / change.file
    file.write_bytes(change.applied(file.read_bytes()))
    files = list(dict.fromkeys(name.partition("::")[0] for name in tests))
    late = _Late()
    code = int(pytest.main([*_OPTIONS, f"--timeout={_LONGEST}", *files], plugins=[_Chosen(tests), late]))
    return LATE if late.found else code


def ended(running: dict[int, float], limit: float) -> tuple[int, int]:
    """Wait for one of the running processes, and return it with its exit code; end what outlives the limit."""
    while True:
        process, status = os.waitpid(-1, os.WNOHANG)
        if process in running:
            _end_group(process)
            return process, os.waitstatus_to_exitcode(status)
        for late in (process for process, since in running.items() if time.monotonic() - since > limit):
            _end_group(late)
        time.sleep(0.02)


def _end_group(process: int) -> None:
    try:
        os.killpg(process, signal.SIGKILL)
    except ProcessLookupError:
        return
