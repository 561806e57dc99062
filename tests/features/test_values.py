"""Value by container by kind: the tables of docs/reference/files.md, held against what the code reads."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import compute, parquet

from features.files import open_table, read_table
from features.schema import MISSING_WORDS, ColumnKind
from features.values import as_client_ids, as_numbers, as_texts, as_whole_numbers
from tests.features.examples import REQUIRED, ROOT, bits, table
from tests.home_credit import APPLICATION, PORTFOLIO, Application, columns_of

PAGE = (ROOT / "docs" / "reference" / "files.md").read_text(encoding="utf-8")
COLUMNS = {"number": "AMT_ANNUITY", "flag": "FLAG_MOBIL", "category": "OCCUPATION_TYPE"}
READ, MISSING, REFUSED = "read", "missing", "refused"
TEXTS = [
    pa.string(),
    pa.large_string(),
    pa.string_view(),
    pa.dictionary(pa.int32(), pa.string()),
    pa.dictionary(pa.int8(), pa.large_string()),
]


def documented(chapter: str) -> list[dict[str, str]]:
    """The rows of the table in a chapter of the page."""
    lines = re.findall(r"^\|(.*)\|$", PAGE.partition(f"## {chapter}\n")[2].partition("\n## ")[0], re.MULTILINE)
    header, _, *rows = [[cell.removeprefix(" ").removesuffix(" ") for cell in line.split("|")] for line in lines]
    return [dict(zip(header, row, strict=True)) for row in rows]


def declared(values: pa.ChunkedArray, name: str) -> Any:
    batch = read_table(table(len(values), **{name: values}), PORTFOLIO)
    if batch.violations:
        assert {violation.column for violation in batch.violations} == {name}
        return REFUSED
    column = APPLICATION[name]
    held = (batch.columns.numbers if column.numeric else batch.columns.levels)[0, APPLICATION.position[name]]
    return MISSING if held is None or held != held else held


def whole(values: pa.ChunkedArray) -> Any:
    numbers, missing, wrong = as_whole_numbers(values)
    return REFUSED if wrong[0] else MISSING if missing[0] else int(numbers[0])


def text(read: Callable[[pa.ChunkedArray], Any]) -> Callable[[pa.ChunkedArray], Any]:
    def one(values: pa.ChunkedArray) -> Any:
        texts, wrong = read(values)
        return REFUSED if wrong[0] else MISSING if texts[0].as_py() is None else texts[0].as_py()

    return one


def outcome(values: pa.ChunkedArray) -> Any:
    numbers, wrong = as_numbers(values, ColumnKind.FLAG)
    if wrong[0] or not (np.isnan(numbers[0]) or numbers[0] in (0, 1)):
        return REFUSED
    return MISSING if np.isnan(numbers[0]) else numbers[0]


READERS: dict[str, Callable[[pa.ChunkedArray], Any]] = {
    **{kind: (lambda values, name=name: declared(values, name)) for kind, name in COLUMNS.items()},
    "SK_ID_CURR": whole,
    "client_id": text(as_client_ids),
    "outcome": outcome,
    "attribute": text(as_texts),
}


def of_csv(cell: str, folder: Path) -> pa.Table:
    """The cell in a column of each kind, as the reader of CSV gives it."""
    with (folder / "a.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerows([list(READERS), [cell] * len(READERS)])
    [block] = open_table(folder / "a.csv", known=READERS).blocks(list(READERS), 10)
    return block


CELLS = [
    pytest.param(row["text"].strip("`"), kind, answer, id=f"{row['text']}-{kind}")
    for row in documented("Text")
    for kind, answer in row.items()
    if kind != "text"
]


@pytest.mark.parametrize(("cell", "kind", "answer"), CELLS)
def test_a_text_is_read_as_the_page_says_in_every_container(tmp_path: Path, cell: str, kind: str, answer: str) -> None:
    expected = answer if answer in (MISSING, REFUSED) else cell if answer == "text" else float(answer)
    containers = [pa.chunked_array([pa.array([cell, "?"]).cast(stored)]) for stored in TEXTS]
    containers += [pa.chunked_array([pa.array([cell]).cast(stored)]) for stored in TEXTS]
    containers += [of_csv(cell, tmp_path)[kind]]
    if kind in COLUMNS and kind != "category":
        containers = [values.slice(0, 1) for values in containers]
    assert [READERS[kind](values) for values in containers] == [expected] * len(containers)


SAMPLES: dict[str, pa.Array] = {
    **{str(kind): pa.array(["1"]).cast(kind) for kind in (pa.string(), pa.large_string(), pa.string_view())},
    **{f"{sign}int{size}": pa.array([1], f"{sign}int{size}") for sign in ("", "u") for size in (8, 16, 32, 64)},
    "float16": pa.array([np.float16(1)]),
    "float32": pa.array([1.0], pa.float32()),
    "float64": pa.array([1.0]),
    "decimal32": pa.array([Decimal(1)], pa.decimal128(9, 2)).cast(pa.decimal32(9, 2)),
    "decimal64": pa.array([Decimal(1)], pa.decimal128(9, 2)).cast(pa.decimal64(9, 2)),
    "decimal128": pa.array([Decimal(1)], pa.decimal128(18, 0)),
    "decimal256": pa.array([Decimal(1)], pa.decimal256(40, 4)),
    "bool": pa.array([True]),
    "date32": pa.array([date(2025, 1, 1)]),
    "date64": pa.array([date(2025, 1, 1)], pa.date64()),
    "timestamp": pa.array([datetime(2025, 1, 1)]),  # noqa: DTZ001 - a column without a zone
    "time64": pa.array([time(1)]),
    "duration": pa.array([timedelta(1)]),
    "binary": pa.array([b"1"]),
    "large_binary": pa.array([b"1"], pa.large_binary()),
    "list": pa.array([["1"]]),
    "struct": pa.array([{"a": "1"}]),
    "null": pa.nulls(1),
}
STORED = [
    pytest.param(name, kind, answer, id=f"{name}-{kind}")
    for row in documented("Stored types")
    for name in re.findall(r"`(\w+)`", row["type"])
    for kind, answer in row.items()
    if kind != "type"
]


def test_the_page_names_every_stored_type() -> None:
    assert {cell.values[0] for cell in STORED} == set(SAMPLES)


@pytest.mark.parametrize(("name", "kind", "answer"), STORED)
def test_a_stored_type_is_read_as_the_page_says_also_from_parquet(
    tmp_path: Path, name: str, kind: str, answer: str
) -> None:
    value: Any = "1" if kind in ("category", "client_id", "attribute") else 1
    if name in ("bool", "date32", "date64", "timestamp", "time64", "duration") and kind == "attribute":
        value = str(SAMPLES[name].cast("string")[0])
    expected = value if answer == READ else answer
    values = pa.chunked_array([SAMPLES[name]])
    assert READERS[kind](values) == expected
    if not name.startswith(("duration", "float16")):  # Parquet has no duration
        parquet.write_table(pa.table({"x": values}), tmp_path / "x.parquet")
        assert READERS[kind](parquet.read_table(tmp_path / "x.parquet")["x"]) == expected
    if pa.types.is_primitive(values.type) and not name.startswith(("decimal", "float16", "duration", "time")):
        assert READERS[kind](values.dictionary_encode()) == expected


def test_the_page_lists_the_words_for_missing() -> None:
    chapter = PAGE.partition("## Missing\n")[2].partition(". In a request")[0]
    assert {word.casefold() for word in re.findall(r"`(.+?)`", chapter)} == MISSING_WORDS - {""}


@pytest.mark.parametrize("word", sorted(MISSING_WORDS))
@pytest.mark.parametrize("form", [str, str.upper, str.title, " {} ".format, "\u00a0{}\t".format])
def test_a_word_for_missing_is_missing_in_every_container_and_kind(
    tmp_path: Path, word: str, form: Callable[[str], str]
) -> None:
    cell = form(word)
    csv_file = of_csv(cell, tmp_path)
    for kind, read in READERS.items():
        stored = [pa.chunked_array([pa.array([cell]).cast(stored)]) for stored in TEXTS]
        beside = [pa.chunked_array([pa.array([cell, "Laborers"])])] if kind == "category" else []
        found = [read(values) for values in [*stored, *beside, csv_file[kind]]]
        assert found == [MISSING] * len(found), kind


NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**15), 10**15).map(float)


@pytest.mark.slow
@settings(max_examples=300)
@given(NUMBERS, st.sampled_from([repr, "{:.17e}".format, "{:+.17g}".format, " {!r} ".format]), st.booleans())
def test_a_number_has_the_same_bits_in_every_container(
    number: float, written: Callable[[float], str], beside: bool
) -> None:
    texts = [written(number), *(["seven"] if beside else [])]
    containers = [pa.chunked_array([pa.array(texts).cast(stored)]) for stored in TEXTS]
    found = [as_numbers(values)[0][:1] for values in containers]
    found += [as_numbers(pa.chunked_array([pa.array([number])]))[0]]
    assert {array.tobytes() for array in found} == {np.array([number]).tobytes()}


@settings(max_examples=300)
@given(st.decimals(allow_nan=False, allow_infinity=False, places=6, min_value=-(10**12), max_value=10**12))
def test_a_decimal_is_the_number_of_its_text(number: Decimal) -> None:
    kinds = [pa.decimal128(38, 6), pa.decimal256(60, 6)]
    found = [as_numbers(pa.chunked_array([pa.array([number], kind)]))[0] for kind in kinds]
    found += [as_numbers(pa.chunked_array([pa.array([str(number)])]))[0]]
    assert [array.tobytes() for array in found] == [np.array([float(number) + 0.0]).tobytes()] * 3 or float(number) == 0


@pytest.mark.slow
@settings(max_examples=300)
@given(st.integers(-(2**63), 2**63 - 1), st.sampled_from(["{}", "{}.0", " {} ", "{}.", "{}.000", "{}e0"]))
def test_a_whole_number_is_exact_in_every_container_or_refused(number: int, form: str) -> None:
    containers = [pa.array([form.format(number)]).cast(stored) for stored in TEXTS]
    containers += [pa.array([number]), pa.array([Decimal(number)], pa.decimal128(38, 0))]
    assert [whole(pa.chunked_array([values])) for values in containers] == [number] * len(containers)
    for kind, exact in ((pa.float64(), 2**53), (pa.float32(), 2**24)):
        stored = pa.chunked_array([pa.array([number]).cast(kind, safe=False)])
        assert whole(stored) == (number if abs(number) <= exact else REFUSED)


@pytest.mark.slow
@settings(max_examples=500)
@given(st.text(max_size=12) | st.sampled_from(sorted(MISSING_WORDS)) | st.text("0123456789.,eE+-_ x", max_size=8))
def test_any_text_has_one_answer_whatever_stands_beside_it_and_however_it_is_stored(cell: str) -> None:
    for read in (READERS[kind] for kind in READERS if kind not in COLUMNS):
        alone = [read(pa.chunked_array([pa.array([cell]).cast(stored)])) for stored in TEXTS]
        assert alone == [alone[0]] * len(TEXTS)
    for beside in ("7", "seven", "nan", None):
        values = pa.chunked_array([pa.array([cell, beside], pa.string())])
        [number, _], [wrong, _] = as_numbers(values)
        [alone_number], [alone_wrong] = as_numbers(values.slice(0, 1))
        assert (bits(np.array(number)), wrong) == (bits(np.array(alone_number)), alone_wrong)


@pytest.mark.slow
@settings(max_examples=300)
@given(st.text(max_size=8) | st.sampled_from([*sorted(MISSING_WORDS), "Laborers", "XNA", " Laborers", "laborers"]))
def test_a_level_is_the_same_to_the_model_in_a_request_and_in_a_file(level: str) -> None:
    raw = columns_of([Application(**REQUIRED, OCCUPATION_TYPE=level)]).levels[
        0, APPLICATION.position["OCCUPATION_TYPE"]
    ]
    column = APPLICATION["OCCUPATION_TYPE"]
    in_a_file = declared(pa.chunked_array([pa.array([level])]), "OCCUPATION_TYPE")
    assert (MISSING if column.is_missing(raw) and raw not in column.missing else raw) == in_a_file


@pytest.mark.parametrize("stated", [True, False])
def test_a_flag_that_is_true_or_false_is_1_or_0_in_a_request_too(stated: bool) -> None:
    position = APPLICATION.position["FLAG_MOBIL"]
    body = json.dumps({**REQUIRED, "FLAG_MOBIL": stated})
    requested = columns_of([Application.model_validate_json(body)]).numbers[0, position]
    assert requested == float(stated) == declared(pa.chunked_array([pa.array([stated])]), "FLAG_MOBIL")


@pytest.mark.parametrize(
    ("values", "numbers", "missing", "wrong"),
    [
        (pa.array(["7.0", "x", None]), [7, 0, 0], [False, False, True], [False, True, False]),
        (pa.array([7.0, 0.5, None]), [7, 0, 0], [False, False, True], [False, True, False]),
        (pa.array([7, None]), [7, 0], [False, True], [False, False]),
        (pa.array([True, None]), [0, 0], [False, True], [True, False]),
        (pa.array([2.0**53, 2.0**53 + 2]), [2**53, 0], [False, False], [False, True]),
        (pa.array([2.0**24, 2.0**24 + 2], pa.float32()), [2**24, 0], [False, False], [False, True]),
        (pa.array([2.0**11, 2.0**11 + 2], pa.float16()), [2**11, 0], [False, False], [False, True]),
    ],
)
def test_what_is_missing_or_wrong_is_nought(values, numbers, missing, wrong):
    found = as_whole_numbers(pa.chunked_array([values]))
    assert [each.tolist() for each in found] == [numbers, missing, wrong]


@pytest.mark.parametrize(
    ("cell", "number"),
    [
        ("9223372036854775807.0", 2**63 - 1),
        ("-9223372036854775808.0", -(2**63)),
        ("9223372036854775808", REFUSED),
        ("-9223372036854775809", REFUSED),
        ("1e19", REFUSED),
    ],
)
def test_a_whole_number_has_64_bits(cell, number):
    assert whole(pa.chunked_array([[cell]])) == number


def test_a_text_that_is_not_utf_8_is_wrong_and_the_others_are_read():
    binary = pa.array([b"\xff", b" NA ", b"x", None], pa.binary())
    texts, wrong = as_texts(pa.chunked_array([compute.cast(binary, pa.string(), safe=False)]))
    assert texts.to_pylist() == [None, None, "x", None]
    assert wrong.tolist() == [True, False, False, False]


@pytest.mark.parametrize("kind", [pa.int64(), pa.uint64(), pa.decimal128(20, 0), pa.string()])
def test_a_number_of_more_digits_than_a_float_holds_is_the_nearest_one(kind):
    values = pa.array([str(2**53 + 3)]).cast(kind)
    numbers, wrong = as_numbers(pa.chunked_array([values]))
    assert (numbers.tolist(), wrong.tolist()) == ([float(2**53 + 4)], [False])
