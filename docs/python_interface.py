"""The pages of the Python interface: the public names of each module, for mkdocstrings to fill from the docstrings."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

_PACKAGES = (
    "client/credit_scoring_client", "jobs", "features", "scoring", "decision_log", "monitoring", "serving", "training",
)  # fmt: skip
_NO_INTERFACE = {"cli", "__main__", "version"}
_HEAD = """# Python interface

The public names of each module. Import a name from the module that defines it; of the client, from
`credit_scoring_client`. The pages are made from the docstrings. [The architecture](../../explanation/architecture.md)
says which package may import which.

"""


def python_pages(root: Path) -> dict[str, str]:
    """A page for each package that has public names, and the page that lists them."""
    packages = dict(_packages(root))
    pages = {f"python/{package}.md": _page(package, modules) for package, modules in packages.items()}
    rows = [f"- [`{package}`]({package}.md): {', '.join(modules)}" for package, modules in packages.items()]
    return {"python/index.md": _HEAD + "\n".join(rows) + "\n", **pages}


def public_names(source: str) -> list[str]:
    """The functions and classes of a module whose names do not begin with an underscore.

    >>> public_names("X = 1\\ndef a(): ...\\nclass B: ...\\ndef _c(): ...")
    ['a', 'B']
    """
    defining = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    names = [node.name for node in ast.parse(source).body if isinstance(node, defining)]
    return [name for name in names if not name.startswith("_")]


def _packages(root: Path) -> Iterator[tuple[str, list[str]]]:
    for top in _PACKAGES:
        for folder in sorted({file.parent for file in (root / top).rglob("*.py")}):
            modules = [file.stem for file in sorted(folder.glob("*.py")) if file.stem not in _NO_INTERFACE]
            public = [name for name in modules if public_names((folder / f"{name}.py").read_text(encoding="utf-8"))]
            if public:
                yield ".".join(folder.relative_to((root / top).parent).parts), public


def _page(package: str, modules: list[str]) -> str:
    parts = [f"# {package}"]
    parts += [f"::: {package}.{name}\n    options:\n      show_root_heading: true" for name in modules]
    return "\n\n".join(parts) + "\n"
