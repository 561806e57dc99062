"""CSV files, and what CSV and Parquet have in common."""

from __future__ import annotations

import bz2
import gzip
import lzma
import math
import os
import socket
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from features.diagnosis import refuse_unreadable
from features.errors import ColumnsError, FileError
from features.files import open_file
from features.storage import StoredFile
from features.transformer import concatenate
from tests.features.examples import NAMES, bits, columns, read, write_csv, write_parquet
from tests.home_credit import APPLICATION, PORTFOLIO
from tests.skipped import HOME_CREDIT, needs_home_credit

HEADER = ",".join(NAMES)
FIELDS = len(NAMES)
PACKED = "neither .csv nor .parquet (of compressed files only .csv.gz and .csv.zst are read)"
DAMAGED = "is damaged or not in the format of its suffix"
ROW = ",".join(
    {"NAME_CONTRACT_TYPE": "Cash loans", "AMT_INCOME_TOTAL": "1", "AMT_CREDIT": "2"}.get(n, "") for n in NAMES
)
CONTRACT = APPLICATION.position["NAME_CONTRACT_TYPE"]


def written(path: Path, *lines: str | bytes, end: str = "\n") -> Path:
    path.write_bytes(b"".join((line if isinstance(line, bytes) else line.encode()) + end.encode() for line in lines))
    return path


def row(**cells: object) -> str:
    """A CSV row of text as it stands."""
    return ",".join(str(cells.get(name, cell)) for name, cell in zip(NAMES, ROW.split(","), strict=True))


def violations(path: Path, rows: int = 100) -> list[str]:
    return [str(violation) for batch in open_file(path, PORTFOLIO).batches(rows) for violation in batch.violations]


def everything(path: Path) -> int:
    """Read the file to its end; how many rows it has."""
    return sum(map(len, open_file(path, PORTFOLIO).batches(2)))


def test_a_csv_file_is_read(tmp_path):
    record = {"AMT_ANNUITY": 0.1, "CNT_CHILDREN": 2, "NAME_TYPE_SUITE": "Spouse, partner", "OCCUPATION_TYPE": 'a "b" é'}
    raw = read(write_csv(tmp_path / "a.csv", record, {}))
    expected = columns(record, {})
    assert bits(raw.numbers) == bits(expected.numbers)
    assert raw.levels.tolist() == expected.levels.tolist()


@pytest.mark.parametrize("null", ["", " ", "NA", "n/a", "NaN", "-nan", "<NA>", "#N/A", "nUlL", " None ", '"NA"', "NaT"])
@pytest.mark.parametrize("neighbour", ["1", "seven"])
def test_the_usual_words_for_null_are_missing_whatever_stands_in_the_next_row(tmp_path, null, neighbour):
    beside = row(AMT_ANNUITY=neighbour)
    path = written(tmp_path / "a.csv", HEADER, row(AMT_ANNUITY=null, OCCUPATION_TYPE=null), beside)
    [batch] = open_file(path, PORTFOLIO).batches(10)
    assert [violation.rows.tolist() for violation in batch.violations] == ([[1]] if neighbour == "seven" else [])
    raw = batch.columns
    assert np.isnan(raw.numbers[0, APPLICATION.position["AMT_ANNUITY"]])
    assert raw.levels[0, APPLICATION.position["OCCUPATION_TYPE"]] is None


@pytest.mark.parametrize(
    ("text", "number"),
    [("5", 5.0), ("+5", 5.0), ("-0", -0.0), ("1e3", 1000.0), ("0.1", 0.1), (".5", 0.5), ("1.", 1.0), (" 5", 5.0)],
)
@pytest.mark.parametrize("neighbour", ["7", "seven"])
def test_a_number_is_read_whatever_stands_in_the_next_row(tmp_path, text, number, neighbour):
    path = written(tmp_path / "a.csv", HEADER, row(AMT_ANNUITY=text), row(AMT_ANNUITY=neighbour))
    [batch] = open_file(path, PORTFOLIO).batches(10)
    assert bits(batch.columns.numbers[:1, APPLICATION.position["AMT_ANNUITY"]]) == bits(np.array([number]))


