"""Files of keys that are broken in every way: the keys in force stay, it is told, and a mended file counts at once."""

from __future__ import annotations

import logging
import os
import string
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from scoring.keys import KeyFile, KeyFileError, Scope
from serving.authentication import Keyring
from serving.settings import AccessSettings
from tests.broken_files import KINDS, mend, put
from tests.keys import Keys

SETTINGS = AccessSettings(open=(), requests_per_second=5, burst_seconds=1, reload_seconds=0.01)


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


def test_there_are_many_kinds() -> None:
    assert len(KINDS) >= 85


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_revocation_is_taken_once_a_broken_file_is_mended(
    keyring: Keyring, keys: Keys, registry: CollectorRegistry, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    """The time limit of the test ends what is waited for."""
    secret, folder = keys.secrets["front"].encode(), kind == "a folder"
    put(kind, keys.path)
    while figures(registry)[1] != 1:
        pass
    assert keyring.find(secret) is not None
    mend(keys.path, keys.path.with_name("spare"))
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
