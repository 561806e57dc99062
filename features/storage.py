"""Storage of files: what lies at a path, a pattern or an address of an object store, and how its bytes are read."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from glob import has_magic
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import IO, Any, Self, cast

from features.errors import FileError
from jobs.destination import file_system, without_secrets

PACKINGS = {".gz": "gzip", ".zst": "zstd"}
"""Suffixes of compressed CSV files, and the names of their compressions."""

# Hidden files, lock files of office programs, and marks such as Spark's _SUCCESS.
_MARKS = (".", "~$", "_")

_FETCHED = 8 << 20


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file in a folder or an object store. Nothing of it is open.

    Attributes
    ----------
    name : path or address as messages show it, without a password
    place : path on its file system
    mark : differs when the content has changed
    origin : an address on its file system; None for this machine's own
    """

    name: str
    place: str
    size: int
    mark: str
    origin: str | None = field(default=None, repr=False)

    @classmethod
    def at(cls, path: Path) -> Self:
        """The regular file at a path of this machine; FileError if there is none."""
        try:
            status = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            raise FileError(f"{path}: {'is a link to nothing' if path.is_symlink() else 'no such file'}") from None
        except OSError as error:
            raise FileError(f"{path}: cannot be read ({error.strerror})") from None
        if stat.S_ISDIR(status.st_mode):
            raise FileError(f"{path}: is a folder, not a file")
        if not stat.S_ISREG(status.st_mode):
            raise FileError(f"{path}: is not a regular file (a pipe, a socket or a device cannot be read twice)")
        # Absolute, since another process may have another working folder.
        return cls(str(path), str(path.absolute()), status.st_size, f"{status.st_mtime_ns} ns")

    def __str__(self) -> str:
        return self.name

    @property
    def suffix(self) -> str:
        """The suffix in lower case; that before the one of a compression which is read, `.csv` for `a.csv.gz`."""
        suffixes = [one.lower() for one in PurePosixPath(self.place).suffixes]
        return ".csv" if suffixes[-2:-1] == [".csv"] and suffixes[-1] in PACKINGS else "".join(suffixes[-1:])

    @property
    def packing(self) -> str | None:
        """The compression of a CSV file, None if it has none."""
        last = PurePosixPath(self.place).suffix.lower()
        return None if last == self.suffix else PACKINGS[last]

    def now(self) -> Self:
        """The file as it is now; FileError if it is gone."""
        if self.origin is None:
            return replace(type(self).at(Path(self.place)), name=self.name)
        with AccessFailures(self.name):
            files, _ = file_system(self.origin)
            return replace(self, **_identity(files.info(self.place)))

    def open(self, *, ahead: int = _FETCHED) -> IO[bytes]:
        """The bytes as they are stored; OSError or FileError if they cannot be read.

        `ahead` are the bytes that one request to an object store gets.
        """
        if self.origin is None:
            return Path(self.place).open("rb")
        with AccessFailures(self.name):
            files, _ = file_system(self.origin)
            opened = files.open(self.place, "rb", block_size=ahead, cache_type="readahead")
            return cast("IO[bytes]", opened)

    def unpacked(self) -> IO[bytes]:
        """The bytes without their compression."""
        if self.packing is None:
            return self.open()
        import pyarrow as pa

        # Arrow's stream cannot be read by lines.
        return io.BufferedReader(pa.CompressedInputStream(self.open(), self.packing))

    def for_arrow(self) -> IO[bytes]:
        """The bytes without their compression, for readers of Arrow."""
        if self.origin is not None:
            return self.unpacked()
        import pyarrow as pa

        # Arrow reads ahead on a thread of its own. If a command fails meanwhile, a thread that needs Python aborts it.
        stored = pa.OSFile(self.place)
        return cast("IO[bytes]", stored if self.packing is None else pa.CompressedInputStream(stored, self.packing))


@dataclass(frozen=True, slots=True)
class AccessFailures:
    """Turns whatever a file system of fsspec raises into a FileError of one line."""

    name: str

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Each file system has errors of its own, which have no base below Exception, and quote what they were given.
        if not isinstance(error, Exception) or isinstance(error, FileError):
            return
        if isinstance(error, FileNotFoundError):
            said = "no such bucket, folder or file"
        elif isinstance(error, PermissionError):
            said = "access is denied"
        else:
            said = f"cannot be read ({type(error).__name__})"
        raise FileError(f"{self.name}: {said}") from None


