"""Files of keys that are broken in every way: the keys in force stay, it is told, and a mended file counts at once."""

from __future__ import annotations

import logging
import os
import socket
import string
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from scoring.keys import KeyFile, KeyFileError, Scope
from serving.authentication import Keyring
from serving.settings import AccessSettings
from tests.keys import Keys

SETTINGS = AccessSettings(open=(), requests_per_second=5, burst_seconds=1, reload_seconds=0.01)
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


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    made = Keys(tmp_path / "keys.yaml")
    made.create("front", Scope.PREDICT)
    (tmp_path / "spare").write_text("keys: []\n")
    return made


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def keyring(keys: Keys, registry: CollectorRegistry) -> Iterator[Keyring]:
    ring = Keyring(keys.path, SETTINGS, registry=registry)
    ring.watch()
    yield ring
    ring.close()


def figures(registry: CollectorRegistry) -> tuple[float | None, float | None, float | None]:
    names = ("credit_scoring_keys", "credit_scoring_keys_stale", "credit_scoring_keys_reload_failures_total")
    first, second, third = (registry.get_sample_value(name) for name in names)
    return first, second, third


def written(content: str | bytes) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    return write


KINDS = {**{name: written(content) for name, content in CONTENTS.items()}, **THINGS}


def test_there_are_many_kinds() -> None:
    assert len(KINDS) >= 85


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_revocation_is_taken_once_a_broken_file_is_mended(
    keyring: Keyring, keys: Keys, registry: CollectorRegistry, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    """The time limit of the test ends what is waited for."""
    secret = keys.secrets["front"].encode()
    broken, folder = keys.path.with_name("broken"), kind == "a folder"
    KINDS[kind](broken)
    if folder or kind == "nothing there":
        keys.path.unlink()
    if kind != "nothing there":
        broken.replace(keys.path)
    while figures(registry)[1] != 1:
        pass
    assert keyring.find(secret) is not None
    if folder:
        keys.path.rmdir()
    keys.path.with_name("spare").replace(keys.path)
    while figures(registry)[:2] != (0, 0):
        pass
    assert keyring.find(secret) is None
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(told) == figures(registry)[2]
    assert folder or len(told) == 1  # where a folder was, there is nothing for a moment
    for line in told:
        assert line.startswith(f"the keys in force stay: {keys.path}: ")
        assert len(line.splitlines()) == 1
        assert len(line) < 2_000


def test_a_file_that_is_being_written_is_read_when_it_is_whole(
    keyring: Keyring, keys: Keys, registry: CollectorRegistry
) -> None:
    whole = keys.path.read_text()
    keys.path.write_text(whole[: len(whole) // 2])
    while figures(registry)[1] != 1:
        pass
    keys.path.write_text("keys: []\n")
    while figures(registry)[:2] != (0, 0):
        pass
    assert keyring.find(keys.secrets["front"].encode()) is None


def test_a_change_that_keeps_time_size_and_inode_is_seen(keys: Keys, registry: CollectorRegistry) -> None:
    """Some copy the time along; and two changes in one tick of the clock have the same."""
    keyring = Keyring(keys.path, SETTINGS, registry=registry)
    status, content = keys.path.stat(), keys.path.read_bytes()
    keys.path.write_bytes(b"keys: []\n#" + b"-" * (len(content) - 10))
    os.utime(keys.path, ns=(status.st_atime_ns, status.st_mtime_ns))
    after = keys.path.stat()
    assert (after.st_ino, after.st_mtime_ns, after.st_size) == (status.st_ino, status.st_mtime_ns, status.st_size)
    keyring.refresh()
    assert keyring.find(keys.secrets["front"].encode()) is None


def test_a_file_that_comes_back_as_it_was_is_no_longer_stale(keys: Keys, registry: CollectorRegistry) -> None:
    keyring = Keyring(keys.path, SETTINGS, registry=registry)
    keys.path.rename(keys.path.with_name("away"))
    for _ in range(3):
        keyring.refresh()
    assert figures(registry) == (1, 1, 1)
    keys.path.with_name("away").rename(keys.path)
    keyring.refresh()
    assert figures(registry) == (1, 0, 1)


def test_each_new_fault_is_told_once(keys: Keys, registry: CollectorRegistry, caplog: pytest.LogCaptureFixture) -> None:
    keyring = Keyring(keys.path, SETTINGS, registry=registry)
    for content in ("keys: [", "keys: 5", "keys: 5", "keys: ["):
        keys.path.write_text(content)
        keyring.refresh()
    assert figures(registry) == (1, 1, 3)
    assert len(caplog.records) == 3


@pytest.mark.parametrize(
    ("mode", "said"), [(0o620, "its group may write it"), (0o660, "its group may write it"), (0o600, None)]
)
def test_a_file_that_others_may_write_is_doubted_at_the_start(
    keys: Keys, registry: CollectorRegistry, caplog: pytest.LogCaptureFixture, mode: int, said: str | None
) -> None:
    keys.path.chmod(mode)
    Keyring(keys.path, SETTINGS, registry=registry)
    warned = [record.getMessage() for record in caplog.records]
    line = f"{keys.path}: {said}: whoever can write the file of keys can add one"
    assert warned == ([line] if said else [])


@pytest.mark.parametrize("mode", [0o602, 0o622, 0o666, 0o777])
def test_a_file_that_everybody_may_write_is_refused_at_the_start(
    keys: Keys, registry: CollectorRegistry, mode: int
) -> None:
    keys.path.chmod(mode)
    with pytest.raises(KeyFileError, match=r"everybody may write it, so that anybody could add a key: chmod o-w it$"):
        Keyring(keys.path, SETTINGS, registry=registry)


YAML_LIKE = st.text(alphabet=string.printable + "\xe9\u2028\0", max_size=200) | st.text(
    alphabet="[]{}:,-?&*!|>'\"%@`#<=~ \nakeys0.19xT+", max_size=80
)
CONTENT = st.binary(max_size=200) | YAML_LIKE.map(str.encode) | YAML_LIKE.map(lambda text: f"keys: {text}".encode())


@given(content=CONTENT)
def test_whatever_the_file_holds_it_is_keys_or_one_line(content: bytes) -> None:
    said = "keys.yaml: keys"
    try:
        KeyFile.of(content, Path("keys.yaml"))
    except KeyFileError as error:
        said = str(error)
    assert said.startswith("keys.yaml: ")
    assert len(said.splitlines()) == 1
