"""Write files and folders that appear whole or not at all, take locks between processes, and fill pages."""

from __future__ import annotations

import fcntl
import glob
import json
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO

from jobs.errors import OutputError

if TYPE_CHECKING:
    from jinja2 import Environment

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


def take_lock(file: int | IO[Any], *, wait: bool = True, shared: bool = False) -> bool:
    """Lock an open file or folder until it is closed; without `wait`, return False if another process holds it.

    Several processes may hold a shared lock at once. OSError on a file system without locks.
    """
    # flock, not lockf: its lock belongs to the open file, so closing another descriptor does not drop it.
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        fcntl.flock(file, kind if wait else kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def locked(path: Path, *, wait: bool = True, shared: bool = False) -> Iterator[bool]:
    """Hold the lock of a folder or file during the block; an absent file is made.

    Yields whether the lock is held; with `wait` it always is. Several processes may hold a shared one.
    OSError if `path` cannot be opened.
    """
    descriptor = _opened(path)
    try:
        yield take_lock(descriptor, wait=wait, shared=shared)
    finally:
        os.close(descriptor)


def is_held(folder: Path) -> bool:
    """Whether a process holds the lock of the folder; OSError if it is not a folder or cannot be opened."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        return not take_lock(descriptor, wait=False)
    finally:
        os.close(descriptor)


def _opened(path: Path) -> int:
    if path.is_dir():
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE)


_LONGEST_STEM = 200
"""Characters of a name that its scratch file repeats; Linux allows 255 bytes in all."""


@contextmanager
def replaced(
    path: Path, *, mode: int | None = None, durable: bool = False, keep_owner: bool = False
) -> Iterator[BinaryIO]:
    """Open a new file that replaces `path` if the block succeeds, and vanishes if it fails; links are followed.

    OSError if the file cannot be written.

    Parameters
    ----------
    mode : permissions of the file, whatever the umask is; None leaves them to the umask
    durable : whether the file must survive a power cut
    keep_owner : whether the file belongs to the owner of the one that it replaces
    """
    # In the same folder: a rename is atomic within one file system only.
    target = path.resolve()
    scratch = target.with_name(f"{_prefix(target)}{secrets.token_hex(4)}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(scratch, flags, 0o666 if mode is None else mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            _prepare(descriptor, target, mode, keep_owner=keep_owner)
            yield file
            file.flush()
            # Before the rename: after a power cut the name could otherwise stand for an empty file.
            if durable:
                os.fsync(descriptor)
        scratch.replace(target)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
    # The rename is an entry of the folder, which has an fsync of its own.
    if durable:
        flush_folder(target.parent)


def write_bytes(path: Path, content: bytes, *, parents: bool = False) -> None:
    """Write the file; OutputError if that fails. `parents` makes missing folders."""
    with _writing(path):
        if parents:
            path.parent.mkdir(parents=True, exist_ok=True)
        with replaced(path) as file:
            file.write(content)


def write_text(path: Path, text: str, *, parents: bool = False) -> None:
    """Write the text in UTF-8; OutputError if that fails. `parents` makes missing folders."""
    write_bytes(path, text.encode(), parents=parents)


def write_json(path: Path, values: Mapping[str, Any], *, indent: int = 1, parents: bool = False) -> None:
    """Write the values as JSON; OutputError if that fails, ValueError for NaN or an infinite number."""
    write_text(path, json.dumps(values, indent=indent, allow_nan=False) + "\n", parents=parents)


def remove_unfinished(path: Path) -> None:
    """Remove the scratch files that killed processes left beside `path`; nobody else may be writing it."""
    for scratch in path.parent.glob(f"{glob.escape(_prefix(path))}*"):
        scratch.unlink(missing_ok=True)


def flush_folder(path: Path) -> None:
    """Write the names in a folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def staged(output: Path) -> Iterator[Path]:
    """Make a scratch folder that becomes `output` if the block succeeds, and vanishes if it fails.

    OutputError if `output` exists and is not an empty folder, if it cannot be written, or at an OSError of the block.
    """
    target = output.resolve()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise OutputError(f"{output}: exists already")
    made = [folder for folder in target.parents if not folder.exists()]
    try:
        with _writing(output):
            target.parent.mkdir(parents=True, exist_ok=True)
            scratch = Path(tempfile.mkdtemp(prefix=_prefix(target), dir=target.parent))
        try:
            with _writing(output):
                yield scratch
                scratch.chmod(0o755)  # mkdtemp gives 0o700, and other users read an artefact
                scratch.replace(target)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except BaseException:
        _remove(made)
        raise


def _prepare(descriptor: int, target: Path, mode: int | None, *, keep_owner: bool) -> None:
    if mode is not None:
        os.fchmod(descriptor, mode)  # the mode of os.open is cut by the umask
    if keep_owner and target.exists():
        os.fchown(descriptor, target.stat().st_uid, target.stat().st_gid)


def _prefix(target: Path) -> str:
    return f".{target.name[:_LONGEST_STEM]}-"


@contextmanager
def _writing(output: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"{output}: cannot be written ({_reason(error)})") from None


def _reason(error: OSError) -> str:
    """Return the system's reason; Arrow has its own words for it."""
    return os.strerror(error.errno) if error.errno else type(error).__name__


def _remove(folders: list[Path]) -> None:
    """Remove the folders that are empty, the innermost first."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


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
        with _writing(Path(self.unfinished)):
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
            raise OutputError(f"{self.unfinished}: cannot be written ({_reason(error)})") from None
        try:
            yield take_lock(lock, wait=wait, shared=shared)
        finally:
            os.close(lock)

    @contextmanager
    def writing(self, name: str) -> Iterator[BinaryIO]:
        """Open a new file that is there, and survives a power cut, if the block succeeds."""
        path = self.root / name
        with _writing(Path(self.unfinished)):
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
        with _writing(Path(self.unfinished)):
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
            raise OutputError(f"{path}: cannot be read ({_reason(error)})") from None

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

    def publish(self, *working: str) -> None:
        """Remove the working folders in it, and give it its name."""
        with _writing(Path(self.address)):
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
        with tempfile.NamedTemporaryFile(prefix="download-") as file:
            with self._failures():
                self._files.get_file(self._path(name), file.name)
            yield Path(file.name)

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
            reason = _reason(error) if isinstance(error, OSError) else type(error).__name__
            raise OutputError(f"{self.address}: cannot be used ({reason})") from None


def open_output(address: str) -> OutputFolder | OutputBucket:
    """The output at an address: a local folder, or an address of fsspec such as s3://bucket/folder."""
    return OutputBucket(address) if "://" in address else OutputFolder(Path(address))


def templates(*packages: str) -> Environment:
    """Return the templates of these packages and of this one; of two with one name, that of the earlier package.

    The pages have no script, font or picture of their own: so they open as attachments, under any content policy.
    """
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined  # the serving image has no use for it

    return Environment(
        loader=ChoiceLoader([PackageLoader(package) for package in (*packages, "jobs")]),
        # Names of levels and files come from a lender's data.
        autoescape=True,
        # By default Jinja shows an unknown name as an empty text, and a figure would be missing unnoticed.
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
