"""The answers that are kept for requests with an Idempotency-Key, in real files."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from decision_log.answers import FILE, Claim, KeptAnswers, Standing, is_on_network, remove_ended
from decision_log.errors import AnswersError
from tests.server import ROOT


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def answers(tmp_path: Path, clock: Clock) -> Iterator[KeptAnswers]:
    kept = KeptAnswers(tmp_path, lease_seconds=10, seconds=100, clock=clock)
    yield kept
    kept.close()


def claim(key: str = "k-1", body: bytes = b"{}", caller: str = "shop", path: str = "/predict") -> Claim:
    return Claim.of(caller, key, path, body)


def rows(folder: Path) -> int:
    connection = sqlite3.connect(folder / FILE)
    (count,) = connection.execute("SELECT count(*) FROM answers").fetchone()
    connection.close()
    return int(count)


def test_a_key_is_free_then_in_flight_and_then_has_its_answer(answers: KeptAnswers) -> None:
    first = claim()
    assert [answers.claim(first), answers.claim(claim())] == [Standing.FREE, Standing.IN_FLIGHT]
    answers.keep(first, b"answer")
    assert answers.claim(claim()) == b"answer"


@pytest.mark.parametrize(
    "other", [claim(body=b"{ }"), claim(path="/predict/batch"), claim(path="/predict", body=b"\n{}")]
)
def test_a_key_stands_for_one_request(answers: KeptAnswers, other: Claim) -> None:
    first = claim()
    answers.claim(first)
    assert answers.claim(other) is Standing.OTHER_REQUEST
    answers.keep(first, b"answer")
    assert answers.claim(other) is Standing.OTHER_REQUEST


@pytest.mark.parametrize("other", [claim(caller="bank"), claim(caller=""), claim(key="k-2")])
def test_a_key_belongs_to_one_caller(answers: KeptAnswers, other: Claim) -> None:
    answers.claim(claim())
    assert answers.claim(other) is Standing.FREE


def test_a_released_key_is_free_again_for_any_request(answers: KeptAnswers) -> None:
    first = claim()
    answers.claim(first)
    answers.release(first)
    assert answers.claim(claim(body=b"[]")) is Standing.FREE


def test_nobody_releases_or_answers_for_another(answers: KeptAnswers) -> None:
    first, second = claim(), claim()
    answers.claim(first)
    answers.release(second)
    answers.keep(second, b"wrong")
    assert answers.claim(second) is Standing.IN_FLIGHT


def test_a_lease_ends_and_its_late_answer_is_dropped(answers: KeptAnswers, clock: Clock) -> None:
    first, second = claim(), claim()
    answers.claim(first)
    clock.now += 9.9
    assert answers.claim(second) is Standing.IN_FLIGHT
    clock.now += 0.1
    assert answers.claim(second) is Standing.FREE
    answers.keep(first, b"late")
    answers.keep(second, b"right")
    assert answers.claim(claim()) == b"right"


def test_an_answer_outlives_the_process_and_ends_at_its_time(tmp_path: Path, clock: Clock) -> None:
    code = f"""
from pathlib import Path
from decision_log.answers import KeptAnswers
from tests.decision_log.test_answers import Clock, claim
kept = KeptAnswers(Path({str(tmp_path)!r}), lease_seconds=10, seconds=100, clock=Clock())
first = claim()
kept.claim(first)
kept.keep(first, b"answer")
import os
os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == -9
    kept = KeptAnswers(tmp_path, lease_seconds=10, seconds=100, clock=clock)
    clock.now += 99.9
    assert kept.claim(claim()) == b"answer"
    clock.now += 0.1
    assert kept.claim(claim()) is Standing.FREE
    kept.close()


def test_two_workers_share_the_keys(answers: KeptAnswers, tmp_path: Path, clock: Clock) -> None:
    other = KeptAnswers(tmp_path, lease_seconds=10, seconds=100, clock=clock)
    first = claim()
    answers.claim(first)
    assert other.claim(claim()) is Standing.IN_FLIGHT
    answers.keep(first, b"answer")
    assert other.claim(claim()) == b"answer"
    other.close()


def test_on_a_network_volume_there_is_no_shared_memory(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"1 0 8:1 / / rw - ext4 /dev/sda rw\n2 1 0:9 / {tmp_path} rw - nfs4 server:/ rw\n")
    monkeypatch.setattr("decision_log.answers._MOUNTS", mounts)
    one, other = (KeptAnswers(tmp_path, lease_seconds=10, seconds=100, clock=clock) for _ in range(2))
    first = claim()
    assert [one.claim(first), other.claim(claim())] == [Standing.FREE, Standing.IN_FLIGHT]
    one.keep(first, b"answer")
    assert other.claim(claim()) == b"answer"
    assert sorted(file.name for file in tmp_path.iterdir()) == [FILE, "mounts"]
    one.close()
    other.close()


