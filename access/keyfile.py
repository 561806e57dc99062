"""The file of keys: salted hashes, written whole and readable by its owner alone."""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import field_validator

from features import SETTINGS_BYTES, Settings, SettingsError, read_regular

from .errors import KeyFileError
from .key import IssuedKey, Key

_HEADER = "# Made by `python -m scoring keys`. It holds no key, only salted hashes.\n"


class KeyFile(Settings):
    """All of a file of keys."""

    keys: tuple[Key, ...]

    @field_validator("keys")
    @classmethod
    def _tell_keys_apart(cls, keys: tuple[Key, ...]) -> tuple[Key, ...]:
        for what, values in (("id", [key.id for key in keys]), ("name", [key.name for key in keys])):
            if len(set(values)) < len(values):
                raise ValueError(f"two keys have the same {what}")
        return keys

    @classmethod
    def read(cls, path: Path) -> Self:
        """The file at `path`; KeyFileError if it cannot be read or does not fit."""
        return cls.of(content_of(path), path)

    @classmethod
    def of(cls, content: bytes, path: Path) -> Self:
        """The file whose content was read at `path`; KeyFileError if it does not fit."""
        try:
            return cls.parse(content, path)
        except SettingsError as error:
            raise KeyFileError(str(error)) from None

    def write(self, path: Path) -> None:
        """Replace the file at `path` in one step; KeyFileError if that is not possible."""
        rows = [key.model_dump(mode="json", exclude_none=True) for key in self.keys]
        with _writing(path):
            _replace(path.resolve(), f"{_HEADER}{_yaml({'keys': rows})}".encode())


def content_of(path: Path) -> bytes:
    """What the file holds; KeyFileError if it cannot be read, or if everybody on the machine may write it."""
    try:
        content = read_regular(path, SETTINGS_BYTES)
        mode = path.stat().st_mode
    except OSError as error:
        raise KeyFileError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError:  # a name with a NUL in it
        raise KeyFileError(f"{str(path)!r}: no file has this name") from None
    if mode & stat.S_IWOTH:
        raise KeyFileError(f"{path}: everybody may write it, so that anybody could add a key: chmod o-w it")
    return content


def doubt(path: Path) -> str | None:
    """What is doubtful about who may write the file, None if nothing is."""
    found = path.stat()
    if found.st_mode & stat.S_IWGRP:
        return f"{path}: its group may write it"
    if found.st_uid not in (0, os.geteuid()):
        return f"{path}: it belongs to another user"
    return None


def create_key(path: Path, issued: IssuedKey) -> None:
    """Add a key to the file, which is made if it is not there; KeyFileError if a key has that name already."""
    with _alone(path):
        present = KeyFile.read(path).keys if path.exists() else ()
        if issued.key.name in {key.name for key in present}:
            raise KeyFileError(f"{path}: there is a key named {issued.key.name} already")
        KeyFile(keys=(*present, issued.key)).write(path)


def revoke_key(path: Path, named: str) -> Key:
    """Take the key with this id or name out of the file; KeyFileError if there is none."""
    with _alone(path):
        present = KeyFile.read(path).keys
        found = [key for key in present if key.id == named] or [key for key in present if key.name == named]
        if not found:
            raise KeyFileError(f"{path}: there is no key with this id or name")
        KeyFile(keys=tuple(key for key in present if key is not found[0])).write(path)
        return found[0]


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One writer at a time: the folder is locked, since the file itself is replaced."""
    with _writing(path):
        folder = os.open(path.resolve().parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise KeyFileError(f"{path}: cannot be written ({error.strerror})") from None


def _replace(path: Path, content: bytes) -> None:
    descriptor, scratch = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)  # with mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            if path.exists():  # a service may run as another user than the one who makes its keys
                os.fchown(descriptor, path.stat().st_uid, path.stat().st_gid)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(scratch).replace(path)
        _keep(path.parent)
    except BaseException:
        with suppress(FileNotFoundError):
            Path(scratch).unlink()
        raise


def _keep(folder: Path) -> None:
    """See to it that what was renamed in the folder is still so after a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _yaml(content: dict[str, Sequence[Any]]) -> str:
    return yaml.safe_dump(content, sort_keys=False)
