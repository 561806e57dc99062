"""Locks that end with their process, however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.output import is_held, locked, take_lock
from tests.features.examples import ROOT

HOLDER = """
import sys, time
from pathlib import Path
from jobs.output import locked
with locked(Path(sys.argv[1])) as ours:
    print(ours, flush=True)
    time.sleep(3600)
"""


@pytest.fixture(params=["file", "folder"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "place"
    if request.param == "folder":
        path.mkdir()
    return path


def test_one_at_a_time_has_a_lock(place: Path) -> None:
    with locked(place) as first, locked(place, wait=False) as second:
        assert (first, second) == (True, False)
    with locked(place, wait=False) as third:
        assert third


@pytest.mark.slow
def test_a_lock_ends_with_a_process_that_is_killed(place: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDER, place], cwd=ROOT, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        with locked(place, wait=False) as ours:
            assert not ours
        holder.send_signal(signal.SIGKILL)
        with locked(place) as ours:
            assert ours


def test_only_its_owner_may_use_the_file_that_a_lock_makes(tmp_path: Path) -> None:
    with locked(tmp_path / "lock"):
        assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o600


def test_several_may_share_a_lock_which_nobody_has_alone_then(tmp_path: Path) -> None:
    first, second = os.open(tmp_path, os.O_RDONLY), os.open(tmp_path, os.O_RDONLY)
    try:
        assert take_lock(first, shared=True)
        assert take_lock(second, wait=False, shared=True)
        assert is_held(tmp_path)
    finally:
        os.close(first)
        assert is_held(tmp_path)
        os.close(second)
    assert not is_held(tmp_path)


@pytest.mark.parametrize("name", ["none", "file", "link"])
def test_what_is_no_folder_is_not_asked_whether_it_is_held(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(OSError, match=f"{name}'$"):
        is_held(tmp_path / name)
