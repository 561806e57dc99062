from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.errors import OutputError
from jobs.output import remove_unfinished, replaced, staged, write_json, write_text
from tests.features.examples import ROOT


class Interrupted(BaseException):
    """Neither an Exception nor a KeyboardInterrupt."""


def contents(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_the_output_appears_when_the_block_succeeds(tmp_path):
    output = tmp_path / "out"
    with staged(output) as scratch:
        (scratch / "nested").mkdir()
        (scratch / "nested" / "part").write_text("1")
        assert not output.exists()
    assert contents(tmp_path) == ["out", "out/nested", "out/nested/part"]
    assert (output / "nested" / "part").read_text() == "1"


def test_the_scratch_folder_lies_on_the_same_file_system(tmp_path):
    with staged(tmp_path / "out") as scratch:
        assert scratch.parent == tmp_path


def test_the_output_can_be_read_by_others(tmp_path):
    with staged(tmp_path / "out"):
        pass
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o755


def test_an_empty_folder_is_filled(tmp_path):
    output = tmp_path / "out"
    output.mkdir()
    with staged(output) as scratch:
        (scratch / "part").write_text("1")
        assert contents(output) == []
    assert contents(tmp_path) == ["out", "out/part"]


def test_the_folders_above_are_made(tmp_path):
    with staged(tmp_path / "a" / "b" / "out") as scratch:
        (scratch / "part").write_text("1")
    assert contents(tmp_path) == ["a", "a/b", "a/b/out", "a/b/out/part"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, Interrupted])
@pytest.mark.parametrize("existing", [[], ["out"]], ids=["new", "empty"])
def test_nothing_is_left_behind_when_the_block_fails(tmp_path, error, existing):
    for name in existing:
        (tmp_path / name).mkdir()

    def fail() -> None:
        with staged(tmp_path / "out") as scratch:
            (scratch / "nested").mkdir()
            (scratch / "nested" / "part").write_text("1")
            raise error

    with pytest.raises(error):
        fail()
    assert contents(tmp_path) == existing


def refused(output: Path) -> str:
    with pytest.raises(OutputError) as caught, staged(output):
        pytest.fail("the block must not run")
    said = str(caught.value)
    assert said.startswith(f"{output}: ")
    return said.removeprefix(f"{output}: ")


def test_a_folder_that_holds_something_is_refused_and_kept(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".hidden").write_text("mine")
    assert refused(tmp_path / "out") == "exists already"
    assert contents(tmp_path) == ["out", "out/.hidden"]


def test_a_file_is_refused_and_kept(tmp_path):
    (tmp_path / "out").write_text("mine")
    assert refused(tmp_path / "out") == "exists already"
    assert (tmp_path / "out").read_text() == "mine"


def test_an_output_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    assert refused(tmp_path / "file" / "out") == "cannot be written (File exists)"
    assert contents(tmp_path) == ["file"]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(28, "4711 bytes are too many"), "No space left on device"),
        (OSError("4711 cannot be written"), "OSError"),
        (FileNotFoundError(), "FileNotFoundError"),
    ],
)
def test_what_the_system_says_is_the_reason_and_not_what_a_library_says(tmp_path, error, said):
    output = tmp_path / "out"
    with pytest.raises(OutputError) as caught, staged(output):
        raise error
    assert str(caught.value) == f"{output}: cannot be written ({said})"


@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt])
def test_the_folders_above_are_not_left_behind_when_the_block_fails(tmp_path, error):
    with pytest.raises(error), staged(tmp_path / "a" / "b" / "out"):
        raise error
    assert contents(tmp_path) == []


def test_an_output_that_cannot_be_put_in_place_is_refused(tmp_path):
    output = tmp_path / "out"
    with pytest.raises(OutputError, match=f"^{output}: cannot be written "), staged(output):
        (tmp_path / "out" / "of somebody else").mkdir(parents=True)
    assert contents(tmp_path) == ["out", "out/of somebody else"]


