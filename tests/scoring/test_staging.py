from __future__ import annotations

from pathlib import Path

import pytest

from scoring.errors import OutputError
from scoring.staging import staged


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
