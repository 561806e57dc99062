"""Who may import whom, and what no module may do. Read from the source: nothing is imported."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CLIENT = ROOT / "client"

# What of the project each part may import. A part that is not here may not exist.
MAY_IMPORT = {
    "features": set(),
    "access": {"features"},
    "scoring": {"access", "features"},
    "monitoring": {"features", "scoring"},
    "serving": {"access", "features", "scoring", "monitoring"},
    "service": {"access", "features", "scoring", "monitoring", "serving"},
    "training": {"features", "scoring", "monitoring"},
    "credit_scoring_client": set(),
    "benchmarks": {"access", "features", "scoring", "monitoring"},
    "deploy": {"access", "benchmarks", "features", "serving"},
    "docs": {"serving"},
    "examples": {"access", "credit_scoring_client", "features", "scoring", "serving"},
}
SERVED = ("access", "features", "scoring", "serving", "service")
NOT_SERVED = {"pandas", "sklearn", "mlflow", "optuna", "matplotlib", "imblearn", "xgboost", "sqlalchemy"}
ONLY_WHEN_NEEDED = {"pyarrow", "tqdm"}
NEEDS_ARROW = "features.files"


def _found() -> dict[str, Path]:
    """Every module of the project by its dotted name, the tests aside."""
    folders = {file.parent for file in ROOT.glob("[!.]*/*.py")} - {ROOT / "tests"}
    files = [(ROOT, file) for file in ROOT.glob("*.py")]
    files += [(ROOT, file) for folder in folders for file in folder.rglob("*.py")]
    files += [(CLIENT, file) for file in CLIENT.rglob("*.py")]
    return {_name(file.relative_to(root)): file for root, file in sorted(files)}


def _name(relative: Path) -> str:
    parts = relative.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = _found()
TREES = {name: ast.parse(file.read_text(encoding="utf-8")) for name, file in MODULES.items()}
PACKAGES = {name for name, file in MODULES.items() if file.name == "__init__.py"}
PARTS = {name.partition(".")[0] for name in MODULES}

every_part = pytest.mark.parametrize("part", sorted(MAY_IMPORT))
every_served_part = pytest.mark.parametrize("part", SERVED)
every_package = pytest.mark.parametrize("package", sorted(PACKAGES))


def imports(module: str, nodes: Iterator[ast.AST] | None = None) -> set[str]:
    """The absolute names of all modules that the module imports, wherever in it that is written."""
    found = set()
    for node in nodes or ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= set(_from(module, node))
    return found


def _from(module: str, node: ast.ImportFrom) -> Iterator[str]:
    source = _absolute(module, node)
    for alias in node.names:
        name = f"{source}.{alias.name}"
        yield name if name in MODULES else source


def _absolute(module: str, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    parts = module.split(".") if module in PACKAGES else module.split(".")[:-1]
    base = parts[: len(parts) - node.level + 1]
    return ".".join([*base, *([node.module] if node.module else [])])


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


def offences(part: str, offending: Callable[[str], set[str]]) -> dict[str, set[str]]:
    """For each module of a part that imports what it must not, what that is."""
    found = {module: offending(module) for module in MODULES if top(module) == part}
    return {module: names for module, names in found.items() if names}


def private(module: str) -> set[str]:
    """The modules that `module` imports out of a package that it does not belong to."""
    foreign = {name for name in imports(module) & set(MODULES) - PACKAGES if "." in name}
    return {name for name in foreign if not f"{module}.".startswith(f"{name.rpartition('.')[0]}.")}


def test_every_part_of_the_project_has_its_rule():
    assert set(MAY_IMPORT) == PARTS


@every_part
def test_a_part_imports_no_other_part_than_its_rule_says(part):
    allowed = {part} | MAY_IMPORT[part]
    assert offences(part, lambda module: {top(name) for name in imports(module)} & {*PARTS, "tests"} - allowed) == {}


@every_part
def test_nobody_imports_the_service(part):
    assert offences(part, lambda module: imports(module) & {"service"}) == {}


@every_part
def test_nothing_is_imported_past_the_init_of_a_package(part):
    assert offences(part, private) == {}


@every_served_part
def test_what_is_served_imports_nothing_of_the_training_environment(part):
    assert offences(part, lambda module: {top(name) for name in imports(module)} & NOT_SERVED) == {}


@every_served_part
def test_what_the_serving_image_may_lack_is_imported_only_when_it_is_needed(part):
    def loaded(module: str) -> set[str]:
        names = imports(module, when_loaded(TREES[module].body))
        return {name for name in names if top(name) in ONLY_WHEN_NEEDED or name == NEEDS_ARROW}

    assert offences(part, loaded) == ({NEEDS_ARROW: {"pyarrow"}} if part == "features" else {})


@pytest.mark.parametrize("package", ["features", "monitoring.recording"])
def test_what_is_served_loads_without_anything_the_serving_image_lacks(package):
    code = f"import sys; import {package}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(loaded.stdout.split()) & (NOT_SERVED | ONLY_WHEN_NEEDED | {"scipy", "fairlearn"}) == set()


def exported(package: str) -> list[str] | None:
    """`__all__` of a package, None if it has none."""
    for node in TREES[package].body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    return None


def public_names(package: str) -> set[str]:
    """What the `__init__` of a package imports or defines for others."""
    names = set()
    for node in TREES[package].body:
        if isinstance(node, ast.ImportFrom) and node.module != "__future__":
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {ast.unparse(target) for target in node.targets} - {"__all__"}
    return {name for name in names if not re.match(r"_[^_]", name)}


def isort_style(name: str) -> tuple[int, list[tuple[int, int | str]]]:
    """The order of ruff's RUF022: CONSTANTS, Classes, the rest; numbers in a name by their value."""
    kind = 0 if name.isupper() and len(name) > 1 else 1 if name[0].isupper() else 2
    pieces = re.findall(r"\d+|\D+", name)
    return kind, [(0, int(piece)) if piece.isdigit() else (1, piece) for piece in pieces]


