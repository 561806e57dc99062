"""How a signal ends a command: where the command says that it can, and anywhere if it does not."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from jobs.commandline import stop_if_asked, until_stopped
from tests.features.examples import ROOT


class Finalized:
    """Asks for an end while it is finalized, where Python drops what is raised."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGTERM)


def test_what_is_asked_in_a_finalizer_is_not_lost(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> int:
        Finalized()
        stop_if_asked()
        return pytest.fail("went on")

    assert until_stopped(command) == 128 + signal.SIGTERM
    assert capsys.readouterr().err == "stopped by SIGTERM\n"


def test_a_lock_is_not_left_held() -> None:
    """Whoever holds a lock while the signal comes releases it, since nothing is raised there."""
    lock, done = threading.Lock(), []

    def command() -> int:
        lock.acquire()
        signal.raise_signal(signal.SIGINT)
        lock.release()
        done.append(True)
        stop_if_asked()
        return pytest.fail("went on")

    assert until_stopped(command) == 128 + signal.SIGINT
    assert done == [True]
    assert not lock.locked()


def test_a_command_that_is_done_before_it_can_be_stopped_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> int:
        signal.raise_signal(signal.SIGTERM)
        return 0

    assert until_stopped(command) == 0
    assert capsys.readouterr().err == ""
    stop_if_asked()


def test_a_timer_and_its_handler_are_as_before() -> None:
    fired = []
    before = signal.signal(signal.SIGALRM, lambda *_: fired.append(True))
    timer = signal.setitimer(signal.ITIMER_REAL, 1_000)
    try:
        assert until_stopped(lambda: signal.raise_signal(signal.SIGTERM) or 0) == 0
        assert 900 < signal.getitimer(signal.ITIMER_REAL)[0] <= 1_000
        signal.raise_signal(signal.SIGALRM)
        assert fired == [True]
    finally:
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, *timer)


def test_what_forces_an_end_comes_again_where_it_is_lost(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("jobs.commandline._PATIENCE", 0.2)
    monkeypatch.setattr("sys.unraisablehook", lambda _: None)

    class Slow:
        def __del__(self) -> None:
            time.sleep(0.3)

    def command() -> int:
        signal.raise_signal(signal.SIGTERM)
        Slow()
        time.sleep(600)
        return pytest.fail("went on")

    assert until_stopped(command) == 128 + signal.SIGTERM
    assert capsys.readouterr().err == "stopped by SIGTERM\n"


def test_two_signals_at_once_are_one(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> int:
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))
        stop_if_asked()
        return pytest.fail("went on")

    code = until_stopped(command)
    assert code - 128 in (signal.SIGINT, signal.SIGTERM)
    assert capsys.readouterr().err == f"stopped by {signal.Signals(code - 128).name}\n"


def test_another_thread_is_not_stopped() -> None:
    went_on = []

    def command() -> int:
        signal.raise_signal(signal.SIGTERM)
        thread = threading.Thread(target=lambda: went_on.append(stop_if_asked()))
        thread.start()
        thread.join()
        stop_if_asked()
        return pytest.fail("went on")

    assert until_stopped(command) == 128 + signal.SIGTERM
    assert went_on == [None]


def test_the_handlers_are_as_before() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert until_stopped(lambda: 3) == 3
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.slow
def test_what_never_comes_to_such_a_place_is_stopped_where_it_is_and_cleans_up(tmp_path: Path) -> None:
    begun, cleaned = tmp_path / "begun", tmp_path / "cleaned"
    script = f"""
import sys, time
from pathlib import Path
from jobs.commandline import until_stopped

def command():
    try:
        Path({str(begun)!r}).touch()
        time.sleep(3600)
    finally:
        Path({str(cleaned)!r}).touch()

sys.exit(until_stopped(command))
"""
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        end = time.monotonic() + 600
        while not begun.exists():
            assert time.monotonic() < end, "it does not begin"
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=600)
    assert (process.returncode, said) == (128 + signal.SIGTERM, "stopped by SIGTERM\n")
    assert cleaned.exists()


def test_the_timer_that_forces_an_end_is_off_while_the_command_cleans_up() -> None:
    left = []

    def command() -> int:
        signal.raise_signal(signal.SIGTERM)
        try:
            stop_if_asked()
        finally:
            left.append(signal.getitimer(signal.ITIMER_REAL))
        return 0

    assert until_stopped(command) == 128 + signal.SIGTERM
    assert left == [(0.0, 0.0)]