@pytest.mark.parametrize("text", ["seven", "1,5", "1 000", "0x10", "12abc", "--1", "TRUE", "?", "1e"])
def test_text_in_a_numeric_column_is_a_violation_of_its_row(tmp_path, text):
    path = written(tmp_path / "a.csv", HEADER, ROW, row(AMT_ANNUITY=f'"{text}"'), ROW, row(AMT_ANNUITY=f'"{text}"'))
    assert violations(path) == ["AMT_ANNUITY: must be a number (2 rows: 2, 4)"]


@pytest.mark.parametrize("text", ["inf", "-inf", "Infinity", "1e400"])
@pytest.mark.parametrize("neighbour", ["7", "seven"])
def test_infinity_is_a_violation_of_its_row(tmp_path, text, neighbour):
    path = written(tmp_path / "a.csv", HEADER, row(AMT_ANNUITY=neighbour), row(AMT_ANNUITY=text))
    assert "AMT_ANNUITY: must be finite (1 row: 2)" in violations(path)


def test_a_required_value_that_is_no_number_is_not_missing_as_well(tmp_path):
    path = written(tmp_path / "a.csv", HEADER, row(AMT_CREDIT="seven"), ROW, row(AMT_CREDIT=""))
    assert violations(path) == [
        "AMT_CREDIT: must be a number (1 row: 1)",
        "AMT_CREDIT: is required (1 row: 3)",
    ]


def test_what_is_no_number_is_missing_in_the_columns(tmp_path):
    path = written(tmp_path / "a.csv", HEADER, row(AMT_ANNUITY="seven"))
    [batch] = open_file(path, PORTFOLIO).batches(10)
    assert math.isnan(batch.columns.numbers[0, APPLICATION.position["AMT_ANNUITY"]])


@pytest.mark.parametrize(
    "write", [write_csv, lambda path, *rows: write_parquet(path, len(rows))], ids=["csv", "parquet"]
)
@pytest.mark.parametrize(
    ("rows", "sizes"), [(1, [1] * 20), (7, [7, 7, 6]), (10, [10, 10]), (19, [19, 1]), (20, [20]), (21, [20])]
)
def test_batches_have_at_most_the_rows_asked_for_and_know_their_first_row(tmp_path, write, rows, sizes):
    path = write(tmp_path / ("a.csv" if write is write_csv else "a.parquet"), *({} for _ in range(20)))
    batches = list(open_file(path, PORTFOLIO).batches(rows))
    assert list(map(len, batches)) == sizes
    assert [batch.first_row for batch in batches] == [sum(sizes[:i]) for i in range(len(sizes))]


def test_batches_of_a_file_are_the_file_in_order(tmp_path, generated_csv, applications):
    batches = list(open_file(generated_csv, PORTFOLIO).batches(37, others=["SK_ID_CURR"]))
    joined = concatenate([batch.columns for batch in batches])
    assert bits(joined.numbers) == bits(applications.numbers)
    assert joined.levels.tolist() == applications.levels.tolist()
    whole = open_file(generated_csv, PORTFOLIO).column("SK_ID_CURR").to_pylist()
    assert [name for batch in batches for name in batch.others["SK_ID_CURR"].to_pylist()] == whole


@pytest.mark.slow
def test_rows_that_lie_across_the_blocks_in_which_a_csv_file_is_read_are_whole(tmp_path):
    records = [{"NOTE": f"{i} 4567\n" * 30_000, "AMT_CREDIT": i, "OCCUPATION_TYPE": f"job {i}"} for i in range(100)]
    path = write_csv(tmp_path / "a.csv", *records, header=(*NAMES[:60], "NOTE", *NAMES[60:]))
    assert path.stat().st_size > 2 * (8 << 20)
    batches = list(open_file(path, PORTFOLIO).batches(30))
    assert list(map(len, batches)) == [30, 30, 30, 10]
    joined = concatenate([batch.columns for batch in batches])
    assert joined.numbers[:, APPLICATION.position["AMT_CREDIT"]].tolist() == list(range(100))
    assert joined.levels[:, APPLICATION.position["OCCUPATION_TYPE"]].tolist() == [f"job {i}" for i in range(100)]