def test_a_file_with_a_write_ahead_log_is_used_without_one_on_a_network_volume(
    answers: KeptAnswers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers.claim(claim())
    answers.close()
    mounts = tmp_path / "mounts"
    mounts.write_text(f"1 0 0:9 / {tmp_path} rw - fuse.sshfs server:/ rw\n")
    monkeypatch.setattr("decision_log.answers._MOUNTS", mounts)
    assert answers.claim(claim()) is Standing.IN_FLIGHT
    assert sorted(file.name for file in tmp_path.iterdir()) == [FILE, "mounts"]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("2 1 0:9 / /srv/two\\040words rw shared:1 master:2 - nfs server:/ rw", True),
        ("2 1 0:9 / /srv/two\\040words rw - xfs /dev/sdb rw", False),
        ("2 1 0:9 / /srv rw - nfs server:/ rw", True),
        ("2 1 0:9 / /srv/two rw - nfs server:/ rw", False),
    ],
)
def test_a_network_volume_is_known_by_its_mount(line: str, found: bool) -> None:
    assert is_on_network(Path("/srv/two words/log"), f"1 0 8:1 / / rw - ext4 /dev/sda rw\n{line}\n") is found


def test_the_files_are_for_their_owner_and_hold_no_key_or_body(answers: KeptAnswers, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        first = Claim.of("front-office", "key-S3CR3T", "/predict", b'{"AMT_CREDIT": 918273}')
        answers.claim(first)
    finally:
        os.umask(before)
    answers.keep(first, b"answer")
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == [FILE, f"{FILE}-shm", f"{FILE}-wal"]
    for file in files:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        for secret in (b"S3CR3T", b"918273", b"front-office"):
            assert secret not in file.read_bytes()


def test_old_rows_go_as_new_ones_come(answers: KeptAnswers, tmp_path: Path, clock: Clock) -> None:
    for number in range(20):
        answers.claim(claim(f"old-{number}"))
    clock.now += 10
    left = []
    for number in range(4):
        answers.claim(claim(f"new-{number}"))
        left.append(rows(tmp_path))
    assert left == [13, 6, 3, 4]


def test_closing_the_log_removes_what_has_ended(answers: KeptAnswers, tmp_path: Path, clock: Clock) -> None:
    assert remove_ended(tmp_path / "elsewhere", clock.now) == 0
    for number in range(20):
        answers.claim(claim(f"old-{number}"))
    clock.now += 5
    answers.claim(claim("new"))
    assert [remove_ended(tmp_path, clock.now), remove_ended(tmp_path, clock.now + 5)] == [0, 20]
    assert rows(tmp_path) == 1


def test_a_file_that_was_removed_is_made_again(answers: KeptAnswers, tmp_path: Path) -> None:
    answers.claim(claim())
    for file in tmp_path.iterdir():
        file.unlink()
    assert answers.claim(claim()) is Standing.FREE
    assert rows(tmp_path) == 1


def test_a_file_that_is_none_is_an_error_without_its_content(answers: KeptAnswers, tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"S3CR3T" * 1_000)
    with pytest.raises(AnswersError, match=rf"^{tmp_path}/{FILE}: cannot be used \(SQLITE_NOTADB\)$"):
        answers.claim(claim())
    with pytest.raises(AnswersError, match="SQLITE_NOTADB"):
        remove_ended(tmp_path, 0.0)


def test_a_link_is_not_followed(answers: KeptAnswers, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").touch()
    (tmp_path / FILE).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(AnswersError, match="Too many levels of symbolic links"):
        answers.claim(claim())


def test_a_folder_that_is_gone_is_an_error_until_it_is_back(tmp_path: Path, clock: Clock) -> None:
    folder = tmp_path / "log"
    kept = KeptAnswers(folder, lease_seconds=10, seconds=100, clock=clock)
    with pytest.raises(AnswersError, match="No such file or directory"):
        kept.claim(claim())
    folder.mkdir()
    assert kept.claim(claim()) is Standing.FREE
    kept.close()


def test_a_full_disk_is_an_error_and_changes_nothing(answers: KeptAnswers, tmp_path: Path) -> None:
    code = f"""
import resource
from pathlib import Path
from decision_log.answers import KeptAnswers, Standing; from decision_log.errors import AnswersError
from tests.decision_log.test_answers import Clock, claim
kept = KeptAnswers(Path({str(tmp_path)!r}), lease_seconds=10, seconds=100, clock=Clock())
first = claim()
assert kept.claim(first) is Standing.FREE
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 17, 1 << 17))
try:
    kept.keep(first, bytes(1 << 20))
except AnswersError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"{tmp_path}/{FILE}: cannot be used (SQLITE_")
    assert answers.claim(claim()) is Standing.IN_FLIGHT
