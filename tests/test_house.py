"""The house in figures: how many modules there are, how long they are, and what a worker loads of them."""

from __future__ import annotations

import ast
import io
import statistics
import tokenize
from collections import defaultdict

from tests.test_architecture import MODULES, TREES, loaded_by, top

TOOLING = {"benchmarks", "deploy", "docs", "examples", "configs"}
"""Not the product: what measures, ships and describes it, and generators, which go with their portfolio."""
PRODUCT = {name: file for name, file in MODULES.items() if top(name) not in TOOLING}
TEXTS = {name: file.read_text(encoding="utf-8") for name, file in PRODUCT.items()}
LINES = {name: text.count("\n") for name, text in TEXTS.items()}


def is_import(node: ast.stmt) -> bool:
    exports = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    return exports or isinstance(node, ast.Import | ast.ImportFrom)


def loaded_with(module: str) -> set[str]:
    """The modules of the project that are loaded when this one is, packages among them."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += (loaded_by(name) | {name.rpartition(".")[0]}) & set(MODULES)
    return found


def test_there_are_few_modules_and_each_holds_an_idea():
    assert len(PRODUCT) <= 188
    assert statistics.median(LINES.values()) >= 120


def test_little_of_the_code_is_imports():
    lines = sum(n.end_lineno - n.lineno + 1 for name in PRODUCT for n in TREES[name].body if is_import(n))
    assert lines / sum(LINES.values()) <= 0.08


def test_a_worker_loads_little():
    loaded = loaded_with("service")
    with_code = {name for name in loaded if MODULES[name].name != "__init__.py"}
    assert len(with_code) <= 70
    assert sum(top(name) == "monitoring" for name in loaded) <= 10
    assert not {name for name in loaded if top(name) == "training"}


def test_no_public_class_name_is_defined_twice():
    found = defaultdict(list)
    for name in PRODUCT:
        for node in ast.walk(TREES[name]):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(name)
    assert {name: modules for name, modules in found.items() if len(modules) > 1} == {}


def test_comments_say_why_but_not_too_much():
    comments = code = 0
    for text in TEXTS.values():
        tokens = tokenize.generate_tokens(io.StringIO(text).readline)
        found = [token.string for token in tokens if token.type == tokenize.COMMENT]
        comments += sum(not comment.startswith(("# type:", "# noqa", "# fmt", "# pragma")) for comment in found)
        code += sum(bool(line.strip()) and not line.strip().startswith("#") for line in text.splitlines())
    assert 0.02 <= comments / code <= 0.04


RIDDLES = {
    *("anchor", "asked", "board", "contend", "contender", "culprit", "enthrone", "joined", "journal"),
    *("keys_or_loopback", "no_codes", "reigning", "startable", "tightened"),
}
"""Names that a newcomer had to decipher. CONTRIBUTING.md has the words in their place."""


def names_in(tree: ast.Module) -> set[str]:
    found = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    found |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    found |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    defined = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    return found | {node.name for node in ast.walk(tree) if isinstance(node, defined)}


def test_no_riddle_is_a_name():
    riddles = {name: {found for found in names_in(TREES[name]) if found.strip("_") in RIDDLES} for name in PRODUCT}
    assert {name: found for name, found in riddles.items() if found} == {}