def test_violations_count_their_rows_from_the_start_of_the_batch(tmp_path):
    path = written(tmp_path / "a.csv", HEADER, *[ROW] * 5, row(CNT_CHILDREN="-1", AMT_CREDIT="x"), *[ROW] * 2)
    batches = list(open_file(path, PORTFOLIO).batches(4))
    assert [[str(v) for v in batch.violations] for batch in batches] == [
        [],
        ["AMT_CREDIT: must be a number (1 row: 2)", "CNT_CHILDREN: must be between 0 and 30 (1 row: 2)"],
    ]


def test_undeclared_columns_are_listed_and_ignored_unless_they_are_asked_for(tmp_path):
    path = write_csv(tmp_path / "a.csv", {"NOTE": "x", "TARGET": "1"}, header=("NOTE", *NAMES, "TARGET"))
    file = open_file(path, PORTFOLIO)
    assert file.header == ("NOTE", *NAMES, "TARGET")
    assert file.undeclared == ("NOTE", "TARGET")
    [plain], [asked] = file.batches(10), file.batches(10, others=["TARGET"])
    assert plain.others == {}
    assert {name: values.to_pylist() for name, values in asked.others.items()} == {"TARGET": ["1"]}
    assert bits(plain.columns.numbers) == bits(asked.columns.numbers)


def test_the_order_of_the_columns_in_a_file_does_not_matter(tmp_path):
    record = {"AMT_ANNUITY": 3, "CODE_GENDER": "F"}
    one = read(write_csv(tmp_path / "a.csv", record))
    other = read(write_csv(tmp_path / "b.csv", record, header=sorted(NAMES, reverse=True)))
    assert bits(one.numbers) == bits(other.numbers)
    assert one.levels.tolist() == other.levels.tolist()


def test_a_column_that_was_asked_for_and_is_not_there_is_named(tmp_path):
    file = open_file(write_csv(tmp_path / "a.csv", {}), PORTFOLIO)
    with pytest.raises(ColumnsError, match=r"a.csv: column missing: SK_ID_CURR, TARGET$"):
        next(file.batches(10, others=["SK_ID_CURR", "TARGET"]))
    with pytest.raises(ColumnsError, match=r"a.csv: column missing: SK_ID_CURR$"):
        file.column("SK_ID_CURR")


def test_many_missing_columns_are_not_all_listed(tmp_path):
    path = written(tmp_path / "a.csv", ",".join(NAMES[10:]), "")
    with pytest.raises(ColumnsError, match=f"column missing: {', '.join(NAMES[:8])} and 2 more$"):
        open_file(path, PORTFOLIO)
    path = written(tmp_path / "a.csv", ",".join(NAMES[8:]), "")
    with pytest.raises(ColumnsError, match=f"column missing: {', '.join(NAMES[:8])}$"):
        open_file(path, PORTFOLIO)


def test_one_column_of_a_whole_file(tmp_path):
    path = write_csv(tmp_path / "a.csv", {"ID": 7}, {"ID": ""}, {"ID": "x"}, header=("ID", *NAMES))
    assert open_file(path, PORTFOLIO).column("ID").to_pylist() == ["7", None, "x"]
    assert open_file(path, PORTFOLIO).column("AMT_CREDIT").to_pylist() == ["400000.0"] * 3


@pytest.mark.parametrize("repeated", [["AMT_CREDIT"], ["TARGET", "TARGET"], ["", ""]])
def test_a_repeated_column_is_named(tmp_path, repeated):
    path = written(tmp_path / "a.csv", ",".join([*NAMES, *repeated]), ",".join([ROW, *repeated]))
    with pytest.raises(ColumnsError, match=rf"a.csv: column repeated: {repeated[0] or '.no name.'}$"):
        open_file(path, PORTFOLIO)


def test_a_file_with_a_header_and_nothing_else_has_no_batch(tmp_path):
    file = open_file(written(tmp_path / "a.csv", HEADER), PORTFOLIO)
    assert list(file.batches(10)) == []
    assert len(file.column("AMT_CREDIT")) == 0


@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "BOM"])
def test_line_ends_and_a_byte_order_mark_do_not_matter(tmp_path, end, mark):
    path = written(tmp_path / "a.csv", mark + HEADER.encode(), ROW, ROW, end=end)
    assert read(path).levels[:, CONTRACT].tolist() == ["Cash loans", "Cash loans"]


