"""What a mutation run changes, and what becomes of a change."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutation.__main__ import PACKAGES, drawn, options
from tests.mutation.changes import changes

ROOT = Path(__file__).resolve().parents[2]


def changed(folder: Path, source: str) -> list[str]:
    """The source with each of its changes."""
    (folder / "module.py").write_text(source, encoding="utf-8")
    return [change.applied(source.encode()).decode() for change in changes(folder, "module.py")]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a < b", ["(a <= b)", "(a >= b)"]),
        ("a <= b < c", ["(a < b < c)", "(a > b < c)", "(a <= b <= c)", "(a <= b >= c)"]),
        ("a is not b", ["(a is b)"]),
        ("é + b", ["(é - b)"]),
        ("x += b", ["x -= b"]),
        ("a and b", ["(a or b)"]),
        ("-a", ["(a)"]),
        ("x = True", ["x = False"]),
        ("x = 3", ["x = 4"]),
        ("x = 0.0", ["x = 1.0"]),
        ("x = 'left'", ["x = 'left_'"]),
        ("x = 'a message with blanks'", []),
        ("x = max(a)", ["x = min(a)"]),
        ("x = np.floor(a)", ["x = np.ceil(a)"]),
        ("f(a)", ["pass"]),
        ("x = f(a, cut=None)", ["x = f(a)"]),
        ("x = zip(a, b, strict=True)", []),
        ("raise ValueError", ["pass"]),
        ("if a: b", ["if (not a): b"]),
        ("x = [a for a in b if a]", ["x = [a for a in b if (not a)]"]),
        (
            "def f(a: 'text' = None) -> 1:\n  '''Say.'''\n  return a",
            ["def f(a: 'text' = None) -> 1:\n  '''Say.'''\n  return None"],
        ),
        ("for a in b:\n  break", ["for a in b:\n  continue"]),
        ("x = isinstance(a, B | C)", []),
        ("__all__ = ['x']", []),
        ("@dataclass(frozen=True)\nclass A:\n  b: int = 2", ["@dataclass(frozen=True)\nclass A:\n  b: int = 3"]),
    ],
)
def test_a_change_is_of_one_place(tmp_path, source, expected):
    assert changed(tmp_path, source) == expected


def test_a_change_says_its_place(tmp_path):
    (tmp_path / "module.py").write_text("class A:\n    def f(self):\n        return self.x > 1\n")
    returned, above, *_ = changes(tmp_path, "module.py")
    assert (returned.words, returned.function, returned.number) == ("return self.x > 1 -> return None", "A.f", 3)
    assert (above.words, above.line) == ("self.x > 1 -> (self.x >= 1)", "return self.x > 1")


def test_a_seed_draws_the_same_changes_wherever_the_code_is_moved(tmp_path, monkeypatch):
    monkeypatch.setitem(PACKAGES, "shop", ["shop/*.py"])
    lines = [f"a{i} = {i}\n" for i in range(40)]
    drawn_of = {}
    for name, files in {"one": {"a": lines}, "two": {"b": lines[20:], "c": lines[:20]}}.items():
        (tmp_path / name / "shop").mkdir(parents=True)
        for file, content in files.items():
            (tmp_path / name / "shop" / f"{file}.py").write_text("".join(content))
        for seed in (1, 2):
            asked = options(["--sample", "10", "--seed", str(seed)])
            possible, sample = drawn(tmp_path / name, "shop", asked)
            drawn_of[name, seed] = sorted(change.words for change in sample)
            assert (possible, len(sample)) == (40, 10)
    assert drawn_of["one", 1] == drawn_of["two", 1] != drawn_of["one", 2] == drawn_of["two", 2]


JUDGING = """
from pathlib import Path
from tests.mutation import judging
from tests.mutation.__main__ import judged
from tests.mutation.changes import changes
from tests.mutation.judging import copy_project, observed
judging._LONGEST = 5
root, scratch = Path("project").resolve(), Path("scratch").resolve()
tree = copy_project(root, scratch / "tree")
tests = observed(tree, ["shop"], ["tests"], scratch / "map")
for change, result in judged(root, changes(root, "shop/price.py"), tests, [tree], budget=10.0):
    print(change.words, "|", result)
"""
PRICE = """
import threading

def pause(seconds):
    threading.Event().wait(seconds * 0)

def price(amount):
    return amount * 3 if amount > 9 else amount

def unseen(a, b):
    return a + b

def greeting(name):
    return hello(name)

def hello(name):
    return "hello" + name
"""
TESTS = """
from shop.price import greeting, pause, price

def test_pause():
    pause(600)

def test_price():
    assert price(20) == 60 and price(1) == 1

def test_greeting():
    assert greeting("x")
"""


def test_a_change_is_judged_by_the_tests_that_run_it(tmp_path):
    project = tmp_path / "project"
    for name, text in {
        "shop/price.py": PRICE,
        "tests/test_price.py": TESTS,
        "pyproject.toml": "[tool.pytest]\n",
    }.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text, encoding="utf-8")
    subprocess.run(["git", "init", "--quiet", project], check=True)
    (project / ".venv").symlink_to(sys.prefix)
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-c", JUDGING]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    results = dict(line.split(" | ") for line in done.stdout.splitlines())
    assert results == {
        "threading.Event().wait(seconds * 0) -> pass": "survived",
        "seconds * 0 -> (seconds / 0)": "killed",
        "0 -> 1": "endless",
        "return amount * 3 if amount > 9 else amount -> return None": "killed",
        "amount > 9 -> (amount >= 9)": "survived",
        "amount > 9 -> (amount <= 9)": "killed",
        "9 -> 10": "survived",
        "amount * 3 -> (amount / 3)": "killed",
        "3 -> 4": "killed",
        "return a + b -> return None": "survived",
        "a + b -> (a - b)": "survived",
        "return hello(name) -> return None": "killed",
        'return "hello" + name -> return None': "killed",
        "\"hello\" + name -> ('hello' - name)": "killed",
        "\"hello\" -> 'hello_'": "survived",
    }
