"""The pages of the Python interface: what each package exports, for mkdocstrings to fill from the docstrings."""

from __future__ import annotations

import ast
from pathlib import Path

_ASIDE = {"tests", "benchmarks", "deploy", "docs", "examples"}
_HEAD = """# Python interface

What other code may import: the names in `__all__` of each package. The pages are made from the docstrings.

"""


def python_pages(root: Path) -> dict[str, str]:
    """A page for each package that exports something, and the page that lists them."""
    packages = {
        ".".join(file.parent.relative_to(root).parts): file for file in sorted(root.glob("[!.]*/**/__init__.py"))
    }
    exported = {
        name.removeprefix("client."): _exported(file)
        for name, file in packages.items()
        if name.partition(".")[0] not in _ASIDE and _exported(file)
    }
    pages = {f"python/{package}.md": _page(package, names) for package, names in exported.items()}
    rows = [f"- [`{package}`]({package}.md): {len(names)} names" for package, names in exported.items()]
    return {"python/index.md": _HEAD + "\n".join(rows) + "\n", **pages}


def _page(package: str, names: list[str]) -> str:
    lines = [f"# {package}", "", f"::: {package}", "    options:", "      members:"]
    return "\n".join([*lines, *(f"        - {name}" for name in names if name != "__version__")]) + "\n"


def _exported(file: Path) -> list[str]:
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    return []