@pytest.mark.parametrize("target", ["nowhere", "empty"])
def test_an_output_may_be_a_link(tmp_path, target):
    (tmp_path / "empty").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / target)
    with staged(tmp_path / "out") as scratch:
        (scratch / "part").write_text("1")
    assert (tmp_path / "out").is_symlink()
    assert contents(tmp_path / target) == ["part"]


def test_an_output_may_be_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with staged(Path()) as scratch:
        (scratch / "part").write_text("1")
    assert contents(tmp_path) == ["here", "here/part"]


@pytest.mark.parametrize("before", [None, b"old"], ids=["new", "there"])
def test_a_file_appears_when_the_block_succeeds(tmp_path, before):
    path = tmp_path / "file"
    if before is not None:
        path.write_bytes(before)
    with replaced(path) as file:
        file.write(b"new")
        file.flush()
        assert (path.read_bytes() if path.exists() else None) == before
    assert path.read_bytes() == b"new"
    assert contents(tmp_path) == ["file"]


@pytest.mark.parametrize("error", [ValueError, OSError, KeyboardInterrupt, Interrupted])
def test_a_file_is_as_it_was_when_the_block_fails(tmp_path, error):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail() -> None:
        with replaced(path) as file:
            file.write(b"half")
            raise error

    with pytest.raises(error):
        fail()
    assert path.read_bytes() == b"old"
    assert contents(tmp_path) == ["file"]


@pytest.mark.parametrize(("mode", "expected"), [(None, 0o640), (0o600, 0o600), (0o644, 0o644)])
def test_a_mode_that_is_given_is_the_file_s_whatever_the_umask_is(tmp_path, mode, expected):
    before = os.umask(0o027)
    try:
        with replaced(tmp_path / "file", mode=mode):
            pass
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == expected


@pytest.mark.parametrize(("durable", "kinds"), [(False, []), (True, ["file", "folder"])])
def test_a_durable_file_and_its_name_are_flushed_in_this_order(tmp_path, monkeypatch, durable, kinds):
    flushed, fsync = [], os.fsync

    def watched(descriptor):
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        assert (tmp_path / "file").exists() == is_folder
        flushed.append("folder" if is_folder else "file")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    with replaced(tmp_path / "file", durable=durable):
        pass
    assert flushed == kinds


def test_a_link_stays_and_what_it_names_is_replaced(tmp_path):
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to("target")
    write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "new"


def test_a_name_may_be_as_long_as_the_system_allows(tmp_path):
    write_text(tmp_path / ("a" * 255), "1")
    assert contents(tmp_path) == ["a" * 255]


def test_a_file_that_cannot_be_written_is_one_error(tmp_path):
    path = tmp_path / "none" / "file"
    with pytest.raises(OutputError) as caught:
        write_text(path, "1")
    assert str(caught.value) == f"{path}: cannot be written (No such file or directory)"
    assert contents(tmp_path) == []


def test_the_folders_above_a_file_are_made_where_that_is_asked_for(tmp_path):
    write_json(tmp_path / "a" / "b" / "file", {"ä": [1, None]}, parents=True)
    assert (tmp_path / "a" / "b" / "file").read_text() == '{\n "\\u00e4": [\n  1,\n  null\n ]\n}\n'


def test_a_number_that_json_does_not_have_is_refused_and_nothing_is_written(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "file", {"a": float("nan")})
    assert contents(tmp_path) == []


@pytest.mark.slow
def test_what_a_killed_process_left_of_a_file_is_removed_and_no_other(tmp_path):
    script = """
import os, signal, sys
from pathlib import Path
from jobs.output import replaced
with replaced(Path(sys.argv[1])) as file:
    file.write(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    for name in ("a[1]", "a"):
        killed = subprocess.run([sys.executable, "-c", script, tmp_path / name], cwd=ROOT, check=False)
        assert killed.returncode == -signal.SIGKILL
    (tmp_path / "a[1]").write_text("whole")
    remove_unfinished(tmp_path / "a[1]")
    (left,) = {*contents(tmp_path)} - {"a[1]"}
    assert left.startswith(".a-")
