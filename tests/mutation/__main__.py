"""`make mutants`: change one thing at a time, and count how often a test notices.

mutmut 3 changes only the bodies of undecorated functions: no property, no default of a setting, no constant. It also
forks a process in which LightGBM's threads have run. cosmic-ray starts one command for every change and draws no
sample. So the project has a run of its own: a seeded sample, each change on a copy of the tree, judged by the tests
that run the changed line, cheapest first.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.mutation.changes import Change, changes
from tests.mutation.judging import LATE, Tests, copy_project, ended, import_heavy, judge, observed

ROOT = Path(__file__).resolve().parents[2]
EQUIVALENT = Path(__file__).with_name("equivalent.yaml")
PACKAGES = {
    "features": ["features/*.py"],
    "jobs": ["jobs/*.py"],
    "scoring": ["scoring/*.py"],
    "access": ["scoring/keys.py", "serving/authentication.py"],
    "monitoring": [  # its statistics, and the recording of decisions
        *("monitoring/drift.py", "monitoring/fairness.py", "monitoring/measures.py", "monitoring/outcomes.py"),
        *("monitoring/performance.py", "monitoring/realised.py", "monitoring/statistics.py"),
        *("monitoring/counts.py", "monitoring/windows.py", "monitoring/recorder.py", "monitoring/windows.py"),
        *("decision_log/format.py", "decision_log/writer.py"),
    ],
    "training": ["training/evaluation.py", "training/gates.py", "training/gates.py", "training/registry/promotion.py"],
}
_FOLDERS = ["decision_log", "features", "jobs", "monitoring", "scoring", "serving", "training"]
TESTS = [*_FOLDERS[:4], *(f"tests/{part}" for part in (*PACKAGES, "serving"))]
# They take minutes, and what they hold is judged by cheaper tests too.
TESTS += [f"--ignore=tests/{slow}" for slow in ("deploy/observability", "training/synthesis", "training/tuning")]
TESTS += [
    f"--ignore=tests/training/test_{slow}.py"
    for slow in ("commands", "delivery", "experiments", "options", "report", "trainer")
]
_ENDED = (signal.SIGKILL, signal.SIGXCPU)
_UNNOTICED = (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)


@dataclass(frozen=True, slots=True)
class Options:
    """What is asked of a run."""

    packages: list[str]
    sample: int
    seed: int
    workers: int
    budget: float
    only: str
    kept: Path
    into: Path | None

    def command(self, package: str) -> str:
        """What gives the result of one package again."""
        only = f" --only {self.only}" if self.only else ""
        return (
            f"python -m tests.mutation --packages {package}{only}"
            f" --sample {self.sample} --seed {self.seed} --budget {self.budget:g}"
        )


def options(arguments: list[str]) -> Options:
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutation", description="Change one thing at a time; count how often a test notices."
    )
    parser.add_argument("--packages", nargs="+", choices=PACKAGES, default=list(PACKAGES))
    parser.add_argument("--sample", type=int, default=150, help="changes of each package")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--budget", type=float, default=60.0, help="processor seconds that the tests of one change may need unchanged"
    )
    parser.add_argument("--only", default="", help="changes of files whose path begins so")
    parser.add_argument(
        "--kept", type=Path, default=None, help="file that keeps which test runs which line; read if it is there"
    )
    parser.add_argument("--into", type=Path, default=None, help="JSON file for the result")
    return Options(**vars(parser.parse_args(arguments)))


def drawn(root: Path, package: str, asked: Options) -> tuple[int, list[Change]]:
    """How many changes a package has, and a sample of them, the same for a seed wherever the code is moved."""
    files = sorted(file.relative_to(root).as_posix() for pattern in PACKAGES[package] for file in root.glob(pattern))
    every = [change for file in files if file.startswith(asked.only) for change in changes(root, file)]
    sample = sorted(every, key=lambda change: _lot(asked.seed, change))[: asked.sample]
    return len(every), sorted(sample, key=lambda change: (change.file, change.span, change.after))


def _lot(seed: int, change: Change) -> bytes:
    return hashlib.sha256(repr((seed, change.function, change.line, change.words)).encode()).digest()


def judged(
    root: Path, sample: list[Change], tests: Tests, trees: list[Path], budget: float
) -> Iterator[tuple[Change, str]]:
    """What became of each change: killed, endless or survived."""
    free = list(trees)
    running: dict[int, tuple[Change, Path]] = {}
    since: dict[int, float] = {}
    waiting = sample[::-1]
    while waiting or running:
        while free and waiting:
            change = waiting.pop()
            chosen = tests.of(change, budget)
            tree = free.pop()
            process = judge(change, chosen, tree, sum(tests.seconds[name] for name in chosen))
            running[process], since[process] = (change, tree), time.monotonic()
        if running:
            process, code = ended(since, limit=900.0)
            del since[process]
            change, tree = running.pop(process)
            shutil.copy2(root / change.file, tree / change.file)
            free.append(tree)
            yield change, _result(code)


def _result(code: int) -> str:
    if code in _UNNOTICED:
        return "survived"
    return "endless" if code == LATE or -code in _ENDED else "killed"


def reviewed() -> dict[tuple[str, str, str, str], str]:
    """The changes that a person found to change nothing, with the reason."""
    entries = yaml.safe_load(EQUIVALENT.read_text(encoding="utf-8")) or []
    return {(entry["file"], entry["function"], entry["line"], entry["change"]): entry["why"] for entry in entries}


def counted(possible: int, results: list[tuple[Change, str]]) -> dict[str, Any]:
    """The result of one package."""
    equivalent = reviewed()
    alive = [change for change, result in results if result == "survived"]
    survived = [change for change in alive if _key(change) not in equivalent]
    killed = len(results) - len(alive)
    return {
        "possible": possible,
        "made": len(results),
        "killed": killed,
        "of which endless": sum(result == "endless" for _, result in results),
        "equivalent": len(alive) - len(survived),
        "score": round(killed / max(killed + len(survived), 1), 3),
        "survivors": [
            {"place": f"{change.file}:{change.number}", "function": change.function, "change": change.words}
            for change in survived
        ],
    }


def _key(change: Change) -> tuple[str, str, str, str]:
    return change.file, change.function, change.line, change.words


def main(arguments: list[str]) -> None:
    asked = options(arguments)
    import_heavy()
    with tempfile.TemporaryDirectory(prefix="mutants-") as scratch:
        folder = Path(scratch).resolve()
        root, *trees = (copy_project(ROOT, folder / f"tree{index}") for index in range(asked.workers + 1))
        tests = observed(trees[0], _FOLDERS, TESTS, asked.kept or folder / "map")
        _hold_the_unchanged(root, tests, trees[:1], asked.budget)
        for package in asked.packages:
            possible, sample = drawn(root, package, asked)
            results = [_told(*result) for result in judged(root, sample, tests, trees, asked.budget)]
            found = counted(possible, results)
            _say(f"{package}: {found['killed']} of {len(results)} noticed, {found['score']:.1%}")
            if asked.into:
                _publish(
                    asked.into,
                    package,
                    {"date": f"{datetime.now(UTC):%Y-%m-%d}", "command": asked.command(package)} | found,
                )


def _publish(into: Path, package: str, found: dict[str, Any]) -> None:
    """Put the result of a package in place of its last one; those of the others stay."""
    content: dict[str, Any] = json.loads(into.read_text(encoding="utf-8")) if into.exists() else {"packages": {}}
    content["packages"] |= {package: found}
    into.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _hold_the_unchanged(root: Path, tests: Tests, trees: list[Path], budget: float) -> None:
    """A test that fails without a change would notice every change."""
    unchanged = Change("features/__init__.py", "", 0, "", "", "", (0, 0))
    if [result for _, result in judged(root, [unchanged], tests, trees, budget)] != ["survived"]:
        sys.exit(f"the tests fail without a change: {trees[0].with_suffix('.txt').read_text(encoding='utf-8')[-2000:]}")


def _told(change: Change, result: str) -> tuple[Change, str]:
    if result != "killed":
        _say(f"{result} {change.file}:{change.number} {change.function} | {change.line} | {change.words}")
    return change, result


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
