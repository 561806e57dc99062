"""Who may import whom, and what no module may do. Read from the source: nothing is imported."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CLIENT = ROOT / "client"

# What of the project each part may import. A part that is not here may not exist.
MAY_IMPORT = {
    "jobs": set(),
    "features": {"jobs"},
    "scoring": {"features", "jobs"},
    "decision_log": {"features", "jobs", "scoring"},
    "monitoring": {"features", "jobs", "scoring", "decision_log"},
    "serving": {"features", "jobs", "scoring", "decision_log", "monitoring"},
    "service": {"features", "jobs", "scoring", "decision_log", "monitoring", "serving"},
    "training": {"features", "jobs", "scoring", "decision_log", "monitoring"},
    "credit_scoring_client": set(),
    "benchmarks": {"configs", "features", "jobs", "scoring", "decision_log", "monitoring", "training"},
    "deploy": {"benchmarks", "features", "jobs", "monitoring", "scoring", "serving"},
    "docs": {"features", "jobs", "serving"},
    "configs": {"features", "jobs", "training"},
    "examples": {"configs", "credit_scoring_client", "features", "monitoring", "scoring", "serving", "training"},
}
EXCEPTIONS = {
    "scoring.__main__": {"decision_log"},
    "benchmarks.look_ups": {"serving"},
    "benchmarks.trees": {"serving"},
}
"""The program composes its commands: those about the log are `python -m scoring`'s too, and no other module knows.

The stages of a request are timed by the functions that serve it, decoding and encoding among them.
"""
SERVED = ("features", "jobs", "scoring", "decision_log", "serving", "service")
NOT_SERVED = {"pandas", "sklearn", "scipy", "fairlearn", "mlflow", "optuna", "matplotlib", "imblearn", "xgboost"}
ONLY_WHEN_NEEDED = {"jinja2", "pyarrow", "tqdm"}
NEED_ARROW = {
    *("features.database", "features.files", "features.history_files", "features.materialize", "features.sources"),
    *("scoring.batch", "scoring.cluster", "scoring.engines", "scoring.histories", "scoring.identifiers"),
    *("scoring.job", "scoring.part"),
    "serving.columnar",
}


def _found() -> dict[str, Path]:
    """Every module of the project by its dotted name, the tests aside."""
    folders = {file.parent for file in ROOT.glob("[!.]*/*.py")} - {ROOT / "tests"}
    files = [(ROOT, file) for file in ROOT.glob("*.py")]
    files += [(ROOT, file) for folder in folders for file in folder.rglob("*.py")]
    files += [(CLIENT, file) for file in CLIENT.rglob("*.py")]
    files += [(ROOT, file) for file in (ROOT / "configs").rglob("*.py") if "tests" not in file.parts]
    return {_name(file.relative_to(root)): file for root, file in sorted(files)}


def _name(relative: Path) -> str:
    parts = relative.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = _found()
TREES = {name: ast.parse(file.read_text(encoding="utf-8")) for name, file in MODULES.items()}
every_part = pytest.mark.parametrize("part", sorted(MAY_IMPORT))
every_served_part = pytest.mark.parametrize("part", SERVED)


def imports(nodes: Iterator[ast.AST]) -> Iterator[tuple[str, int]]:
    """The absolute names of all modules that are imported, and how many dots stand before each."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((alias.name, 0) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield (name if name in MODULES else node.module or "", node.level)


def when_loaded(statements: list[ast.stmt]) -> Iterator[ast.AST]:
    """The statements that run when a module is imported, in the blocks of `if`, `try`, `with` and classes too."""
    for statement in statements:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        yield statement
        if isinstance(statement, ast.If) and ast.unparse(statement.test) == "TYPE_CHECKING":
            yield from when_loaded(statement.orelse)
            continue
        for block in ("body", "orelse", "finalbody"):
            yield from when_loaded(getattr(statement, block, []))
        for handler in getattr(statement, "handlers", []):
            yield from when_loaded(handler.body)


def top(name: str) -> str:
    return name.partition(".")[0]


def of_part(part: str) -> dict[str, set[str]]:
    """What each module of a part imports, wherever in it that is written."""
    return {name: {to for to, _ in imports(ast.walk(tree))} for name, tree in TREES.items() if top(name) == part}


def loaded_by(module: str) -> set[str]:
    return {name for name, _ in imports(when_loaded(TREES[module].body))}


def offences(found: dict[str, set[str]], allowed: set[str]) -> dict[str, set[str]]:
    return {module: names - allowed for module, names in found.items() if names - allowed}


def test_every_part_of_the_project_has_its_rule():
    # A portfolio without a generator has no modules.
    assert set(MAY_IMPORT) - {"configs"} == {top(name) for name in MODULES} - {"configs"}


@every_part
def test_a_part_imports_no_other_part_than_its_rule_says(part):
    parts = {*MAY_IMPORT, "tests"}
    found = {
        module: ({top(name) for name in names} & parts) - EXCEPTIONS.get(module, set())
        for module, names in of_part(part).items()
    }
    assert offences(found, {part} | MAY_IMPORT[part]) == {}


def test_no_module_imports_itself_by_way_of_others():
    TopologicalSorter({name: loaded_by(name) & set(MODULES) for name in MODULES}).prepare()


def test_a_name_has_one_address():
    """No package hands on names of its modules; the client, which is installed by others, does."""
    inits = {name for name, file in MODULES.items() if file.name == "__init__.py"} - {"credit_scoring_client"}
    assert {name for name in inits if any(isinstance(node, ast.ImportFrom) for node in TREES[name].body)} == set()


def test_every_import_is_absolute():
    found = {name for name, tree in TREES.items() if any(dots for _, dots in imports(ast.walk(tree)))}
    assert found == set()


@every_served_part
def test_what_is_served_imports_nothing_of_the_training_environment(part):
    found = {module: {top(name) for name in names} & NOT_SERVED for module, names in of_part(part).items()}
    assert offences(found, set()) == {}


@every_served_part
def test_what_the_serving_image_may_lack_is_imported_only_when_it_is_needed(part):
    modules = [name for name in MODULES if top(name) == part and name not in NEED_ARROW]
    found = {
        name: {to for to in loaded_by(name) if top(to) in ONLY_WHEN_NEEDED or to in NEED_ARROW} for name in modules
    }
    assert offences(found, set()) == {}


@pytest.mark.parametrize("module", ["serving.engine", "monitoring.recorder"])
def test_what_is_served_loads_without_anything_the_serving_image_lacks(module):
    code = f"import sys; import {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(loaded.stdout.split()) & (NOT_SERVED | ONLY_WHEN_NEEDED) == set()


@every_part
def test_nothing_is_printed(part):
    calls = {
        name: {
            node.lineno for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "print"
        }
        for name, tree in TREES.items()
        if top(name) == part
    }
    assert {name: lines for name, lines in calls.items() if lines} == {}
