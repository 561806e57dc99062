"""Readers of Arrow values: numbers, levels, whole numbers and names. `docs/reference/files.md` has the tables.

Each function returns the values, and where one is wrong. Words for missing, blanks, null and NaN are missing in every
container. No value is read differently because of the values beside it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from features.request import LONGEST_CLIENT_ID
from features.schema import MISSING_WORDS, Column, ColumnKind, day_number, is_missing_word
from features.transformer import DistinctLevels

# A worker answers JSON requests without pyarrow, so that each function below imports it itself.
if TYPE_CHECKING:
    import pyarrow as pa

Wrong = NDArray[np.bool_]
"""Shape (n,): True where a value is there and cannot be read."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
# Infinity is read as a number, so that the rule "must be finite" can name its row.
_INFINITE = re.compile(r"[+-]?inf(inity)?", re.IGNORECASE)
_TRUTH = {"true": 1.0, "false": 0.0}
_INT64 = (-(2**63), 2**63 - 1)
_EXACT = {16: 2**11, 32: 2**24, 64: 2**53}
"""For floats of 16, 32 and 64 bits: the limit up to which a float holds every whole number."""


def as_numbers(
    values: pa.ChunkedArray[Any], kind: ColumnKind = ColumnKind.NUMBER, *, decimal: str = "."
) -> tuple[NDArray[np.float64], Wrong]:
    """Values as float64, NaN where one is missing or wrong; true and false are 1 and 0 in a flag alone.

    `decimal` is the decimal mark of texts; with a comma, a point groups thousands and is refused.
    """
    import pyarrow as pa
    from pyarrow import types

    values, flag = _plain(values), kind is ColumnKind.FLAG
    stored = values.type
    if types.is_string(stored):
        return _parsed(_with_point(values) if decimal == "," else values, flag)
    if types.is_decimal(stored):  # Arrow's own conversion is one unit in the last place off for one decimal in eight
        values = values.cast(pa.string())
    elif not (_is_number(stored) or types.is_null(stored) or (flag and types.is_boolean(stored))):
        return np.full(len(values), np.nan), _present(values)
    numbers = values.cast(pa.float64(), safe=False).to_numpy()
    return np.asarray(numbers, dtype=np.float64), np.zeros(len(values), dtype=np.bool_)


def as_levels(values: pa.ChunkedArray[Any], column: Column) -> tuple[DistinctLevels, Wrong]:
    """Values of a category as str, None where one is missing or wrong; the column's own missing codes stay."""
    from pyarrow import types

    values = _plain(values)
    if column.coded and not types.is_string(values.type):
        texts, wrong = as_texts(values)
        return DistinctLevels.of(texts.to_pylist()), wrong
    if types.is_string(values.type):
        levels, places, wrong = _distinct(values, lambda text: _level(text, column), None)
        return DistinctLevels(levels, places), wrong
    return DistinctLevels([None], np.zeros(len(values), dtype=np.intp)), _present(values)


def as_level_codes(
    values: pa.ChunkedArray[Any], column: Column, codes: Mapping[str | None, float]
) -> tuple[NDArray[np.float64], Wrong]:
    """Values of a category as the codes of their levels, without an object for each; NaN where missing or wrong."""
    from pyarrow import types

    values = _plain(values)
    wrong = np.zeros(len(values), dtype=np.bool_)
    if column.coded and not types.is_string(values.type):
        values, wrong = as_texts(values)
    if not types.is_string(values.type):
        return np.full(len(values), np.nan), _present(values)
    found, unread = _read_distinct(values, lambda text: codes[_level(text, column)], np.float64)
    return found, wrong | unread


def as_days(values: pa.ChunkedArray[Any]) -> tuple[NDArray[np.float64], Wrong]:
    """Dates as float64 days since 1970-01-01, NaN where one is missing or wrong: dates, timestamps or ISO texts."""
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import types

    values = _plain(values)
    if types.is_string(values.type):
        return _read_distinct(values, _days, np.float64)
    if types.is_timestamp(values.type):
        values = pc.floor_temporal(values, unit="day").cast(pa.timestamp("s")).cast(pa.date32())
    elif types.is_null(values.type):
        values = values.cast(pa.date32())
    if not types.is_date(values.type):
        return np.full(len(values), np.nan), _present(values)
    numbers = values.cast(pa.date32()).cast(pa.int32()).cast(pa.float64()).to_numpy()
    return np.asarray(numbers, dtype=np.float64), np.zeros(len(values), dtype=np.bool_)


