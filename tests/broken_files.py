"""Kinds of broken files of keys."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

LIMIT = 1 << 19
ID, SALT, DIGEST = "0123456789ab", "0" * 32, "0" * 64
ROW = f"id: '{ID}', name: a, scopes: [predict], salt: '{SALT}', digest: '{DIGEST}'"
LAUGHS = "a: &a [x, x]\n" + "".join(
    f"b{i}: &b{i} [{', '.join(['*a' if i == 0 else f'*b{i - 1}'] * 9)}]\n" for i in range(30)
)
MERGES = "a: &a {k: v}\n" + "".join(
    f"b{i}: &b{i} {{<<: [{', '.join(['*a' if i == 0 else f'*b{i - 1}'] * 9)}]}}\n" for i in range(30)
)

CONTENTS: dict[str, str | bytes] = {
    "nothing": "",
    "blanks": " \n\n",
    "a comment": "# keys: []",
    "null": "null",
    "a text": "keys",
    "a list": "- keys",
    "a number": "5",
    "no keys": "{}",
    "keys are null": "keys:",
    "keys are a text": "keys: all",
    "keys are a mapping": "keys: {a: b}",
    "another name": "keyz: []",
    "one name more": "keys: []\nmore: 1",
    "a name twice": "keys: []\nkeys: []",
    "a name that is no text": "keys: []\n1: 2",
    "a name that is null": "keys: []\n~: 2",
    "a name that is a list": "? [keys]\n: []",
    "two documents": "keys: []\n---\nkeys: []",
    "documents without end": "---\n" * 1000,
    "no such month": f"keys: [{{{ROW}, created: 2026-13-45}}]",
    "no such hour": f"keys: [{{{ROW}, created: 2026-11-27 99:99:99}}]",
    "no such zone": f"keys: [{{{ROW}, created: 2026-11-27T10:00:00+99:99}}]",
    "year 0": f"keys: [{{{ROW}, created: 0000-01-01}}]",
    "a date without zone": f"keys: [{{{ROW}, created: 2026-11-27T10:00:00}}]",
    "a tagged date": "keys: !!timestamp yesterday",
    "a rate that is none": f"keys: [{{{ROW}, created: 2026-11-27T10:00:00Z, requests_per_second: .nan}}]",
    "an infinite rate": f"keys: [{{{ROW}, created: 2026-11-27T10:00:00Z, requests_per_second: .inf}}]",
    "a negative rate": f"keys: [{{{ROW}, created: 2026-11-27T10:00:00Z, requests_per_second: -1}}]",
    "a huge number": f"keys: {'9' * 6000}",
    "a huge hexadecimal number": f"keys: 0x{'f' * 6000}",
    "a huge octal number": f"keys: 0{'7' * 6000}",
    "a huge binary number": f"keys: 0b{'1' * 60000}",
    "a huge sexagesimal number": f"keys: {'1:' * 3000}1",
    "a huge fraction": f"keys: 1.{'1' * 6000}",
    "an empty number": "keys: !!int ''",
    "an empty float": "keys: !!float ''",
    "a boolean that is none": "keys: !!bool perhaps",
    "brackets": "[" * 20_000,
    "braces": "{" * 20_000,
    "nested maps": "{a: " * 20_000,
    "nested lists": "- " * 20_000,
    "nested questions": "? " * 20_000,
    "closed brackets": "[" * 5_000 + "]" * 5_000,
    "laughs": LAUGHS,
    "merged laughs": MERGES,
    "many values": f"keys: [{'1, ' * 60_000}]",
    "an alias to itself": "keys: &a [*a]",
    "a mapping that holds itself": "&a {keys: *a}",
    "a merge of itself": "&a {<<: *a}",
    "a merge of a number": "<<: 3\nkeys: []",
    "an alias to nothing": "keys: *a",
    "an escape beyond Unicode": 'keys: "\\U00110000"',
    "an escape that is none": 'keys: "\\q"',
    "half a surrogate": 'keys: "\\ud800"',
    "a NUL": "keys: []\0",
    "NULs": b"\0" * 4096,
    "a tab": "\tkeys: []",
    "Latin 1": "keys: [\xe9]".encode("latin-1"),
    "UTF-16 without a mark": "keys: []".encode("utf-16-le"),
    "half a UTF-16 character": b"\xff\xfek\0e",
    "UTF-32": "keys: []".encode("utf-32"),
    "binary that is none": "keys: !!binary x",
    "binary": "keys: !!binary aGVsbG8=",
    "a Python object": "keys: !!python/object/apply:os.getcwd []",
    "a Python tuple": "keys: !!python/tuple []",
    "an unknown tag": "keys: !mine []",
    "a set": "keys: !!set {a, b}",
    "an ordered map": "keys: !!omap [a: 1, a: 2]",
    "a directive that is none": "%YAML 9.9\n---\nkeys: []",
    "JSON cut off": '{"keys": [',
    "a text cut off": 'keys: "',
    "a row cut off": f"keys:\n- id: '{ID}'\n  na",
    "a conflict of git": "<<<<<<< HEAD\nkeys: []\n=======\nkeys: []\n>>>>>>> other\n",
    "a page of HTML": "<!doctype html><html><body>404: not found</body></html>",
    "too large": "#" * (LIMIT + 1),
}


def _folder(path: Path) -> None:
    path.mkdir()


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        here = Path.cwd()
        os.chdir(path.parent)  # the name of a socket must be short
        try:
            made.bind(path.name)
        finally:
            os.chdir(here)


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 30)


def _written_by_all(path: Path) -> None:
    path.write_text("keys: []\n")
    path.chmod(0o666)


THINGS: dict[str, Callable[[Path], object]] = {
    "nothing there": Path.is_file,
    "a folder": _folder,
    "a pipe": _pipe,
    "a socket": _socket,
    "a gigabyte of nothing": _sparse,
    "what everybody may write": _written_by_all,
    "a link to nothing": lambda path: path.symlink_to("nothing"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to a folder": lambda path: path.symlink_to("."),
    "a link into a file": lambda path: path.symlink_to("spare/x"),
    "a link with a long name": lambda path: path.symlink_to("x" * 300),
    "zeros without end": lambda path: path.symlink_to("/dev/zero"),
    "the null device": lambda path: path.symlink_to("/dev/null"),
    "a terminal": lambda path: path.symlink_to("/dev/tty"),
    "an error of the device": lambda path: path.symlink_to("/proc/self/mem"),
}


def written(content: str | bytes) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    return write


KINDS = {**{name: written(content) for name, content in CONTENTS.items()}, **THINGS}


def put(kind: str, path: Path) -> None:
    """Put what is broken in the place of the file, in one step where that is possible.

    Beside it lies a file named "spare", to which one of the links leads.
    """
    broken = path.with_name("broken")
    KINDS[kind](broken)
    if kind in ("a folder", "nothing there"):
        path.unlink()
    if kind != "nothing there":
        broken.replace(path)


def mend(path: Path, good: Path) -> None:
    """Put a good file in the place of whatever is there."""
    if not path.is_symlink() and path.is_dir():
        path.rmdir()
    good.replace(path)
