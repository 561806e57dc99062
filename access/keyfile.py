"""The file of keys: salted hashes, written whole and readable by its owner alone."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import field_validator

from features import Settings, SettingsError

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
        try:
            return cls.load(path)
        except SettingsError as error:
            raise KeyFileError(str(error)) from None

    def write(self, path: Path) -> None:
        """Replace the file at `path` in one step; KeyFileError if that is not possible."""
        rows = [key.model_dump(mode="json", exclude_none=True) for key in self.keys]
        with _writing(path):
            _replace(path.resolve(), f"{_HEADER}{_yaml({'keys': rows})}".encode())


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
    except BaseException:
        with suppress(FileNotFoundError):
            Path(scratch).unlink()
        raise


def _yaml(content: dict[str, Sequence[Any]]) -> str:
    return yaml.safe_dump(content, sort_keys=False)
