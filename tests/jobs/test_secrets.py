"""A secret from a variable or a file: what is refused, and that no error shows it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.errors import SecretError
from jobs.settings import Secret, stated_secret

SECRET = "correct horse"


def test_a_secret_in_a_variable_is_as_it_stands_there() -> None:
    assert stated_secret({"KEY": f" {SECRET}"}, "KEY") == Secret(f" {SECRET}", "KEY", in_file=False)


@pytest.mark.parametrize("blanks", ["", "\n", " \r\n"])
def test_a_secret_in_a_file_has_no_blanks_around_it(tmp_path: Path, blanks: str) -> None:
    path = tmp_path / "secret"
    path.write_text(blanks + SECRET + blanks)
    found = stated_secret({"KEY": "", "KEY_FILE": str(path)}, "KEY")
    assert found == Secret(SECRET, f"KEY_FILE: the content of {path}", in_file=True)
    assert SECRET not in repr(found)


@pytest.mark.parametrize("environment", [{}, {"KEY": "", "KEY_FILE": ""}])
def test_where_neither_variable_is_set_there_is_none(environment: dict[str, str]) -> None:
    assert stated_secret(environment, "KEY") is None


def test_a_secret_in_two_places_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SecretError, match=r"^KEY and KEY_FILE are both set: set one of them$"):
        stated_secret({"KEY": SECRET, "KEY_FILE": str(tmp_path / "secret")}, "KEY")


def written(path: Path, content: str, mode: int) -> None:
    path.write_text(content)
    path.chmod(mode)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda _: None, "{path} cannot be read (No such file or directory)"),
        (lambda path: path.mkdir(), "{path} cannot be read (Is a directory)"),
        (os.mkfifo, "{path} cannot be read (not a regular file)"),
        (lambda path: path.symlink_to(path), "{path} cannot be read (Too many levels of symbolic links)"),
        (lambda path: written(path, SECRET * 1_000, 0o600), "{path} cannot be read (larger than 8192 bytes)"),
        (lambda path: written(path, SECRET, 0o602),
         "everybody may change {path}: allow its owner alone, as by chmod 600"),
    ],
    ids=["missing", "folder", "pipe", "loop", "large", "writable"],
)  # fmt: skip
def test_a_file_that_cannot_be_read_or_trusted_is_refused_at_once(
    tmp_path: Path, make: Callable[[Path], None], said: str
) -> None:
    path = tmp_path / "secret"
    make(path)
    with pytest.raises(SecretError) as refused:
        stated_secret({"KEY_FILE": str(path)}, "KEY")
    assert str(refused.value) == f"KEY_FILE: {said.format(path=path)}"


def test_a_path_that_no_system_takes_is_refused() -> None:
    with pytest.raises(SecretError, match=r"cannot be read \(not a path\)"):
        stated_secret({"KEY_FILE": "a\0b"}, "KEY")