def as_whole_numbers(values: pa.ChunkedArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.bool_], Wrong]:
    """Values as int64 (0 where missing or wrong), where one is missing, and where one is wrong.

    A whole number in any notation (100002, 100002.0, 1.00002E+05) is read exactly, or is wrong. A float64 holds every
    whole number up to 2**53, a float32 up to 2**24.
    """
    import pyarrow as pa
    from pyarrow import types

    values = _plain(values)
    if types.is_floating(values.type):
        return _whole_floats(values)
    if types.is_integer(values.type) or types.is_decimal(values.type) or types.is_null(values.type):
        values = values if types.is_signed_integer(values.type) else values.cast(pa.string())
    elif not types.is_string(values.type):
        return np.zeros(len(values), dtype=np.int64), ~_present(values), _present(values)
    whole = _cast_to_int64(values)
    if whole is not None:
        return whole.fill_null(0).to_numpy(), ~_present(whole), np.zeros(len(whole), dtype=np.bool_)
    read, wrong = _read_distinct(values, _whole, np.object_)
    missing = np.array([value is None for value in read], dtype=np.bool_) & ~wrong
    return np.where(missing | wrong, 0, read).astype(np.int64), missing, wrong


def _cast_to_int64(values: pa.ChunkedArray[Any]) -> pa.ChunkedArray[Any] | None:
    """The values in one cast; None if Arrow cannot read one of them, or reads one as hexadecimal."""
    import pyarrow as pa
    import pyarrow.compute as pc

    # Arrow reads 0x1F as 31, which no other reader of this project does.
    if pa.types.is_string(values.type) and pc.any(pc.match_substring(values, "x", ignore_case=True)).as_py():
        return None
    try:
        return values.cast(pa.int64())
    except pa.ArrowInvalid:
        return None


def as_texts(values: pa.ChunkedArray[Any]) -> tuple[pa.ChunkedArray[Any], Wrong]:
    """Values as text, null where one is missing or wrong; 25.0 is the text 25, and true the text true."""
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import types

    values = _plain(values)
    if types.is_floating(values.type):
        whole, _, fraction = _whole_floats(values)
        texts = values.cast(pa.string())
        values = pc.if_else(
            pa.array(fraction), texts, pc.if_else(values.is_nan(), None, pa.array(whole).cast("string"))
        )
        values = pc.if_else(pa.array(_present(values)), values, pa.scalar(None, pa.string()))
    elif types.is_decimal(values.type):
        texts = [None if value is None else _without_trailing_zeros(f"{value:f}") for value in values.to_pylist()]
        values = pa.chunked_array([pa.array(texts, pa.string())])
    elif any(
        is_kind(values.type) for is_kind in (types.is_integer, types.is_boolean, types.is_temporal, types.is_null)
    ):
        values = values.cast(pa.string())
    elif not types.is_string(values.type):
        return pa.chunked_array([pa.nulls(len(values), pa.string())]), _present(values)
    try:
        stated = pc.utf8_lower(pc.utf8_trim_whitespace(values))
    except pa.ArrowInvalid:  # not UTF-8
        read, wrong = _read_distinct(values, lambda text: None if is_missing_word(text) else text, np.object_)
        return pa.chunked_array([pa.array(read, pa.string())]), wrong
    missing = pc.is_in(stated, value_set=pa.array(sorted(MISSING_WORDS)))
    texts = pc.if_else(missing, pa.scalar(None, pa.string()), values)
    return texts, np.zeros(len(texts), dtype=np.bool_)


def as_client_ids(values: pa.ChunkedArray[Any]) -> tuple[pa.ChunkedArray[Any], Wrong]:
    """Client ids as text, null where one is missing or wrong: texts or whole numbers up to the longest legal id."""
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import types

    values = _plain(values)
    if types.is_floating(values.type) or types.is_decimal(values.type):
        _, _, wrong = as_whole_numbers(values)
    elif types.is_string(values.type) or types.is_integer(values.type) or types.is_null(values.type):
        wrong = np.zeros(len(values), dtype=np.bool_)
    else:
        wrong = _present(values)
    texts, unread = as_texts(values)
    long = pc.greater(pc.utf8_length(texts), LONGEST_CLIENT_ID).fill_null(False).to_numpy()
    wrong |= unread | long
    return pc.if_else(pa.array(wrong), pa.scalar(None, pa.string()), texts), wrong


def stored_as(values: pa.ChunkedArray[Any]) -> str:
    """The name of the stored type of the values, "" for text."""
    stored = _plain(values).type
    return "" if str(stored) == "string" else str(stored)


def _plain(values: pa.ChunkedArray[Any]) -> pa.ChunkedArray[Any]:
    """The values without a dictionary, and any text as `string`."""
    import pyarrow as pa
    from pyarrow import types

    if types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if types.is_large_string(values.type) or types.is_string_view(values.type):
        values = values.cast(pa.string())
    return values


def _is_number(stored: pa.DataType) -> bool:
    from pyarrow import types

    return bool(types.is_integer(stored) or types.is_floating(stored))


