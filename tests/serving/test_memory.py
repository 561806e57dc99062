"""How many arenas the threads of a process make, and what it keeps of memory that it has freed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_THREADS = """
import ctypes, re, sys, threading
from serving.runtime import share_one_arena
libc = ctypes.CDLL(None)
if not hasattr(libc, "malloc_info"):
    sys.exit(77)
libc.fopen.restype = ctypes.c_void_p
def arenas():
    file = libc.fopen(sys.argv[1].encode(), b"w")
    libc.malloc_info(0, ctypes.c_void_p(file))
    libc.fclose(ctypes.c_void_p(file))
    return len(re.findall("<heap nr=", open(sys.argv[1]).read()))
if {shared}:
    share_one_arena()
before = arenas()
done, begun = threading.Event(), threading.Barrier(9)
def work():
    block = bytearray(100_000)
    begun.wait()
    done.wait()
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads:
    thread.start()
begun.wait()
after = arenas()
done.set()
print(after - before)
"""


def _new_arenas(file: Path, *, shared: bool) -> int:
    command = [sys.executable, "-c", _THREADS.format(shared=shared), str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 77:
        pytest.skip("the C library is not glibc")
    return int(done.stdout)


@pytest.mark.slow
def test_threads_share_an_arena(tmp_path: Path) -> None:
    assert _new_arenas(tmp_path / "apart", shared=False) > 0
    assert _new_arenas(tmp_path / "shared", shared=True) == 0


_FREED = """
import ctypes, sys
from serving.runtime import return_free_memory
if not hasattr(ctypes.CDLL(None), "malloc_trim"):
    sys.exit(77)
def held():
    return int(open("/proc/self/statm").read().split()[1])
blocks = [bytearray(50_000) for _ in range(2_000)]
del blocks[:-1]  # the last one keeps those below it from the system
before = held()
return_free_memory()
print(before - held())
"""
_PAGE = 4_096


@pytest.mark.slow
def test_freed_memory_goes_back_to_the_system():
    done = subprocess.run([sys.executable, "-c", _FREED], capture_output=True, text=True, check=False)
    if done.returncode == 77:
        pytest.skip("the C library is not glibc")
    assert int(done.stdout) * _PAGE > 50_000_000
