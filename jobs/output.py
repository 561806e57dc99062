"""Write files and folders that appear whole or not at all, take locks between processes, and fill pages."""

from __future__ import annotations

import fcntl
import glob
import json
import os
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
    scratch = scratch_of(target)
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
    with writing(path):
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


def scratch_of(path: Path) -> Path:
    """A new name beside `path`, for a file that will replace it; `remove_unfinished` finds what is left of it."""
    return path.with_name(f"{_prefix(path)}{secrets.token_hex(4)}")


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
        with writing(output):
            target.parent.mkdir(parents=True, exist_ok=True)
            scratch = Path(tempfile.mkdtemp(prefix=_prefix(target), dir=target.parent))
        try:
            with writing(output):
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
def writing(output: Path) -> Iterator[None]:
    """Turn an OSError of the block into an OutputError that names `output`."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"{output}: cannot be written ({reason_of(error)})") from None


def reason_of(error: OSError) -> str:
    """Return the system's reason; Arrow has its own words for it."""
    return os.strerror(error.errno) if error.errno else type(error).__name__


def _remove(folders: list[Path]) -> None:
    """Remove the folders that are empty, the innermost first."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


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