@pytest.mark.parametrize(
    ("name", "lines", "said"),
    [
        ("a.csv", [], "is empty"),
        ("a.csv", ["", " "], "is empty"),
        ("a.csv", [HEADER, ROW, "1,2"], f"row 2 has 2 of {FIELDS} fields"),
        ("a.csv", [HEADER, ROW, "1"], f"row 2 has 1 of {FIELDS} fields"),
        ("a.csv", [HEADER, ROW, '"1,2",3'], f"row 2 has 2 of {FIELDS} fields"),
        ("a.csv", [HEADER, "", ROW, ROW, ROW + ",1"], f"row 3 has {FIELDS + 1} of {FIELDS} fields"),
        ("a.csv", [HEADER, ROW, "1,2", ROW, "1"], f"row 2 has 2 of {FIELDS} fields, and 2 rows differ from the header"),
        ("a.csv", [HEADER, ROW, '"' + ROW], "a quote in row 2 is never closed, or text follows it"),
        ("a.csv", [HEADER, '"' + ROW], "a quote in row 1 is never closed, or text follows it"),
        ("a.csv", [HEADER, f'"{ROW}"', ROW], "1 row is quoted as a whole, the first is row 1: remove the outer quotes"),
        ("a.csv", [HEADER, ROW, *[f'"{ROW}"'] * 3, ROW],
         "3 rows are quoted as a whole, the first is row 2: remove the outer quotes"),
        ("a.csv", [f'"{HEADER}"', f'"{ROW}"'],
         "its rows are quoted as a whole, also that of the names: remove the outer quotes"),
        ("a.csv", ["Applications of March", HEADER, ROW],
         f"its first line has 1 field and the next has {FIELDS}: the first line must name the columns"),
        ("a.csv", ["# made by hand", HEADER, ROW],
         "its first line is a comment, not the names of the columns: remove it"),
        *(("a.csv", [f"{mark} made by hand", HEADER, ROW],
           "its first line is a comment, not the names of the columns: remove it") for mark in ("//", "--", "%")),
        ("a.csv", ["sep=,", HEADER, ROW],
         "its first line is 'sep=', not the names of the columns: remove it; a comma separates columns"),
        ("a.csv", [HEADER.replace(",", ";"), ROW.replace(",", ";")], "is ';' its separator? A comma separates columns"),
        ("a.csv", [HEADER.replace(",", "\t")], "is a tabulator its separator? A comma separates columns"),
        ("a.csv", [HEADER.replace(",", "|")], "is '|' its separator? A comma separates columns"),
        ("a.csv", [HEADER, ROW, row(CODE_GENDER="\xe9").encode("latin-1")],
         "line 3 is not UTF-8 text: save the file as UTF-8"),
        ("a.csv", [f"{HEADER},\xe9".encode("latin-1"), f"{ROW},1"], "line 1 is not UTF-8 text: save the file as UTF-8"),
        ("a.csv", [f"{HEADER}\n{ROW}\n".encode("utf-16")], "is UTF-16 text: save it as UTF-8"),
        ("a.csv", [f"{HEADER}\n{ROW}\n".encode("utf-16-be")], "is UTF-16 text without a mark: save it as UTF-8"),
        ("a.csv", [f"{HEADER}\n{ROW}\n".encode("utf-32")], "is UTF-32 text: save it as UTF-8"),
        ("a.csv", [b"\xfe\xff\0A"], "is UTF-16 text: save it as UTF-8"),
        ("a.csv", [b"\0\0\xfe\xff\0\0\0A"], "is UTF-32 text: save it as UTF-8"),
        ("a.csv", [gzip.compress(HEADER.encode())], "is compressed (gzip), not CSV as its suffix says"),
        ("a.csv", [bz2.compress(HEADER.encode())], "is compressed (bzip2), not CSV as its suffix says"),
        ("a.csv", [lzma.compress(HEADER.encode())], "is compressed (xz), not CSV as its suffix says"),
        ("a.csv", [b"\x28\xb5\x2f\xfd\0"], "is compressed (Zstandard), not CSV as its suffix says"),
        ("a.csv", [b"PK\x03\x04\0"], "is a ZIP archive or an Excel workbook, not CSV as its suffix says"),
        ("a.csv", [b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"], "is an Excel workbook, not CSV as its suffix says"),
        ("a.csv", [b"PAR1\x15\0"], "is Parquet, not CSV as its suffix says"),
        ("a.csv", ["<!DOCTYPE html>"], "is HTML or XML, not CSV as its suffix says"),
        ("a.csv", ["\ufeff<?xml version='1.0'?>"], "is HTML or XML, not CSV as its suffix says"),
        ("a.csv", ['[{"AMT_CREDIT": 1}]'], "is JSON, not CSV as its suffix says"),
        ("a.csv", ['{"AMT_CREDIT": 1}'], "is JSON, not CSV as its suffix says"),
        ("a.csv", [b"\1\2\0\3"], "is binary, not CSV as its suffix says"),
        ("a.parquet", [], "is empty, not Parquet as its suffix says"),
        ("a.parquet", [HEADER, ROW], "is text, not Parquet as its suffix says"),
        ("a.parquet", [b"PAR1\x15\0"], DAMAGED),
        ("a.parquet", [gzip.compress(b"x")], "is compressed (gzip), not Parquet as its suffix says"),
        ("a.txt", [HEADER, ROW], "neither .csv nor .parquet"),
        ("a", [HEADER, ROW], "neither .csv nor .parquet"),
        ("a.csv.gz", [HEADER, ROW], "is text, not gzip as its suffix says"),
        ("a.parquet.gz", [gzip.compress(b"PAR1")], PACKED),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_read_is_refused_in_one_line(tmp_path, name, lines, said):
    path = written(tmp_path / name, *lines)
    with pytest.raises(FileError) as caught:
        everything(path)
    assert str(caught.value) == f"{path}: {said}"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv.gz", b"", "is empty"),
        ("a.csv.gz", gzip.compress(b""), "is empty"),
        ("a.csv.gz", gzip.compress(HEADER.encode())[:-9], "is damaged or cut short"),
        ("a.csv.gz", gzip.compress(HEADER.encode()) + b"more", "is damaged or cut short"),
        ("a.csv.gz", gzip.compress(f"{HEADER}\n{ROW},1\n".encode()), f"row 1 has {FIELDS + 1} of {FIELDS} fields"),
        ("a.csv.gz", gzip.compress(f"{HEADER}\n{ROW}\xe9\n".encode("latin-1")),
         "line 2 is not UTF-8 text: save the file as UTF-8"),
        ("a.csv.gz", gzip.compress(b"PAR1\0"), "is Parquet, not CSV as its suffix says"),
        ("a.csv.zst", gzip.compress(HEADER.encode()), "is compressed (gzip), not zstd as its suffix says"),
        ("a.csv.zst", pa.compress(HEADER.encode(), "zstd", asbytes=True)[:-9], "is damaged or cut short"),
    ],
    ids=lambda part: part if isinstance(part, str) else "",  # a packed file holds the time
)  # fmt: skip
def test_a_compressed_file_that_cannot_be_read_is_refused_in_one_line(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FileError) as caught:
        everything(tmp_path / name)
    assert str(caught.value) == f"{tmp_path / name}: {said}"


def test_a_compressed_file_that_is_cut_short_behind_its_head_is_refused(tmp_path):
    lines = [HEADER, *(row(AMT_ANNUITY=str(math.sqrt(i))) for i in range(5_000))]
    packed = gzip.compress("\n".join(lines).encode())
    (tmp_path / "a.csv.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(FileError) as caught:
        everything(tmp_path / "a.csv.gz")
    assert str(caught.value) == f"{tmp_path / 'a.csv.gz'}: is damaged or cut short"


@pytest.mark.parametrize("name", ["a.csv.gz", "A.CSV.ZST", "two.csv.gz"])
def test_a_compressed_csv_file_is_read_as_the_file_itself(tmp_path, name):
    plain = write_csv(tmp_path / "a.csv", *({"AMT_ANNUITY": i / 7} for i in range(50)))
    content, codec = plain.read_bytes(), "zstd" if name.endswith("ZST") else "gzip"
    halves = [content[:999], content[999:]] if name.startswith("two") else [content]
    (tmp_path / name).write_bytes(b"".join(pa.compress(one, codec, asbytes=True) for one in halves))
    assert bits(read(tmp_path / name).numbers) == bits(read(plain).numbers)


@pytest.mark.parametrize(
    ("mark", "name"),
    [
        (b"PARE", "encrypted Parquet"),
        (b"\x04\x22\x4d\x18", "compressed (LZ4)"),
        (b"7z\xbc\xaf", "compressed (7-Zip)"),
        (b"Rar!", "compressed (RAR)"),
        (b"PK\x05\x06", "an empty ZIP archive"),
        (b"ARROW1", "Arrow IPC (Feather)"),
        (b"ORC", "ORC"),
        (b"Obj\x01", "Avro"),
        (b"SQLite format 3", "an SQLite database"),
        (b"\x89HDF", "HDF5"),
        (b"\x80\x04", "a pickle"),
        (b"\x80\x05", "a pickle"),
        (b"%PDF-1.7", "PDF"),
    ],
)
def test_a_format_is_told_by_its_mark(tmp_path, mark, name):
    path = tmp_path / "a.parquet"
    path.write_bytes(mark + (b"" if name == "PDF" else b"\0"))
    with pytest.raises(FileError) as caught:
        open_file(path, PORTFOLIO)
    assert str(caught.value) == f"{path}: is {name}, not Parquet as its suffix says"


@pytest.mark.parametrize(
    "suffix", [".gz", ".bz2", ".xz", ".zst", ".zip", ".lz4", ".7z", ".br", ".tgz", ".tar", ".snappy", ".z", ".Z"]
)
def test_a_packed_file_is_to_be_unpacked(tmp_path, suffix):
    path = written(tmp_path / f"a{suffix}", HEADER)
    with pytest.raises(FileError) as caught:
        open_file(path, PORTFOLIO)
    assert str(caught.value) == f"{path}: {PACKED}"


@pytest.mark.parametrize("first", [0, 1], ids=["even", "odd"])
@pytest.mark.parametrize(
    ("zeros", "said"),
    [
        (4, "is binary, not CSV as its suffix says"),
        (5, "is UTF-16 text without a mark: save it as UTF-8"),
    ],
)
def test_more_than_a_quarter_of_zero_bytes_on_one_side_is_utf_16(tmp_path, first, zeros, said):
    content = bytearray(b"a" * 16)
    content[first : first + 2 * zeros : 2] = bytes(zeros)
    path = tmp_path / "a.csv"
    path.write_bytes(bytes(content))
    with pytest.raises(FileError) as caught:
        open_file(path, PORTFOLIO)
    assert str(caught.value) == f"{path}: {said}"


@pytest.mark.parametrize(("place", "refused"), [(65_535, True), (65_536, False)])
def test_the_first_64_kib_say_what_a_file_is(tmp_path, place, refused):
    path = tmp_path / "a.csv"
    path.write_bytes((HEADER + ",").encode().ljust(place, b"x") + b"\0\n")
    if refused:
        with pytest.raises(FileError, match=r"is binary, not CSV as its suffix says$"):
            refuse_unreadable(StoredFile.at(path))
    else:
        assert refuse_unreadable(StoredFile.at(path)) == "csv"


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_as_many_commas_as_other_separators_separate_columns(tmp_path, separator):
    assert refuse_unreadable(StoredFile.at(written(tmp_path / "a.csv", f"a{separator}b,c"))) == "csv"


@pytest.mark.parametrize("line", ['"a,b",c', '"a"', '"a","b"'])
def test_a_name_in_quotes_is_a_name(tmp_path, line):
    assert refuse_unreadable(StoredFile.at(written(tmp_path / "a.csv", line))) == "csv"


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ""])
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda _: None, "no such file"),
        (lambda path: path.symlink_to("nowhere"), "is a link to nothing"),
        (Path.mkdir, "is a folder, not a file"),
        (make_pipe, "is not a regular file (a pipe, a socket or a device cannot be read twice)"),
        (make_socket, "is not a regular file (a pipe, a socket or a device cannot be read twice)"),
        (lambda path: path.symlink_to("/dev/null"), "is not a regular file"),
    ],
    ids=["nothing", "broken link", "folder", "pipe", "socket", "device"],
)
def test_what_is_no_regular_file_is_refused_by_its_kind(tmp_path, monkeypatch, suffix, make, said):
    monkeypatch.chdir(tmp_path)  # the path of a socket is short
    make(Path(f"a{suffix}"))
    with pytest.raises(FileError) as caught:
        open_file(Path(f"a{suffix}"), PORTFOLIO)
    assert str(caught.value).startswith(f"a{suffix}: {said}")


