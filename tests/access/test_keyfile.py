from __future__ import annotations

import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml

from scoring.keys import Key, KeyFile, KeyFileError, Scope, create_key, issue, revoke_key, write_warning
from tests.keys import CREATED, Keys

SECRET = "S3CR3T-VALUE"
SAME = "Value error, two keys have the same"
WRITTEN = """\
# Made by `python -m scoring keys`. It holds no key, only salted hashes.
keys:
- id: 0123456789ab
  name: front
  scopes:
  - predict
  created: '2026-11-22T00:00:00Z'
  salt: a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0
  digest: b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1
- id: ab0123456789
  name: back
  scopes:
  - admin
  created: '2026-11-22T00:00:00Z'
  requests_per_second: 2.0
  salt: a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0
  digest: b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1
"""


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path / "keys.yaml")


def test_what_is_created_is_kept_without_the_key(keys: Keys) -> None:
    secret = keys.create("front", Scope.PREDICT)
    (kept,) = keys.file().keys
    assert (kept.name, kept.scopes, kept.created, kept.id) == ("front", (Scope.PREDICT,), CREATED, secret[4:16])
    assert secret[17:] not in keys.path.read_text()


def test_a_file_holds_what_is_known_of_a_key_in_the_order_of_the_documents(tmp_path: Path) -> None:
    of_all: dict[str, Any] = {"created": CREATED, "salt": "a0" * 16, "digest": "b1" * 32}
    front = Key(id="0123456789ab", name="front", scopes=(Scope.PREDICT,), **of_all)
    back = Key(id="ab0123456789", name="back", scopes=(Scope.ADMIN,), requests_per_second=2, **of_all)
    KeyFile(keys=(front, back)).write(tmp_path / "keys.yaml")
    assert (tmp_path / "keys.yaml").read_text() == WRITTEN


def test_only_its_owner_may_read_the_file_and_nothing_else_is_left(keys: Keys) -> None:
    keys.create("front", Scope.PREDICT)
    keys.path.chmod(0o644)
    keys.create("back", Scope.ADMIN)
    assert stat.S_IMODE(keys.path.stat().st_mode) == 0o600
    assert list(keys.path.parent.iterdir()) == [keys.path]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away: `sudo make test`")
def test_a_file_keeps_its_owner(keys: Keys) -> None:
    keys.create("front", Scope.PREDICT)
    os.chown(keys.path, 10034, 10034)
    keys.create("back", Scope.ADMIN)
    assert (keys.path.stat().st_uid, keys.path.stat().st_gid) == (10034, 10034)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away: `sudo make test`")
@pytest.mark.parametrize(
    ("owner", "said"), [(0, None), (1, "it belongs to another user"), (10034, "it belongs to another user")]
)
def test_a_file_of_another_user_is_doubtful(keys: Keys, owner: int, said: str | None) -> None:
    keys.create("front", Scope.PREDICT)
    os.chown(keys.path, owner, 0)
    assert write_warning(keys.path) == (said and f"{keys.path}: {said}")


def test_what_belongs_to_root_is_doubted_by_nobody() -> None:
    before = os.geteuid()
    if before == 0:
        os.seteuid(10034)
    try:
        assert write_warning(Path("/")) is None
    finally:
        os.seteuid(before)


def test_a_file_is_replaced_and_never_half_written(keys: Keys) -> None:
    keys.create("front", Scope.PREDICT)
    with keys.path.open() as opened:
        before = keys.path.read_text()
        keys.create("back", Scope.ADMIN)
        assert opened.read() == before


def test_a_link_is_written_through(keys: Keys, tmp_path: Path) -> None:
    link = tmp_path / "link.yaml"
    link.symlink_to(keys.path)
    create_key(link, issue("front", (Scope.PREDICT,), created=CREATED))
    assert link.is_symlink()
    assert [key.name for key in keys.file().keys] == ["front"]


@pytest.mark.parametrize("by", ["id", "name"])
def test_a_key_is_revoked_by_id_or_name(keys: Keys, by: str) -> None:
    for name in ("front", "back"):
        keys.create(name, Scope.PREDICT)
    revoked = revoke_key(keys.path, getattr(keys.file().keys[0], by))
    assert revoked.name == "front"
    assert [key.name for key in keys.file().keys] == ["back"]


def test_the_last_key_leaves_an_empty_file_which_is_legal(keys: Keys) -> None:
    keys.create("front", Scope.PREDICT)
    keys.revoke("front")
    assert keys.file().keys == ()


