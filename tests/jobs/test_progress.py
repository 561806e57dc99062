from __future__ import annotations

import io
import re

import pytest

from jobs.commandline import Progress


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_elsewhere_a_step_is_a_line_before_and_a_line_after():
    stream = io.StringIO()
    with Progress(stream).step("applications", total=10) as advance:
        assert stream.getvalue() == "applications ...\n"
        advance(10)
        advance()
        assert stream.getvalue() == "applications ...\n"
    assert re.fullmatch(r"applications \.\.\.\napplications: \d+\.\d s\n", stream.getvalue())


def test_elsewhere_a_step_that_fails_is_not_said_to_be_done():
    stream = io.StringIO()
    with pytest.raises(ValueError, match=r"^mine$"), Progress(stream).step("applications"):
        raise ValueError("mine")
    assert stream.getvalue() == "applications ...\n"


def test_on_a_terminal_a_step_is_a_bar():
    stream = Terminal()
    with Progress(stream).step("applications", total=10) as advance:
        advance(6)
        advance()
        advance(3)
    shown = stream.getvalue().split("\r")
    assert re.match(r"applications:   0%\|", shown[1])
    assert re.match(r"applications: 100%\|.*\| 10/10 ", shown[-1])
    assert "applications ..." not in stream.getvalue()


def test_on_a_terminal_a_step_may_have_no_known_end():
    stream = Terminal()
    with Progress(stream).step("applications") as advance:
        advance(4)
    assert stream.getvalue().split("\r")[-1].startswith("applications: 4it")


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_a_line_is_a_line_everywhere(stream):
    written = stream()
    Progress(written).line("one")
    assert written.getvalue() == "one\n"


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_quiet_is_quiet_everywhere(stream):
    written = stream()
    progress = Progress(written, quiet=True)
    with progress.step("applications", total=10) as advance:
        advance(10)
        advance()
    progress.line("one")
    assert written.getvalue() == ""


def test_progress_goes_to_standard_error_if_no_stream_is_named(capsys):
    Progress().line("one")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "one\n")
