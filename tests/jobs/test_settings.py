from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from jobs.errors import SettingsError
from jobs.settings import Settings, printable, read_yaml


class Server(Settings):
    port: int
    host: str = "localhost"


def written(folder: Path, content: str | bytes) -> Path:
    path = folder / "settings.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def refusal(folder: Path, content: str | bytes, model: type[Settings] = Server) -> str:
    """What is said about the file, after its name."""
    path = written(folder, content)
    with pytest.raises(SettingsError) as caught:
        model.load(path)
    said = str(caught.value)
    assert said.startswith(f"{path}: ")
    return said.removeprefix(f"{path}: ")


class Many(Settings):
    numbers: tuple[int, ...]


@pytest.mark.slow
def test_a_file_of_as_many_values_as_are_allowed_is_read(tmp_path):
    most = 50_000 - 3  # beside the document, the name and the list
    assert len(Many.load(written(tmp_path, f"numbers: [{'1, ' * most}]")).numbers) == most
    assert "more than 50000 values" in refusal(tmp_path, f"numbers: [{'1, ' * (most + 1)}]", Many)


def test_a_file_of_as_many_bytes_as_are_allowed_is_read(tmp_path):
    most = 512 * 1024
    assert Server.load(written(tmp_path, "port: 3000".ljust(most))).port == 3000
    assert refusal(tmp_path, "port: 3000".ljust(most + 1)) == f"cannot be read (larger than {most} bytes)"


def test_a_file_is_read(tmp_path):
    assert Server.load(written(tmp_path, "port: 3000")) == Server(port=3000, host="localhost")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("port: 3000\nprot: 1", "prot: Extra inputs are not permitted"),
        ("host: here", "port: Field required"),
        ("port: many", "port: Input should be a valid integer"),
        ("", "file: Input should be "),
        ("- 1", "file: Input should be "),
        (
            "hots: a",
            "hots: Extra inputs are not permitted; port: Field required",
        ),
    ],
)
def test_a_file_that_does_not_fit_is_refused_by_its_keys(tmp_path, content, message):
    assert refusal(tmp_path, content).startswith(message)


@pytest.mark.parametrize("content", ["port: [", "\tport: 1", "port: 1: 2"])
def test_what_is_not_yaml_is_refused(tmp_path, content):
    assert refusal(tmp_path, content).startswith("not YAML (")


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(SettingsError, match=r"none.yaml: cannot be read \(No such file or directory\)$"):
        Server.load(tmp_path / "none.yaml")


def test_settings_cannot_be_changed():
    settings = Server(port=1)
    with pytest.raises(ValidationError, match="frozen"):
        settings.port = 2


def test_a_file_that_is_not_utf_8_is_refused(tmp_path):
    assert refusal(tmp_path, b"host: \xe9").startswith("not YAML")


@pytest.mark.parametrize("content", ["port: [", "\tport: 1", "port: 1: 2"])
def test_a_refusal_is_one_line(tmp_path, content):
    assert "\n" not in refusal(tmp_path, content)


@pytest.mark.parametrize("value", ["true", '"3000"', "3000.0"])
def test_a_value_of_the_wrong_kind_is_refused(tmp_path, value):
    assert refusal(tmp_path, f"port: {value}").startswith("port: ")


@pytest.mark.parametrize("content", ["port: 1\nport: 2", "port: 1\nhost: {a: 1, b: 2, a: 3}"])
def test_a_repeated_key_is_refused(tmp_path, content):
    assert "repeated key: " in refusal(tmp_path, content)


def test_a_list_that_holds_itself_is_refused(tmp_path):
    assert refusal(tmp_path, "numbers: &a [*a]", Many) == "Circular reference detected"


def test_a_document_has_64_levels_at_most():
    assert read_yaml(b"[" * 63 + b"7" + b"]" * 63) == yaml.safe_load("[" * 63 + "7" + "]" * 63)
    with pytest.raises(SettingsError, match=r"^not YAML \(more than 64 levels in line 1\)$"):
        read_yaml(b"[" * 64 + b"7" + b"]" * 64)


def test_a_number_has_64_characters_at_most():
    assert read_yaml(b"7" * 64) == int("7" * 64)
    with pytest.raises(SettingsError, match=r"^not YAML \(a number or date of more than 64 characters in line 1\)$"):
        read_yaml(b"7" * 65)


def test_a_long_text_is_cut_after_160_characters():
    assert printable("x" * 160) == "x" * 160
    assert printable("x" * 161) == "x" * 160 + "..."


@pytest.mark.parametrize(("keys", "more"), [(8, ""), (9, "; and 1 more"), (20, "; and 12 more")])
def test_eight_faults_of_a_file_are_told(tmp_path, keys, more):
    unknown = [f"k{i}" for i in range(keys)]
    said = refusal(tmp_path, "port: 1\n" + "".join(f"{key}: 1\n" for key in unknown))
    assert said == "; ".join(f"{key}: Extra inputs are not permitted" for key in unknown[:8]) + more