@every_package
def test_a_package_exports_what_it_imports_and_nothing_else(package):
    assert set(exported(package) or []) == public_names(package)


@every_package
def test_what_a_package_exports_is_sorted_and_named_once(package):
    names = exported(package) or []
    assert names == sorted(set(names), key=isort_style)


@every_part
def test_nothing_is_printed(part):
    def printing(module: str) -> set[str]:
        calls = [node for node in ast.walk(TREES[module]) if isinstance(node, ast.Call)]
        return {f"line {call.lineno}" for call in calls if ast.unparse(call.func) == "print"}

    assert offences(part, printing) == {}


@pytest.mark.parametrize(
    ("module", "source", "imported"),
    [
        ("scoring.batch", "import features.files", {"features.files"}),
        ("scoring.batch", "from features.files import open_file", {"features"}),
        ("scoring.batch", "from features import files", {"features.files"}),
        ("scoring.batch", "from features.files import open_file", {"features.files"}),
        ("scoring.batch", "from .staging import staged", {"scoring.staging"}),
        ("scoring.batch", "from . import staging", {"scoring.staging"}),
        ("scoring", "from .staging import staged", {"scoring.staging"}),
        ("scoring.batch", "def f():\n    import pandas as pd", {"pandas"}),
        ("scoring.batch", "if TYPE_CHECKING:\n    import pandas.core", {"pandas.core"}),
    ],
)
def test_these_rules_see_every_way_to_import(monkeypatch, module, source, imported):
    monkeypatch.setitem(TREES, module, ast.parse(source))
    assert imports(module) == imported


@pytest.mark.parametrize(
    ("source", "loaded"),
    [
        ("import tqdm", {"tqdm"}),
        ("def f():\n    import tqdm", set()),
        ("if TYPE_CHECKING:\n    import tqdm", set()),
        ("if TYPE_CHECKING:\n    pass\nelse:\n    import tqdm", {"tqdm"}),
        ("try:\n    pass\nexcept ImportError:\n    import tqdm", {"tqdm"}),
        ("try:\n    import tqdm\nfinally:\n    import csv", {"tqdm", "csv"}),
        ("class A:\n    import tqdm\n    def f(self):\n        import csv", {"tqdm"}),
        ("with open('x'):\n    import tqdm", {"tqdm"}),
    ],
)
def test_these_rules_see_what_is_imported_when_a_module_is_loaded(monkeypatch, source, loaded):
    monkeypatch.setitem(TREES, "scoring.batch", ast.parse(source))
    assert imports("scoring.batch", when_loaded(TREES["scoring.batch"].body)) == loaded


@pytest.mark.parametrize(
    ("module", "source", "offence"),
    [
        ("scoring.batch", "from features.files import open_file", {"features.files"}),
        ("scoring.batch", "from features import files", {"features.files"}),
        ("scoring.batch", "from features.files import open_file", set()),
        ("service", "import features.files", {"features.files"}),
        ("features.transformer", "from .files import open_file", set()),
        ("features.transformer", "from features.files import open_file", set()),
        ("training.cli", "from .synthesis import synthesize", set()),
        ("training.cli", "from .synthesis.tables import ALL", {"training.synthesis.dataset"}),
        ("training.synthesis.dataset", "from ..errors import TrainingError", set()),
    ],
)
def test_these_rules_see_what_is_imported_past_an_init(monkeypatch, module, source, offence):
    monkeypatch.setitem(TREES, module, ast.parse(source))
    assert private(module) == offence