def test_what_lies_below_a_file_is_not_there(tmp_path):
    below = write_csv(tmp_path / "a.csv", {}) / "b.csv"
    with pytest.raises(FileError, match=f"{below}: no such file$"):
        open_file(below, PORTFOLIO)


def test_the_case_of_a_suffix_does_not_matter(tmp_path):
    write_csv(tmp_path / "a.csv", {"AMT_ANNUITY": 3}).rename(tmp_path / "A.CSV")
    write_parquet(tmp_path / "a.parquet", 1, AMT_ANNUITY=pa.array([3.0])).rename(tmp_path / "A.Parquet")
    one, other = read(tmp_path / "A.CSV"), read(tmp_path / "A.Parquet")
    assert bits(one.numbers) == bits(other.numbers)


@pytest.mark.parametrize("lead", ["PARTNER", "ORCHARD", "BZhang", "ARROW1", "-x", "a;b", "{x", "[x]"])
def test_a_name_that_begins_like_another_format_is_a_name(tmp_path, lead):
    assert open_file(write_csv(tmp_path / "a.csv", {}, header=(lead, *NAMES)), PORTFOLIO).undeclared == (lead,)


def test_a_file_without_names_is_told_so_and_not_quoted(tmp_path):
    for first in (ROW, "4711,4711", "4711"):
        path = written(tmp_path / "a.csv", first, first)
        with pytest.raises(ColumnsError) as caught:
            open_file(path, PORTFOLIO)
        said = "it has none of the expected columns: does its first line name the columns?"
        assert str(caught.value) == f"{path}: {said}"


