"""YAML reads yes, no, on and off as truth values; the message for one in the place of a text says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.errors import SettingsError
from jobs.settings import Settings


class Levels(Settings):
    levels: tuple[str, ...]


@pytest.mark.parametrize("word", ["yes", "no", "on", "off", "true"])
def test_a_truth_word_in_the_place_of_a_text_is_told_to_be_quoted(word):
    with pytest.raises(SettingsError) as raised:
        Levels.parse(f"levels: [{word}]".encode(), Path("a.yaml"))
    assert str(raised.value) == (
        "a.yaml: levels.0: Input should be a valid string (yes, no, on, off, true and false need quotes to be text)"
    )
    assert Levels.parse(f'levels: ["{word}"]'.encode(), Path("a.yaml")).levels == (word,)


def test_a_number_in_the_place_of_a_text_gets_no_such_hint():
    with pytest.raises(SettingsError, match=r"levels\.0: Input should be a valid string$"):
        Levels.parse(b"levels: [1]", Path("a.yaml"))
