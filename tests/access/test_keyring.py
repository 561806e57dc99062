"""Keys that are read again when their file changes."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from scoring.keys import KeyFileError, Scope
from serving.authentication import Keyring
from serving.settings import AccessSettings
from tests.keys import Keys

SETTINGS = AccessSettings(open=(), requests_per_second=5, burst_seconds=1, reload_seconds=0.01)


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    made = Keys(tmp_path / "keys.yaml")
    made.create("front", Scope.PREDICT)
    return made


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def keyring(keys: Keys, registry: CollectorRegistry) -> Iterator[Keyring]:
    ring = Keyring(keys.path, SETTINGS, registry=registry)
    yield ring
    ring.close()


def known(keyring: Keyring, keys: Keys) -> set[str]:
    return {name for name, secret in keys.secrets.items() if keyring.find(secret.encode()) is not None}


def figures(registry: CollectorRegistry) -> tuple[float | None, float | None, float | None]:
    names = ("credit_scoring_keys", "credit_scoring_keys_stale", "credit_scoring_keys_reload_failures_total")
    first, second, third = (registry.get_sample_value(name) for name in names)
    return first, second, third


def test_a_new_key_is_known_and_a_revoked_one_is_not(keyring: Keyring, keys: Keys, registry: CollectorRegistry) -> None:
    keys.create("back", Scope.ADMIN)
    keyring.refresh()
    assert known(keyring, keys) == {"front", "back"}
    keys.revoke("front")
    keyring.refresh()
    assert known(keyring, keys) == {"back"}
    assert figures(registry) == (1, 0, 0)


def test_new_keys_are_told_once(keyring: Keyring, keys: Keys, caplog: pytest.LogCaptureFixture) -> None:
    keys.create("back", Scope.ADMIN)
    with caplog.at_level(logging.INFO, logger="bentoml.credit_scoring"):
        for _ in range(3):
            keyring.refresh()
    assert [record.getMessage() for record in caplog.records] == ["keys read again: 2 in force"]


def test_the_thread_looks_by_itself(keyring: Keyring, keys: Keys) -> None:
    keyring.watch()
    keys.revoke("front")
    while known(keyring, keys):  # the time limit of the test ends this
        pass
    assert known(keyring, keys) == set()


def test_a_closed_keyring_looks_no_more(keyring: Keyring) -> None:
    before = set(threading.enumerate())
    keyring.watch()
    (thread,) = set(threading.enumerate()) - before
    keyring.close()
    thread.join(timeout=60)
    assert (thread.name, thread.is_alive()) == ("keys", False)


def test_the_thread_is_named_in_its_signs_of_life(keyring: Keyring, registry: CollectorRegistry) -> None:
    name = "credit_scoring_thread_heartbeat_timestamp_seconds"
    assert registry.get_sample_value(name, {"thread": "keys"}) is not None


def test_a_swap_of_kubernetes_links_is_seen(tmp_path: Path, registry: CollectorRegistry) -> None:
    """A mounted secret is a link to a file in a folder that is itself a link, which is replaced."""
    versions = {name: Keys(tmp_path / name / "keys.yaml") for name in ("one", "two")}
    for name, version in versions.items():
        version.path.parent.mkdir()
        version.create(name, Scope.PREDICT)
    (tmp_path / "..data").symlink_to("one")
    (tmp_path / "keys.yaml").symlink_to("..data/keys.yaml")
    keyring = Keyring(tmp_path / "keys.yaml", SETTINGS, registry=registry)
    (tmp_path / "..data_tmp").symlink_to("two")
    (tmp_path / "..data_tmp").replace(tmp_path / "..data")
    keyring.refresh()
    assert [known(keyring, version) for version in versions.values()] == [set(), {"two"}]


def test_a_change_in_place_is_seen(keyring: Keyring, keys: Keys) -> None:
    status = keys.path.stat()
    keys.path.write_text("keys: []\n")
    os.utime(keys.path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    keyring.refresh()
    assert known(keyring, keys) == set()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("keys: [", "not YAML"),
        ("keys: [{id: S3CR3T-VALUE}]", "keys.0.id: String should match"),
        (None, "cannot be read (No such file or directory)"),
    ],
)
def test_a_broken_file_leaves_the_keys_in_force_and_says_so_once(
    keyring: Keyring,
    keys: Keys,
    registry: CollectorRegistry,
    caplog: pytest.LogCaptureFixture,
    content: str | None,
    said: str,
) -> None:
    good = keys.path.read_text()
    if content is None:
        keys.path.unlink()
    else:
        keys.path.write_text(content)
    with caplog.at_level(logging.INFO, logger="bentoml.credit_scoring"):
        for _ in range(3):
            keyring.refresh()
    assert known(keyring, keys) == {"front"}
    assert figures(registry) == (1, 1, 1)
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"the keys in force stay: {keys.path}: {said}")
    assert "S3CR3T-VALUE" not in line
    keys.path.write_text(good)
    keyring.refresh()
    assert figures(registry) == (1, 0, 1)


def test_a_file_that_cannot_be_read_at_first_is_an_error(tmp_path: Path, registry: CollectorRegistry) -> None:
    with pytest.raises(KeyFileError, match="No such file"):
        Keyring(tmp_path / "none.yaml", SETTINGS, registry=registry)


def test_a_changed_rate_is_in_force_and_an_unchanged_one_keeps_what_was_used(
    keys: Keys, registry: CollectorRegistry
) -> None:
    secrets = [keys.create(name, Scope.PREDICT, requests_per_second=4) for name in ("slow", "same")]
    keyring = Keyring(keys.path, SETTINGS, registry=registry)
    before = [keyring.find(secret.encode()) for secret in secrets]
    assert [grant.bucket.take(10.0) for grant in before if grant for _ in range(4)] == [0.0] * 8
    changed = keys.path.read_text().replace("requests_per_second: 4.0", "requests_per_second: 2.0", 1)
    keys.path.write_text(changed)
    keyring.refresh()
    slow, same = (keyring.find(secret.encode()) for secret in secrets)
    assert slow is not None
    assert same is not None
    assert [slow.bucket.take(10.0) for _ in range(3)] == [0.0, 0.0, 0.5]
    assert same.bucket.take(10.0) == 0.25