def test_a_name_is_given_once(keys: Keys) -> None:
    keys.create("front", Scope.PREDICT)
    before = keys.path.read_bytes()
    with pytest.raises(KeyFileError, match="there is a key named front already"):
        keys.create("front", Scope.ADMIN)
    assert keys.path.read_bytes() == before


def test_writers_at_once_lose_nothing(keys: Keys) -> None:
    threads = [threading.Thread(target=keys.create, args=(f"key-{i}", Scope.PREDICT)) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {key.name for key in keys.file().keys} == {f"key-{i}" for i in range(12)}


def test_a_revocation_does_not_repeat_what_was_given_which_may_be_a_key(keys: Keys) -> None:
    keys.create("front", Scope.PREDICT)
    with pytest.raises(KeyFileError) as refusal:
        keys.revoke(SECRET)
    assert SECRET not in str(refusal.value)


def spoilt(**changes: object) -> str:
    key = issue("front", (Scope.PREDICT,), created=CREATED).key.model_dump(mode="json", exclude_none=True)
    return yaml.safe_dump({"keys": [{**key, **changes}]})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "file: Input should be an object"),
        ("keys: [", "not YAML"),
        (f"keys: [{SECRET}", "not YAML"),
        ("keys: []\nkeys: []", "not YAML (repeated key: keys in line 2)"),
        (spoilt(key=SECRET), "keys.0.key: Extra inputs are not permitted"),
        (spoilt(digest=SECRET), "keys.0.digest: String should match"),
        (spoilt(salt="0"), "keys.0.salt: String should match"),
        (spoilt(scopes=[]), "keys.0.scopes"),
        (spoilt(scopes=[SECRET]), "keys.0.scopes.0"),
        (spoilt(requests_per_second=0), "keys.0.requests_per_second"),
        (spoilt(id=SECRET), "keys.0.id"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_without_showing_it(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "keys.yaml"
    path.write_text(content)
    with pytest.raises(KeyFileError) as refusal:
        KeyFile.read(path)
    assert said in str(refusal.value)
    assert SECRET not in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_two_keys_with_one_id_are_refused(keys: Keys) -> None:
    keys.create("front", Scope.PREDICT)
    (row,) = yaml.safe_load(keys.path.read_text())["keys"]
    keys.path.write_text(yaml.safe_dump({"keys": [row, {**row, "name": "back"}]}))
    with pytest.raises(KeyFileError) as refusal:
        keys.file()
    assert str(refusal.value) == f"{keys.path}: keys: {SAME} id"


def test_two_keys_with_one_name_are_refused(keys: Keys) -> None:
    keys.create("front", Scope.PREDICT)
    (row,) = yaml.safe_load(keys.path.read_text())["keys"]
    keys.path.write_text(yaml.safe_dump({"keys": [row, {**row, "id": "0123456789ab"}]}))
    with pytest.raises(KeyFileError) as refusal:
        keys.file()
    assert str(refusal.value) == f"{keys.path}: keys: {SAME} name"


def test_a_name_that_no_file_can_have_is_said(tmp_path: Path) -> None:
    path = tmp_path / "keys\0.yaml"
    with pytest.raises(KeyFileError) as refusal:
        KeyFile.read(path)
    assert str(refusal.value) == f"{str(path)!r}: no file has this name"


def test_where_nothing_can_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(KeyFileError, match=r"cannot be written \(Not a directory\)"):
        create_key(tmp_path / "file" / "keys.yaml", issue("front", (Scope.PREDICT,), created=CREATED))


def test_a_pipe_in_place_of_the_folder_is_said_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(KeyFileError, match=r"cannot be written \(Not a directory\)"):
        create_key(tmp_path / "pipe" / "keys.yaml", issue("front", (Scope.PREDICT,), created=CREATED))


def test_a_file_is_on_the_disk_before_it_takes_its_place_and_so_is_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a power cut brings an empty file, or the revoked key, back."""
    path, synced = tmp_path / "keys.yaml", []
    sync = os.fsync

    def watched(descriptor: int) -> None:
        folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        synced.append("folder" if folder else f"{os.fstat(descriptor).st_size} bytes")
        synced.append("named" if path.exists() else "not named")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    KeyFile(keys=()).write(path)
    assert synced == [f"{path.stat().st_size} bytes", "not named", "folder", "named"]
