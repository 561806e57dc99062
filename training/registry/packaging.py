"""Packaging copies the code that computes scores into a logged model and takes the digest of all logged files.

The copied packages get one name that holds the digest of the code: `features` and `scoring` are names that many
projects have, and two versions may be loaded side by side.
"""

from __future__ import annotations

import ast
import hashlib
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jobs.errors import SettingsError
from jobs.settings import Settings
from training.errors import RegistryError

_ROOT = Path(__file__).resolve().parent.parent.parent
_PACKAGES = ("features", "jobs", "scoring")
_LOADER = "pyfunc.py"
_LOADER_MODULE = "mlflow.pyfunc.loaders.code_model"
_META = "registered_model_meta"  # MLflow's client writes it into what it has downloaded
_NAME_DIGITS = 12


@dataclass(frozen=True, slots=True)
class PackagedCode:
    """The packaged code is a copy of the computing code under one name.

    Attributes
    ----------
    folder : the folder of the one package that holds the others
    loader : the file that MLflow runs ("models from code")
    """

    folder: Path
    loader: Path

    @contextmanager
    def importable(self) -> Iterator[None]:
        """Put the code on the import path, since MLflow runs the loader while it logs it."""
        sys.path.insert(0, str(self.folder.parent))
        try:
            yield
        finally:
            sys.path.remove(str(self.folder.parent))


def package_code(scratch: Path) -> PackagedCode:
    """Copy the computing code of this checkout into `scratch` and change its imports to the new name."""
    name = f"credit_scoring_code_{code_digest()[:_NAME_DIGITS]}"
    folder = scratch / "code" / name
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text('"""The code that computes the scores of the model it was logged with."""\n')
    for file in _sources():
        copy = folder / file.relative_to(_ROOT)
        copy.parent.mkdir(exist_ok=True)
        copy.write_text(_renamed(file.read_text(encoding="utf-8"), name), encoding="utf-8")
    loader = scratch / _LOADER
    loader.write_text(_renamed(Path(__file__).with_name(_LOADER).read_text(encoding="utf-8"), name), encoding="utf-8")
    return PackagedCode(folder, loader)


@cache
def code_digest() -> str:
    """Return the SHA-256 over names and bytes of the computing code's files, hexadecimal."""
    return _digest(_sources(), _ROOT)


def model_digest(model: Path) -> str:
    """Return the SHA-256 over names and bytes of all files of a downloaded model, hexadecimal."""
    files = sorted(path for path in model.rglob("*") if path.is_file() and path != model / _META)
    return _digest(files, model)


def check_flavour(model: Path) -> None:
    """Refuse a downloaded model of another project's form, with a RegistryError; none of its code is run."""
    try:
        flavour = _ModelFile.load(model / "MLmodel").flavors
    except SettingsError:
        flavour = {}
    python = flavour.get("python_function", {})
    # An entry `python_model` would name a pickle, which runs code as it is read.
    sound = flavour.keys() == {"python_function"} and python.get("loader_module") == _LOADER_MODULE
    if not sound or Path(str(python.get("model_code_path"))).name != _LOADER or python.get("python_model") is not None:
        raise RegistryError("is not a model of the form that `python -m training run` logs")


class _ModelFile(Settings, extra="ignore"):
    """The part of MLflow's file MLmodel that is read."""

    flavors: dict[str, dict[str, object]]


def _sources() -> list[Path]:
    return sorted(file for package in _PACKAGES for file in (_ROOT / package).rglob("*.py"))


def _renamed(source: str, name: str) -> str:
    """The source with the name put before each import of the packages; only these lines change."""
    # Lines are edited, not the tree written out again: comments stay, and tracebacks name the lines of the checkout.
    lines = source.splitlines(keepends=True)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and not node.level and _is_ours(node.module or ""):
            line = lines[node.lineno - 1]
            lines[node.lineno - 1] = re.sub(r"^(\s*from\s+)", rf"\g<1>{name}.", line)
        elif isinstance(node, ast.Import) and any(_is_ours(alias.name) for alias in node.names):
            raise RegistryError(f"line {node.lineno}: write `from package import name`, which can be renamed")
    return "".join(lines)


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] in _PACKAGES


def _digest(files: Iterable[Path], root: Path) -> str:
    listed = (f"{sha256(file)}  {file.relative_to(root).as_posix()}\n" for file in files)
    return hashlib.sha256("".join(listed).encode()).hexdigest()


def sha256(file: Path) -> str:
    """Return the SHA-256 of a file's bytes, hexadecimal."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