def _parsed(values: pa.ChunkedArray[Any], flag: bool) -> tuple[NDArray[np.float64], Wrong]:
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        numbers = np.asarray(pc.ascii_trim_whitespace(values).cast(pa.float64()).to_numpy(), dtype=np.float64)
    except pa.ArrowInvalid:
        return _read_distinct(values, lambda text: _number(text, flag), np.float64)
    odd = np.isnan(numbers) & _present(values)  # Arrow reads nan(7) too
    if odd.any():
        return _read_distinct(values, lambda text: _number(text, flag), np.float64)
    return numbers, odd


def _read_distinct(values: pa.ChunkedArray[Any], read: Callable[[str], Any], kind: type) -> tuple[NDArray[Any], Wrong]:
    """The values that `read` makes of the texts, None or NaN for null; a ValueError of `read` marks one as wrong."""
    distinct, places, wrong = _distinct(values, read, np.nan if kind is np.float64 else None)
    table: NDArray[Any] = np.empty(len(distinct), dtype=kind)
    table[:] = distinct
    return table.take(places), wrong


def _distinct(
    values: pa.ChunkedArray[Any], read: Callable[[str], Any], nothing: Any
) -> tuple[list[Any], NDArray[np.intp], Wrong]:
    """What `read` makes of the distinct texts, with `nothing` for null and wrong ones, and the place of each row's."""
    import pyarrow as pa

    encoded = values.cast(pa.string()).combine_chunks().dictionary_encode()
    distinct, wrong = [], []
    for text in _texts_of(encoded.dictionary):
        try:
            distinct.append(read(text if isinstance(text, str) else text.as_py()))
            wrong.append(False)
        except ValueError:  # UnicodeDecodeError is one
            distinct.append(nothing)
            wrong.append(True)
    indices = encoded.indices.fill_null(len(distinct)) if encoded.null_count else encoded.indices
    places = indices.to_numpy().astype(np.intp)
    found = np.array([*wrong, False])[places] if any(wrong) else np.zeros(len(places), dtype=np.bool_)
    return [*distinct, nothing], places, found


def _texts_of(dictionary: pa.StringArray) -> Sequence[str] | pa.StringArray:
    """The texts; as Arrow's scalars, at ten times the cost, if one of them is no UTF-8."""
    try:
        return dictionary.to_pylist()
    except UnicodeDecodeError:
        return dictionary


def _level(text: str, column: Column) -> str | None:
    if column.is_missing(text) and text not in column.missing:
        return None
    return _code(text) if column.coded else text


def _code(text: str) -> str:
    """The usual writing of a whole number, such as 2 for 2.0; any other text as it is."""
    try:
        number = _whole(text)
    except ValueError:
        return text
    return text if number is None else str(number)


def _days(text: str) -> float | None:
    stated = text.strip()
    # A time of day may follow, after a T or a blank.
    return None if is_missing_word(stated) else day_number(re.split("[T ]", stated, maxsplit=1)[0])


def _with_point(values: pa.ChunkedArray[Any]) -> pa.ChunkedArray[Any]:
    """Texts with a point for their comma; one with a point in it can then not be read as a number."""
    import pyarrow.compute as pc

    return pc.replace_substring(pc.replace_substring(values, ".", "_"), ",", ".")


def _number(text: str, flag: bool) -> float:
    stated = text.strip()
    if flag and stated.casefold() in _TRUTH:
        return _TRUTH[stated.casefold()]
    if _NUMBER.fullmatch(stated) or _INFINITE.fullmatch(stated):
        return float(stated)
    if is_missing_word(stated):
        return np.nan
    raise ValueError


def _whole(text: str) -> int | None:
    stated = text.strip()
    if is_missing_word(stated):
        return None
    if not _NUMBER.fullmatch(stated):
        raise ValueError
    try:
        number = Decimal(stated)
    except InvalidOperation:  # an exponent of 20 digits
        raise ValueError from None
    if not _INT64[0] <= number <= _INT64[1] or number != number.to_integral_value():
        raise ValueError
    return int(number)


def _without_trailing_zeros(decimal: str) -> str:
    return decimal.rstrip("0").rstrip(".") if "." in decimal else decimal


def _whole_floats(values: pa.ChunkedArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.bool_], Wrong]:
    import pyarrow as pa

    exact = _EXACT[values.type.bit_width]
    numbers = np.asarray(values.cast(pa.float64()).to_numpy(), dtype=np.float64)
    missing = np.isnan(numbers)
    sound = (np.abs(numbers) <= exact) & (np.floor(numbers) == numbers)
    return np.where(sound, numbers, 0.0).astype(np.int64), missing, ~missing & ~sound


def _present(values: pa.ChunkedArray[Any]) -> NDArray[np.bool_]:
    """Where a value is neither null nor NaN."""
    import pyarrow.compute as pc

    return np.asarray(pc.invert(values.is_null(nan_is_null=True)).to_numpy(), dtype=np.bool_)