@dataclass(frozen=True, slots=True)
class FileListing:
    """What lies at an address.

    Attributes
    ----------
    address : as messages show it, without a password
    names : of all files below the address, with `/` between folders, in their order; a folder ends with `/`
    alone : the address is that of one file, whose name is the only one
    find : the file of a name; FileError if it is no regular file
    """

    address: str
    names: tuple[str, ...]
    alone: bool
    find: Callable[[str], StoredFile]


def list_files(address: str) -> FileListing:
    """What lies at a path, a pattern such as `data/*/a.csv`, or an address of fsspec such as `s3://bucket/folder`.

    FileError if nothing lies there or it cannot be listed.
    """
    address = address.removeprefix("file://")
    return _listed_elsewhere(address) if "://" in address else _listed_here(address)


def is_mark(name: str) -> bool:
    """Whether a name is that of a mark or a hidden file.

    >>> is_mark("_SUCCESS"), is_mark("a.csv")
    (True, False)
    """
    return name.startswith(_MARKS)


def _listed_here(address: str) -> FileListing:
    path = Path(address)
    if has_magic(address) and not path.exists():
        base = Path(*_before_pattern(path.parts))
        pattern = str(path.relative_to(base))
        names = {name for found in base.glob(pattern) for name in _below(base, found)}
        if not names:
            raise FileError(f"{address}: nothing matches")
    elif path.is_dir():
        base, names = path, set(_walked(path, path))
    else:
        return FileListing(address, (path.name,), alone=True, find=lambda _: StoredFile.at(path))
    return FileListing(address, tuple(sorted(names)), alone=False, find=lambda name: StoredFile.at(base / name))


def _below(base: Path, found: Path) -> Iterator[str]:
    return _walked(found, base) if found.is_dir() else iter((found.relative_to(base).as_posix(),))


def _walked(folder: Path, base: Path) -> Iterator[str]:
    """The names of all files below a folder, of its empty folders, and of marks, whatever is in them."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise FileError(f"{folder}: cannot be read ({error.strerror})") from None
    if not entries and folder != base:
        yield f"{folder.relative_to(base).as_posix()}/"
    for entry in entries:
        path = folder / entry.name
        if is_mark(entry.name):
            yield path.relative_to(base).as_posix()
        elif entry.is_dir(follow_symlinks=False):
            yield from _walked(path, base)
        elif entry.is_dir():
            # Links to folders may form a circle.
            raise FileError(f"{path}: is a link to a folder: name the folder that holds the files")
        else:
            yield path.relative_to(base).as_posix()


def _before_pattern(parts: tuple[str, ...]) -> tuple[str, ...]:
    first = next(i for i, part in enumerate(parts) if has_magic(part))
    return parts[:first]


def _listed_elsewhere(address: str) -> FileListing:
    shown = without_secrets(address)
    with AccessFailures(shown):
        files, place = file_system(address)
        pattern = has_magic(place) and not address.startswith("http")
        found = _matching(files, place) if pattern else files.find(place, detail=True)
    found = {path: info for path, info in found.items() if info["type"] == "file"}
    if not found:
        raise FileError(f"{shown}: {'nothing matches' if pattern else 'no such bucket, folder or file'}")
    base = "/".join(_before_pattern(tuple(place.split("/")))) if pattern else place.rstrip("/")
    alone = [*found] == [base]
    names = {path.rpartition("/")[2] if alone else path[len(base) :].lstrip("/"): path for path in sorted(found)}

    def find(name: str) -> StoredFile:
        place = names[name]
        listed = StoredFile(f"{address.partition('://')[0]}://{place.lstrip('/')}", place, 0, "", origin=address)
        # What a listing tells of a file may be written otherwise than what is asked for later.
        return listed.now()

    return FileListing(shown, tuple(names), alone, find)


def _matching(files: Any, pattern: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path, info in files.glob(pattern, detail=True).items():
        found |= files.find(path, detail=True) if info["type"] == "directory" else {path: info}
    return found


def _identity(info: dict[str, Any]) -> dict[str, Any]:
    told = (info.get(key) for key in ("ETag", "etag", "md5Hash", "LastModified", "last_modified", "mtime", "created"))
    return {"size": int(info["size"]), "mark": next((str(one) for one in told if one is not None), "")}
