"""Diagnosis of files that cannot be read as tables: one line says what is wrong and quotes no value."""

from __future__ import annotations

import codecs
import csv
import io
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

from features.errors import FileError
from features.storage import StoredFile

SUFFIXES = (".csv", ".parquet")
SEPARATORS = {",": "a comma", ";": "';'", "\t": "a tabulator", "|": "'|'"}

_HEAD_BYTES = 1 << 16
_PACKED = (".gz", ".bz2", ".xz", ".zst", ".zip", ".lz4", ".7z", ".br", ".tgz", ".tar", ".snappy", ".z")
_BINARY = (
    (b"PAR1", "Parquet"),
    (b"PARE", "encrypted Parquet"),
    (b"\x1f\x8b", "compressed (gzip)"),
    (b"BZh", "compressed (bzip2)"),
    (b"\xfd7zXZ", "compressed (xz)"),
    (b"\x28\xb5\x2f\xfd", "compressed (Zstandard)"),
    (b"\x04\x22\x4d\x18", "compressed (LZ4)"),
    (b"7z\xbc\xaf", "compressed (7-Zip)"),
    (b"Rar!", "compressed (RAR)"),
    (b"PK\x03\x04", "a ZIP archive or an Excel workbook"),
    (b"PK\x05\x06", "an empty ZIP archive"),
    (b"\xd0\xcf\x11\xe0", "an Excel workbook"),
    (b"ARROW1", "Arrow IPC (Feather)"),
    (b"ORC", "ORC"),
    (b"Obj\x01", "Avro"),
    (b"SQLite format 3", "an SQLite database"),
    (b"\x89HDF", "HDF5"),
    (b"\x80\x04", "a pickle"),
    (b"\x80\x05", "a pickle"),
)
_MAGIC = {"gzip": b"\x1f\x8b", "zstd": b"\x28\xb5\x2f\xfd"}
# UTF-32 first: the mark of UTF-16 in little-endian order is the beginning of that of UTF-32.
_WIDE_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
_JSON = re.compile(rb"\s*(\{\s*[\"}]|\[\s*[\[{])")
# Excel reads the separator from such a line. It is no header.
_SEP_LINE = re.compile(r"\"?sep=.?\"?$", re.IGNORECASE)
_COMMENT = ("#", "//", "--", "%")


def refuse_unreadable(file: StoredFile, separator: str = ",") -> str:
    """The format of a file, csv or parquet; FileError unless its suffix and its first bytes agree on one."""
    suffix = file.suffix
    if suffix not in SUFFIXES:
        packed = " (of compressed files only .csv.gz and .csv.zst are read)" if suffix in _PACKED else ""
        raise FileError(f"{file}: neither .csv nor .parquet{packed}")
    try:
        with file.open(ahead=_HEAD_BYTES) as opened:
            head = opened.read(_HEAD_BYTES)
        fault = _not_packed(head, file.packing)
        if file.packing and fault is None:
            with file.unpacked() as unpacked:
                head = unpacked.read(_HEAD_BYTES)
    except OSError as error:
        raise FileError(f"{file}: {unread(error)}") from None
    fault = fault or (_not_csv(head, separator) if suffix == ".csv" else _not_parquet(head))
    if fault is not None:
        raise FileError(f"{file}: {fault}")
    return suffix[1:]


def unread(error: OSError) -> str:
    """A line on a file whose bytes cannot be had."""
    if is_damage(error):
        return "is damaged or cut short"
    return f"cannot be read ({os.strerror(error.errno) if error.errno else type(error).__name__})"


def is_damage(error: OSError) -> bool:
    """Whether Arrow has raised the error, since the content cannot be unpacked; others have a number or a name."""
    return type(error) is OSError and error.errno is None


def _not_packed(head: bytes, packing: str | None) -> str | None:
    if packing is None or head.startswith(_MAGIC[packing]):
        return None
    return f"is {_format_of(head) or 'text'}, not {packing} as its suffix says" if head else "is empty"


def _not_parquet(head: bytes) -> str | None:
    if head.startswith(b"PAR1"):
        return None
    what = "empty" if not head.strip() else _format_of(head) or "text"
    return f"is {what}, not Parquet as its suffix says"


def _not_csv(head: bytes, separator: str) -> str | None:
    if not head.removeprefix(codecs.BOM_UTF8).strip():
        return "is empty"
    for mark, name in _WIDE_MARKS:
        if head.startswith(mark):
            return f"is {name} text: save it as UTF-8"
    content = _format_of(head)
    if content is not None:
        advice = ": save it as UTF-8" if "text" in content else ", not CSV as its suffix says"
        return f"is {content}{advice}"
    return _header_fault(head.removeprefix(codecs.BOM_UTF8), separator)


