"""Where a job writes its files: a local folder, or an address of fsspec such as s3://bucket/folder."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from jobs.errors import OutputError
from jobs.output import flush_folder, reason_of, remove_unfinished, replaced, take_lock, writing

_FILE_MODE = 0o600

_BUCKETS = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "memory")

# Without bounds an unreachable bucket would hold a job for minutes.
_S3_BOUNDS = {"config_kwargs": {"connect_timeout": 5, "read_timeout": 10, "retries": {"total_max_attempts": 2}}}


def file_system(address: str) -> tuple[Any, str]:
    """The file system of an address of fsspec, such as s3://bucket/folder, and the path on it.

    It raises whatever the file system raises: ValueError or ImportError for an address that nothing serves.
    """
    import fsspec

    bounds = _S3_BOUNDS if address.startswith(("s3://", "s3a://")) else {}
    # A listing that is remembered would hide that a file has changed.
    files, path = fsspec.core.url_to_fs(address, use_listings_cache=False, **bounds)
    if bounds:
        files.retries = 2  # of s3fs, each with the attempts above
    return files, path


def without_secrets(address: str) -> str:
    """The address of a file, folder or database without user, password and parameters.

    >>> without_secrets("s3://key:secret@bucket/a?.csv")
    's3://bucket/a?.csv'
    >>> without_secrets("postgresql://user:secret@host/db?password=secret")
    'postgresql://host/db'
    >>> without_secrets("postgresql://user:sec?ret@host/db")
    'postgresql://...'
    """
    scheme, separator, rest = address.partition("://")
    if not separator:
        return address
    # In a bucket these marks belong to names and patterns.
    place = rest if scheme in _BUCKETS else re.split("[?#;&]", rest, maxsplit=1)[0]
    if "@" in rest[len(place) :]:
        return f"{scheme}://..."
    # A password may hold a slash: nothing is shown up to the last @.
    return f"{scheme}://{place.rpartition('@')[2]}"


UNFINISHED = ".unfinished"
"""What the name of a local folder ends with until its job is finished."""


class OutputFolder:
    """A local folder that a job fills over several runs. It has its name when it is finished, another one before.

    Every method raises OutputError if the folder cannot be written or read.
    """

    def __init__(self, target: Path) -> None:
        self.target = target.absolute()
        self.root = self.target.with_name(f"{self.target.name}{UNFINISHED}")
        self.address = str(target)
        self.unfinished = f"{target}{UNFINISHED}"

    def __reduce__(self) -> tuple[type[OutputFolder], tuple[Path]]:
        # A process on another machine has another working folder.
        return OutputFolder, (self.target.absolute(),)

    def begin(self, *folders: str) -> None:
        """Make the unfinished folder and folders in it; OutputError if the finished one holds anything."""
        if self.target.exists() and (not self.target.is_dir() or any(self.target.iterdir())):
            raise OutputError(f"{self.address}: exists already")
        with writing(Path(self.unfinished)):
            for folder in folders:
                (self.root / folder).mkdir(parents=True, exist_ok=True)

    @contextmanager
    def held(self, name: str, *, shared: bool = False, wait: bool = False) -> Iterator[bool]:
        """Hold the lock of this name during the block; yields whether it is held. It is not if the folder is gone."""
        try:
            lock = os.open(self.root / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE)
        except FileNotFoundError:  # another process has finished it
            yield False
            return
        except OSError as error:
            raise OutputError(f"{self.unfinished}: cannot be written ({reason_of(error)})") from None
        try:
            yield take_lock(lock, wait=wait, shared=shared)
        finally:
            os.close(lock)

    @contextmanager
    def writing(self, name: str) -> Iterator[BinaryIO]:
        """Open a new file that is there, and survives a power cut, if the block succeeds."""
        path = self.root / name
        with writing(Path(self.unfinished)):
            # Not its parents: a job that goes on after another one has finished must not begin the folder anew.
            path.parent.mkdir(exist_ok=True)
            with replaced(path, durable=True) as file:
                yield file

    def write(self, name: str, content: bytes) -> None:
        """Write a file that is there as a whole or not at all."""
        with self.writing(name) as file:
            file.write(content)

    def write_new(self, name: str, content: bytes) -> bool:
        """Write a file unless it is there; returns whether it was written. Of several processes one succeeds."""
        with writing(Path(self.unfinished)):
            scratch = self.root / f"{name}-{secrets.token_hex(4)}"
            with replaced(scratch, durable=True) as file:
                file.write(content)
            try:
                os.link(scratch, self.root / name)
            except FileExistsError:
                return False
            finally:
                scratch.unlink()
            return True

    def read(self, name: str) -> bytes | None:
        """The content of a file in the unfinished folder; None if there is no such file."""
        return self._content(self.root / name)

    def read_finished(self, name: str) -> bytes | None:
        """The content of a file in the finished folder; None if there is no such file."""
        return self._content(self.target / name)

    def _content(self, path: Path) -> bytes | None:
        try:
            return path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise OutputError(f"{path}: cannot be read ({reason_of(error)})") from None

    def size(self, name: str) -> int | None:
        """The bytes of a file in the unfinished folder; None if there is no such file."""
        path = self.root / name
        return path.stat().st_size if path.is_file() else None

    def remove_scratch(self, name: str) -> None:
        """Remove what a killed process has left of the file; nobody else may be writing it."""
        remove_unfinished(self.root / name)

    @contextmanager
    def local(self, name: str) -> Iterator[Path]:
        """A local file with the content of this one, during the block."""
        yield self.root / name

    def discard(self, *working: str) -> None:
        """Remove an unfinished folder that has nothing but working folders."""
        if all(path.name in working for path in self.root.iterdir()):
            shutil.rmtree(self.root, ignore_errors=True)

    def publish(self, *working: str) -> None:
        """Remove the working folders in it, and give it its name."""
        with writing(Path(self.address)):
            for folder in working:
                shutil.rmtree(self.root / folder, ignore_errors=True)
            self.root.rename(self.target)
            flush_folder(self.target.parent)


class OutputBucket:
    """The files below an address of fsspec. They have their names at once; the last one says that all are there.

    Every method raises OutputError if the address cannot be used. There are no locks.
    """

    def __init__(self, address: str) -> None:
        self._given = address
        self.address = self.unfinished = without_secrets(address).rstrip("/")
        with self._failures():
            self._files, self._root = file_system(address.rstrip("/"))

    def __reduce__(self) -> tuple[type[OutputBucket], tuple[str]]:
        return OutputBucket, (self._given,)

    def begin(self, *folders: str) -> None:  # noqa: ARG002 - an object store has no folders
        """Raise OutputError if the address holds what no job has written."""
        with self._failures():
            held = self._files.find(self._root, maxdepth=2)
        if held and not any(path.rpartition("/")[2] == "plan.json" for path in held):
            raise OutputError(f"{self.address}: exists already")

    @contextmanager
    def held(self, name: str, *, shared: bool = False, wait: bool = False) -> Iterator[bool]:  # noqa: ARG002
        """Yield True: an object store has no locks. Jobs of one plan write the same bytes."""
        yield True

    @contextmanager
    def writing(self, name: str) -> Iterator[BinaryIO]:
        """Open a new file that is there if the block succeeds."""
        # A file of fsspec is uploaded when it is closed, even by an error.
        with tempfile.NamedTemporaryFile(prefix="upload-") as file:
            yield file  # type: ignore[misc]
            file.flush()
            with self._failures():
                self._files.put_file(file.name, self._path(name))

    def write(self, name: str, content: bytes) -> None:
        """Write a file as a whole."""
        with self._failures():
            self._files.pipe_file(self._path(name), content)

    def write_new(self, name: str, content: bytes) -> bool:
        """Write a file unless it is there; returns whether it was written."""
        with self._failures():
            try:
                self._files.pipe_file(self._path(name), content, mode="create")
            except FileExistsError:
                return False
            return True

    def read(self, name: str) -> bytes | None:
        """The content of a file; None if there is no such file."""
        with self._failures():
            try:
                return bytes(self._files.cat_file(self._path(name)))
            except FileNotFoundError:
                return None

    read_finished = read

    def size(self, name: str) -> int | None:
        """The bytes of a file; None if there is no such file."""
        with self._failures():
            try:
                return int(self._files.info(self._path(name))["size"])
            except FileNotFoundError:
                return None

    def remove_scratch(self, name: str) -> None:
        """Do nothing: a file is there as a whole or not at all."""

    @contextmanager
    def local(self, name: str) -> Iterator[Path]:
        """A local copy of the file, during the block."""
        # Not held open: a job may need those of thousands of parts at once.
        descriptor, path = tempfile.mkstemp(prefix="download-")
        os.close(descriptor)
        try:
            with self._failures():
                self._files.get_file(self._path(name), path)
            yield Path(path)
        finally:
            Path(path).unlink()

    def discard(self, *working: str) -> None:
        """Do nothing: working files are removed when the last one is written."""

    def publish(self, *working: str) -> None:
        """Remove the files of the working folders."""
        with self._failures():
            for folder in working:
                if self._files.exists(self._path(folder)):
                    self._files.rm(self._path(folder), recursive=True)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except OutputError:
            raise
        except Exception as error:  # noqa: BLE001 - each file system of fsspec has errors of its own
            reason = reason_of(error) if isinstance(error, OSError) else type(error).__name__
            raise OutputError(f"{self.address}: cannot be used ({reason})") from None


def open_output(address: str) -> OutputFolder | OutputBucket:
    """The output at an address: a local folder, or an address of fsspec such as s3://bucket/folder."""
    return OutputBucket(address) if "://" in address else OutputFolder(Path(address))