def test_names_in_another_case_or_with_blanks_are_pointed_at(tmp_path):
    path = written(tmp_path / "a.csv", HEADER.replace("AMT_CREDIT,", " amt_credit ,").replace("AMT_ANNUITY", "X"), ROW)
    with pytest.raises(ColumnsError) as caught:
        open_file(path, PORTFOLIO)
    assert str(caught.value) == (
        f"{path}: column missing: AMT_CREDIT, AMT_ANNUITY; "
        "in another case, or with blanks around the name, it has AMT_CREDIT"
    )


def test_a_file_that_vanishes_while_it_is_open_is_refused(tmp_path):
    path = write_csv(tmp_path / "a.csv", {})
    file = open_file(path, PORTFOLIO)
    path.unlink()
    with pytest.raises(FileError, match=r"a.csv: cannot be read \(No such file or directory\)$"):
        list(file.batches(10))


@pytest.mark.parametrize("text", ["nan(1)", "1_000", "１２", '"1,000"', "5 EUR"])  # noqa: RUF001 - wide digits are meant
def test_a_text_that_only_some_readers_take_for_a_number_is_a_violation_whatever_the_next_row_holds(tmp_path, text):
    alone = written(tmp_path / "a.csv", HEADER, row(AMT_ANNUITY=text))
    beside = written(tmp_path / "b.csv", HEADER, row(AMT_ANNUITY=text), row(AMT_ANNUITY="seven"))
    assert violations(alone) == ["AMT_ANNUITY: must be a number (1 row: 1)"]
    assert violations(beside) == ["AMT_ANNUITY: must be a number (2 rows: 1, 2)"]


@pytest.mark.parametrize("rows", [0, -1])
@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_a_batch_has_at_least_one_row(tmp_path, rows, name):
    path = write_csv(tmp_path / name, {}) if name == "a.csv" else write_parquet(tmp_path / name, 1)
    with pytest.raises(ColumnsError, match="row"):
        next(open_file(path, PORTFOLIO).batches(rows))


@needs_home_credit
def test_a_real_file_is_read_in_any_batches(tmp_path):
    file = open_file(HOME_CREDIT / "application_test.csv", PORTFOLIO)
    small, large = (concatenate([batch.columns for batch in file.batches(rows)]) for rows in (1000, 100_000))
    assert file.undeclared == ("SK_ID_CURR",)
    assert bits(small.numbers) == bits(large.numbers)
    assert small.levels.tolist() == large.levels.tolist()
