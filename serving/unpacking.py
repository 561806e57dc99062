"""Turn Parquet into an uncompressed Arrow stream, in a process of its own that has little memory.

A page of a Parquet file may claim any size, whatever the footer says of it, and no reader of it can be told how much it
may take. Here the system refuses. The process serves one worker, knows none of its secrets and ends with it; if a body
makes it fail, the next body gets a new one. Its answers are as little trusted as any body.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from struct import Struct
from threading import Timer
from typing import IO
from weakref import finalize

_ROOT = Path(__file__).resolve().parent.parent
_SIZE = Struct("<Q")
_DONE, _REFUSED = b"+", b"-"
_MEMORY = 256 << 20
"""Bytes of memory for a body and all that is made of it."""
_KEPT_VARIABLES = ("PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH")

MANY, WIDE, LARGE, UNREADABLE = "too many rows", "too many columns", "too large", "unreadable"


class UnpackingError(Exception):
    """A body is no Parquet that may be read; the message is MANY, WIDE, LARGE or UNREADABLE."""


class Unpacker:
    """Has Parquet read by another process, which starts with the first body; one thread may use it.

    Parameters
    ----------
    rows, columns : most of a table
    most : most bytes of the stream
    seconds : the process is ended if a body takes it longer
    """

    def __init__(self, *, rows: int, columns: int, most: int, seconds: float) -> None:
        self._limits = (str(rows), str(columns), str(most), str(seconds))
        self._most = most
        self._seconds = seconds
        self._process: subprocess.Popen[bytes] | None = None

    def unpack(self, body: bytes) -> bytes:
        """Return the table of a Parquet file as an Arrow stream; UnpackingError if there is none."""
        process = self._running()
        late = Timer(self._seconds, process.kill)
        late.start()
        try:
            return self._answer_of(process, body)
        except (OSError, EOFError):  # it ended, or was ended
            self._end()
            raise UnpackingError(UNREADABLE) from None
        finally:
            late.cancel()

    def _answer_of(self, process: subprocess.Popen[bytes], body: bytes) -> bytes:
        to, back = process.stdin, process.stdout
        if to is None or back is None:
            raise EOFError
        _send(to, body)
        size = _SIZE.unpack(_exactly(back, _SIZE.size))[0]
        if size > self._most + 1:
            self._end()  # what it sends is not read
            raise UnpackingError(LARGE)
        answer = _exactly(back, size)
        if answer[:1] != _DONE:
            raise UnpackingError(answer[1:].decode(errors="replace"))
        return answer[1:]

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self._end()
            kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
            self._process = subprocess.Popen(  # noqa: S603 - no shell, and nothing of a request is in the command
                [sys.executable, "-m", "serving.unpacking", *self._limits],
                cwd=_ROOT,
                env={**kept, "ARROW_DEFAULT_MEMORY_POOL": "system", "OPENBLAS_NUM_THREADS": "1"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # a library's last words may quote a value
                start_new_session=True,
            )
            self._finalizer = finalize(self, _ended, self._process)
        return self._process

    def _end(self) -> None:
        if self._process is not None:
            self._finalizer()
        self._process = None


def _ended(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):  # of what was not sent yet
                pipe.close()
    process.wait()


def _send(pipe: IO[bytes], content: bytes) -> None:
    pipe.write(_SIZE.pack(len(content)))
    pipe.write(content)
    pipe.flush()


def _exactly(pipe: IO[bytes], size: int) -> bytes:
    content = pipe.read(size)
    if len(content) < size:
        raise EOFError
    return content


def serve(rows: int, columns: int, most: int, seconds: float) -> None:
    """Answer bodies on standard input until it ends."""
    import pyarrow as pa

    _limit(resource.RLIMIT_DATA, _MEMORY)
    _limit(resource.RLIMIT_CORE, 0)  # a core would hold applications
    source, target = sys.stdin.buffer, sys.stdout.buffer
    while head := source.read(_SIZE.size):
        _allow(seconds)
        try:
            answer = _DONE + _stream(_exactly(source, _SIZE.unpack(head)[0]), rows, columns, most)
        except UnpackingError as refusal:
            answer = _REFUSED + str(refusal).encode()
        except (MemoryError, pa.ArrowMemoryError):
            answer = _REFUSED + LARGE.encode()
        except (pa.ArrowException, OSError, ValueError):
            answer = _REFUSED + UNREADABLE.encode()
        _send(target, answer)


def _allow(seconds: float) -> None:
    """Let the system end this process after so many more seconds of processor time."""
    spent = resource.getrusage(resource.RUSAGE_SELF)
    _limit(resource.RLIMIT_CPU, int(spent.ru_utime + spent.ru_stime + seconds) + 1)


def _limit(kind: int, most: int) -> None:
    """Limit what this process may take, unless it may take less already."""
    _, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def _stream(body: bytes, rows: int, columns: int, most: int) -> bytes:
    import pyarrow as pa
    from pyarrow import ipc, parquet

    with parquet.ParquetFile(pa.BufferReader(body), pre_buffer=False) as file:
        if file.metadata.num_rows > rows:
            raise UnpackingError(MANY)
        if file.metadata.num_columns > columns:
            raise UnpackingError(WIDE)
        table = file.read(use_threads=False)
    if table.nbytes > most:
        raise UnpackingError(LARGE)
    sink = pa.BufferOutputStream()
    with ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    stream: bytes = sink.getvalue().to_pybytes()
    return stream


if __name__ == "__main__":
    most_rows, most_columns, most_bytes = map(int, sys.argv[1:4])
    serve(most_rows, most_columns, most_bytes, float(sys.argv[4]))
