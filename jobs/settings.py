"""Read YAML files, within bounds, into frozen and strict models, find open questions in them, and read secrets."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from jobs.errors import SecretError, SettingsError

_DEPTH = 64
"""Levels of a document; no settings are deeper."""
_NODES = 50_000
"""Values of a document; each alias counts all values that it stands for."""
_NUMBER = 64
"""Characters of a number or date: the time of int() grows with their square."""
_SHOWN = 160
_TEXT, _MERGE = "tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"
_NUMBERS = tuple(f"tag:yaml.org,2002:{kind}" for kind in ("int", "float", "timestamp"))


def read_regular(path: Path, limit: int) -> bytes:
    """Return the bytes of the regular file at `path`, links followed; OSError if it has more than `limit` bytes.

    OSError too for a pipe, a device or a folder.
    """
    # O_NONBLOCK: opening a pipe that nobody writes would wait for good. O_NOCTTY: a terminal must not become ours.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        content = b"" if found.st_size > limit else file.read(limit + 1)  # a file may grow, and in /proc has size 0
    if max(found.st_size, len(content)) > limit:
        raise OSError(errno.EFBIG, f"larger than {limit} bytes", str(path))
    return content


def read_yaml(content: bytes) -> Any:
    """Return the one document in the YAML, plain values only; SettingsError, in one line without values, if invalid.

    Names must be text and must not repeat. A document of more than 64 levels or 50,000 values is refused.
    """
    try:
        return yaml.load(content, Loader=_BoundedLoader)  # noqa: S506 - a safe loader
    except yaml.MarkedYAMLError as error:
        line = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise SettingsError(f"not YAML ({printable(str(error.problem))}{line})") from None
    except (yaml.YAMLError, UnicodeError) as error:
        raise SettingsError(f"not YAML ({printable(str(getattr(error, 'reason', type(error).__name__)))})") from None
    except (ArithmeticError, LookupError, ValueError):  # of chr, for an escape beyond Unicode
        raise SettingsError("not YAML (an escape that is no character)") from None


def printable(text: str) -> str:
    """Return the beginning of a text, in one line.

    >>> printable("two" + chr(10) + "lines")
    'two?lines'
    """
    shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
    return "".join(character if character.isprintable() else "?" for character in shown)


class _BoundedLoader(yaml.SafeLoader):
    """PyYAML's safe loader with bounds; that one has none, and keeps the last of repeated names without a word."""

    def __init__(self, stream: bytes) -> None:
        super().__init__(stream)
        self._depth = 0
        self._nodes = 0
        self._sizes: dict[int, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Return the next node; ComposerError if the document has become too deep or too large."""
        mark, before = self.peek_event().start_mark, self._nodes  # type: ignore[no-untyped-call]
        self._depth += 1
        if self._depth > _DEPTH:
            raise yaml.composer.ComposerError(None, None, f"more than {_DEPTH} levels", mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        self._nodes += self._sizes.get(id(node), 1)  # of an alias: all that it stands for
        if self._nodes > _NODES:
            raise yaml.composer.ComposerError(None, None, f"more than {_NODES} values", mark)
        self._sizes[id(node)] = self._nodes - before
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Return the value of a node; ConstructorError for one such as the date 2026-13-45."""
        if node.tag in _NUMBERS and len(node.value) > _NUMBER:
            _refuse(f"a number or date of more than {_NUMBER} characters", node)
        try:
            return super().construct_object(node, deep)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            _refuse(f"no value of the kind {node.tag.rpartition(':')[2]}", node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Return the mapping of a node; ConstructorError if a name is not text or repeats."""
        if isinstance(node, yaml.MappingNode):
            _require_names(node)
        return super().construct_mapping(node, deep)


def _require_names(node: yaml.MappingNode) -> None:
    """Refuse a name that is not text or repeats; names that `<<` merges in are not counted."""
    names = set()
    for key, _ in node.value:
        if key.tag not in (_TEXT, _MERGE):
            _refuse("a name that is no text: put it in quotes", key)
        if key.value in names:
            _refuse(f"repeated key: {key.value}", key)
        names.add(key.value)


def _refuse(problem: str, node: yaml.Node) -> NoReturn:
    raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


def read_document(path: Path) -> Any:
    """Return the plain values in the YAML file at `path`; SettingsError, naming it, if it cannot be read."""
    try:
        return read_yaml(read_regular(path, SETTINGS_BYTES))
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror})") from None
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}") from None


SETTINGS_BYTES = 1 << 19
"""Largest file of settings; 2,500 API keys fit."""

_LISTED = 8
"""Faults that are listed of one file."""


class Settings(BaseModel):
    """Base of every settings model: an unknown key or a value of the wrong kind is an error that names the key."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Return the settings in the YAML file at `path`; SettingsError if it cannot be read or does not fit."""
        return cls.checked(read_document(path), path)

    @classmethod
    def parse(cls, content: bytes, source: Path) -> Self:
        """Return the settings in the YAML `content`; SettingsError, naming `source`, if it does not fit."""
        try:
            document = read_yaml(content)
        except SettingsError as error:
            raise SettingsError(f"{source}: {error}") from None
        return cls.checked(document, source)

    @classmethod
    def checked(cls, content: object, source: Path) -> Self:
        """Return the settings in parsed `content`; SettingsError, naming `source`, if it does not fit."""
        # By way of JSON: strict mode of pydantic takes lists for tuples and text for enumerations only from JSON.
        try:
            written = json.dumps(content, default=str)
        except ValueError as error:  # a number of too many digits, a document that contains itself
            raise SettingsError(f"{source}: {printable(str(error))}") from None
        try:
            return cls.model_validate_json(written, strict=True)
        except ValidationError as error:
            raise SettingsError(f"{source}: {_listed(error)}") from None


def _listed(error: ValidationError) -> str:
    faults = error.errors(include_url=False)
    faults.sort(key=lambda fault: fault["type"] == "missing")  # a key that is not known explains those that are missing
    told = [f"{'.'.join(map(str, item['loc'])) or 'file'}: {item['msg']}{_hint(item)}" for item in faults[:_LISTED]]
    more = [f"and {len(faults) - _LISTED} more"] if len(faults) > _LISTED else []
    return "; ".join([printable(one) for one in told] + more)


def _hint(fault: ErrorDetails) -> str:
    # YAML 1.1 reads yes, no, on and off as truth values, also where they are levels of a category.
    truth = fault["type"] == "string_type" and isinstance(fault["input"], bool)
    return " (yes, no, on, off, true and false need quotes to be text)" if truth else ""


MARK = "# ?"
"""The beginning of a comment that asks something: a person answers it and takes it away before the file is used."""

_ASKED = re.compile(r"(?<!\S)#[ \t]*\?")


def open_questions(text: str) -> tuple[int, ...]:
    """Return the line, from 1, of each open question in the text of a YAML file that can be read.

    >>> open_questions('a: 1  # ? is it' + chr(10) + 'b: "no # ? question"')
    (1,)
    """
    # The scanner is slow and needed only where the mark stands somewhere: it may stand within a quoted text.
    if not _ASKED.search(text):
        return ()
    return tuple(n for n, line in enumerate(_without_scalars(text).split("\n"), start=1) if _ASKED.search(line))


def _without_scalars(text: str) -> str:
    """The text with a letter in place of each character of a value, so that a mark is left in comments alone."""
    kept, end = [], 0
    for token in yaml.scan(text, Loader=yaml.SafeLoader):
        if isinstance(token, yaml.ScalarToken):
            start, after = token.start_mark.index, token.end_mark.index
            kept += [text[end:start], re.sub(r"[^\n]", "x", text[start:after])]
            end = after
    return "".join([*kept, text[end:]])


def questions_in(file: Path) -> tuple[int, ...]:
    """Return the lines of the open questions of a file; SettingsError if it cannot be read as YAML."""
    try:
        return open_questions(read_regular(file, SETTINGS_BYTES).decode("utf-8-sig"))
    except OSError as error:
        raise SettingsError(f"{file}: cannot be read ({error.strerror})") from None
    except (UnicodeError, yaml.YAMLError):
        raise SettingsError(f"{file}: not YAML") from None


def refuse_open_questions(file: Path) -> None:
    """SettingsError, with their number and the first line, if a file has open questions."""
    if lines := questions_in(file):
        raise SettingsError(f"{file}: {told(lines)}: answer each and remove its comment")


def told(lines: Sequence[int]) -> str:
    """Return in words how many questions are open, and where the first one stands.

    >>> told((7, 9))
    '2 open questions, the first in line 7'
    """
    return f"{len(lines)} open question{'s' if len(lines) > 1 else ''}, the first in line {lines[0]}"


_SECRET_BYTES = 8_192


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret, and the place that errors may name.

    Attributes
    ----------
    text : of a file without the blanks around it; it may be empty
    place : the variable, or the variable and the file that it names
    in_file : whether it comes from a file
    """

    text: str = field(repr=False)
    place: str
    in_file: bool


def stated_secret(environment: Mapping[str, str], variable: str) -> Secret | None:
    """The secret in the variable, or in the file that VARIABLE_FILE names; None if both are unset or empty.

    SecretError, which never shows the secret, if both are set, or if the file cannot be read or trusted.

    >>> stated_secret({"KEY": "abc", "KEY_FILE": ""}, "KEY")
    Secret(place='KEY', in_file=False)
    """
    # A file is better: whoever may read the environment of the process sees the variable's value there.
    in_variable = f"{variable}_FILE"
    text, file = environment.get(variable), environment.get(in_variable)
    if text and file:
        raise SecretError(f"{variable} and {in_variable} are both set: set one of them")
    if file:
        return Secret(_secret_in(Path(file), in_variable), f"{in_variable}: the content of {file}", in_file=True)
    return Secret(text, variable, in_file=False) if text else None


def _secret_in(path: Path, variable: str) -> str:
    try:
        content = read_regular(path, _SECRET_BYTES)
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a path"
        raise SecretError(f"{variable}: {path} cannot be read ({reason})") from None
    # Only writing is refused: Kubernetes mounts secrets readable by all in the pod unless a mode is set
    if mode & stat.S_IWOTH:
        raise SecretError(f"{variable}: everybody may change {path}: allow its owner alone, as by chmod 600")
    return os.fsdecode(content).strip()