def _format_of(head: bytes) -> str | None:
    """The name of the format that the first bytes show, None where they may be CSV."""
    # A CSV file may have a first column named ORC: a mark of letters counts only where a NUL byte follows.
    for mark, name in _BINARY:
        if head.startswith(mark) and (not mark.isalnum() or b"\0" in head):
            return name
    if b"\0" in head:
        # Latin letters in UTF-16 have a NUL as every second byte.
        wide = head[1::2].count(0) > len(head) // 4 or head[::2].count(0) > len(head) // 4
        return "UTF-16 text without a mark" if wide else "binary"
    text = head.removeprefix(codecs.BOM_UTF8).lstrip()
    if text.startswith(b"<"):
        return "HTML or XML"
    if text.startswith(b"%PDF-"):
        return "PDF"
    return "JSON" if _JSON.match(text) else None


def _header_fault(head: bytes, declared: str) -> str | None:
    """The fault of the first line of a CSV file, which must name the columns; None if it has none."""
    line = next((line for line in head.decode(errors="replace").splitlines() if line.strip()), "")
    if _SEP_LINE.match(line.strip()):
        return f"its first line is 'sep=', not the names of the columns: remove it; {_said(declared)} separates columns"
    if line.lstrip('" ').startswith(_COMMENT):
        return "its first line is a comment, not the names of the columns: remove it"
    for separator, name in SEPARATORS.items():
        if separator != declared and line.count(separator) > line.count(declared):
            said = _said(declared).capitalize()
            return f"is {name} its separator? {said} separates columns"
    if line.startswith('"') and _is_one_field_of_many(next(csv.reader([line]))):
        return "its rows are quoted as a whole, also that of the names: remove the outer quotes"
    return None


def _said(separator: str) -> str:
    return SEPARATORS.get(separator, f"'{separator}'")


def _is_one_field_of_many(fields: list[str]) -> bool:
    return len(fields) == 1 and "," in fields[0]


@dataclass(slots=True)
class _Uneven:
    """The rows of a CSV file whose number of fields differs from that of its first line."""

    expected: int
    count: int = 0
    quoted: int = 0
    first_quoted: int = 0
    first: tuple[int, int] = (0, 0)

    def add(self, row: int, fields: list[str]) -> None:
        if len(fields) == self.expected:
            return
        if not self.count:
            self.first = row, len(fields)
        self.count += 1
        if _is_one_field_of_many(fields):
            self.first_quoted = self.first_quoted or row
            self.quoted += 1

    def __str__(self) -> str:
        if self.quoted and self.quoted == self.count:
            rows = "1 row is" if self.count == 1 else f"{self.count} rows are"
            return f"{rows} quoted as a whole, the first is row {self.first_quoted}: remove the outer quotes"
        row, fields = self.first
        if row == 1 and self.expected == 1:
            return f"its first line has 1 field and the next has {fields}: the first line must name the columns"
        more = f", and {self.count} rows differ from the header" if self.count > 1 else ""
        return f"row {row} has {fields} of {self.expected} fields{more}"


def uneven_rows(file: StoredFile, separator: str = ",") -> str | None:
    """A line on the rows with too many or too few fields; None if all have as many as the first line."""
    row = 0
    try:
        with io.TextIOWrapper(file.unpacked(), encoding="utf-8-sig", errors="replace", newline="") as text:
            # Without `strict` the csv module mends a broken quote in silence.
            rows = (fields for fields in csv.reader(text, delimiter=separator, strict=True) if fields)
            uneven = _Uneven(expected=len(next(rows, [])))
            for row, fields in enumerate(rows, start=1):
                uneven.add(row, fields)
    except csv.Error:
        return f"a quote in row {row + 1} is never closed, or text follows it"
    except OSError:
        return None
    return str(uneven) if uneven.count else None


def not_utf8(file: StoredFile) -> str | None:
    """A line that names the first line of a file that is not UTF-8; None if every line is."""
    try:
        with file.unpacked() as lines:
            number = next(_undecodable_lines(lines), None)
    except OSError:
        return None
    return None if number is None else f"line {number} is not UTF-8 text: save the file as UTF-8"


def _undecodable_lines(lines: Iterator[bytes]) -> Iterator[int]:
    for number, line in enumerate(lines, start=1):
        try:
            line.decode()
        except UnicodeDecodeError:
            yield number
