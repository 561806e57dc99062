"""Tables as bodies of /predict/batch: Arrow streams, Parquet and CSV, read within limits; answers are written as such.

A table comes from a stranger. What it may unfold to is bounded before it is decoded, and Arrow looks at every offset,
index and text before a value is used. Parquet cannot be bounded so: `serving.unpacking` turns it into a stream first.
"""

from __future__ import annotations

import re
import struct
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import csv, ipc, types

from decision_log.format import Caller
from features.files import CsvLayout, RowBatch, csv_reader, read_table
from features.portfolio import Portfolio
from features.reasons import Reason
from features.request import LONGEST_CLIENT_ID
from features.transformer import Columns
from features.values import Wrong, as_client_ids
from scoring.reasons import MOST_REASONS
from serving.exchange import ARROW, CSV, PARQUET
from serving.problems import LONGEST_NAME, MOST_FAULTS, Fault, Invalid, NotTable, TooLarge
from serving.schemas import MOST_BATCH_FAULTS, Answer, BatchRows, DecidedPart, now
from serving.settings import Limits
from serving.unpacking import LARGE, MANY, WIDE, Unpacker, UnpackingError

CLIENT_ID = "client_id"

_LINE_END = re.compile(rb"[\r\n]")

_PART_ROWS = 1_000
"""Rows that are read, scored and recorded at once, so that no step takes long."""
_MOST_MESSAGES = 1_000
"""Dictionaries and record batches of a stream."""
_UNFOLDED = 4
"""A table may take so many times the largest body when it is decoded."""
_NAMES = {ARROW: "Arrow stream", PARQUET: "Parquet file", CSV: "CSV file in UTF-8 with as many fields in each row"}
_PLAIN = (
    *(types.is_null, types.is_boolean, types.is_integer, types.is_floating, types.is_decimal, types.is_temporal),
    *(types.is_string, types.is_large_string, types.is_string_view),
)


class TableReader:
    """Reads tables of the applications of one portfolio; one thread may use it."""

    def __init__(self, portfolio: Portfolio, limits: Limits) -> None:
        self._portfolio = portfolio
        self._layout = CsvLayout.of(portfolio)
        self._rows = limits.columnar_rows
        self._most = _UNFOLDED * limits.body_bytes
        separator = re.escape(self._layout.separator.encode())
        field = rb'(?:"(?:[^"\r\n]|"")*+"|[^"\r\n%b]*+)' % separator
        self._header = re.compile(rb"%b(?:%b%b)*+" % (field, separator, field))
        self._field = re.compile(rb"(?:^|%b)%b" % (separator, field))
        self._header_bytes = limits.application_bytes
        identity, schema = portfolio.declared.identity, portfolio.schema
        names = {CLIENT_ID, *(() if identity is None else (identity.column,))}
        self._identities = names - {column.name for column in schema}
        self._columns = len(schema) + len(self._identities)
        self._unpacker = Unpacker(
            rows=self._rows, columns=self._columns, most=self._most, seconds=limits.timeout_seconds
        )

    def read(self, media_type: bytes, body: bytes) -> Iterator[tuple[BatchRows, Columns]]:
        """Yield the applications of a body in parts, with the columns of those that break no rule.

        NotTable, TooLarge or Invalid if the body as a whole is none.
        """
        with _refusing(media_type):
            table = self._table(media_type, body)
            if not table.num_rows:
                raise _invalid("must hold at least 1 application")
            whole = self._completed(table)
            decimal = self._layout.decimal if media_type == CSV else "."
            said = 0
            for first in range(0, table.num_rows, _PART_ROWS):
                rows, columns = self._part(whole.slice(first, _PART_ROWS), first, decimal, said)
                said += sum(map(len, rows.rejected.values()))
                yield rows, columns

    def _table(self, media_type: bytes, body: bytes) -> pa.Table:
        if media_type == CSV:
            return self._of_csv(body)
        if media_type == PARQUET:
            body = self._unpacked(body)
        return self._of_stream(body)

    def _unpacked(self, body: bytes) -> bytes:
        try:
            return self._unpacker.unpack(body)
        except UnpackingError as error:
            problems = {MANY: self._too_many(), WIDE: self._too_wide(), LARGE: self._too_large()}
            raise problems.get(str(error), _no_table(PARQUET)) from None

    def _of_csv(self, body: bytes) -> pa.Table:
        self._require_few(self._fields_of_header(body))
        names = csv_reader(pa.BufferReader(body), [], self._layout).schema.names
        self._require_columns(names)
        batches, rows = [], 0
        for batch in csv_reader(pa.BufferReader(body), names, self._layout):
            batches.append(batch)
            rows += batch.num_rows
            if rows > self._rows:
                raise self._too_many()
        return pa.Table.from_batches(batches, pa.schema([(name, pa.string()) for name in names]))

    def _fields_of_header(self, body: bytes) -> int:
        """How many fields the first line has; NotTable if Arrow might take more than this line for it."""
        # Arrow takes 20 kB of memory for each field of a header. A quote in an odd place would hide where it ends.
        line = body.removeprefix(BOM_UTF8).lstrip(b"\r\n")[: self._header_bytes]
        end = _LINE_END.search(line)
        if end is None or not self._header.fullmatch(line, 0, end.start()):
            raise _no_table(CSV)
        return len(self._field.findall(line, 0, end.start()))

    def _of_stream(self, body: bytes) -> pa.Table:
        rows = unfolded = 0
        for number, message in enumerate(ipc.MessageReader.open_stream(pa.py_buffer(body))):
            part = _Claim.of(message)
            rows, unfolded = rows + part.rows, unfolded + part.size
            if rows > self._rows:
                raise self._too_many()
            if number > _MOST_MESSAGES or unfolded > self._most:
                raise self._too_large()
        with ipc.open_stream(pa.py_buffer(body), options=ipc.IpcReadOptions(use_threads=False)) as reader:
            self._require_columns(reader.schema.names)
            _require_plain(reader.schema)
            batches = []
            for batch in reader:
                batch.validate(full=True)
                batches.append(batch)
        table = pa.Table.from_batches(batches, reader.schema)
        indirect = {stored for stored in set(reader.schema.types) if _is_indirect(stored)}  # a table has few types
        named_often = [field.name for field in reader.schema if field.type in indirect] if indirect else []
        if table.nbytes + sum(_spread(table[name]) for name in named_often) > self._most:
            raise self._too_large()
        return table

    def _require_columns(self, names: Sequence[str]) -> None:
        """Invalid unless every column is declared, is there once, and none is lacking that is required."""
        self._require_few(len(names))
        schema, counts = self._portfolio.schema, Counter(names)
        faults = [_fault(name, "Extra inputs are not permitted") for name in counts if not self._knows(name)]
        faults += [_fault(name, "is stated more than once") for name, count in counts.items() if count > 1]
        required = [column.name for column in schema if column.required]
        faults += [_fault(name, "Field required") for name in required if name not in counts]
        if len(self._identities & counts.keys()) > 1:
            faults.append(_fault(CLIENT_ID, f"may not be beside {' and '.join(self._identities - {CLIENT_ID})}"))
        if faults:
            raise Invalid.because(faults[:MOST_FAULTS])

    def _require_few(self, columns: int) -> None:
        if columns > self._columns:
            raise self._too_wide()

    def _too_wide(self) -> Invalid:
        return _invalid(f"has more than the {self._columns} columns that are declared")

    def _knows(self, name: str) -> bool:
        return name in self._portfolio.schema or name in self._identities

    def _too_many(self) -> Invalid:
        return _invalid(f"holds more than {self._rows} applications")

    def _too_large(self) -> TooLarge:
        return TooLarge(f"The table would take more than {self._most} bytes, or has more than {_MOST_MESSAGES} parts.")

    def _completed(self, table: pa.Table) -> pa.Table:
        """The table with every declared column of an application; one that it lacks is missing in every row."""
        given = dict.fromkeys(table.column_names)
        absent = [column.name for column in self._portfolio.schema.stated if column.name not in given]
        if not absent:
            return table
        return pa.table([*table.columns, *[pa.nulls(table.num_rows)] * len(absent)], names=[*given, *absent])

    def _part(self, table: pa.Table, first: int, decimal: str, said: int) -> tuple[BatchRows, Columns]:
        batch = read_table(table, self._portfolio, decimal=decimal)
        faults = _faults_by_row(batch)
        clients: list[str | None] = [None] * len(batch)
        for name in self._identities.intersection(table.column_names):
            texts, wrong = _client_ids(table[name], literal=name == CLIENT_ID)
            clients = texts.to_pylist()
            for row in np.flatnonzero(wrong).tolist():
                faults.setdefault(row, []).append({"loc": [name], "msg": _CLIENT_ID_RULE})
        if not faults:
            return BatchRows(first, len(batch), range(len(batch)), clients, {}), batch.columns
        sound = np.ones(len(batch), dtype=np.bool_)
        sound[list(faults)] = False
        rejected = _shortened(faults, MOST_BATCH_FAULTS - said)
        return BatchRows(first, len(batch), np.flatnonzero(sound).tolist(), clients, rejected), batch.columns.take(
            sound
        )


def _fault(column: str, message: str) -> Fault:
    return {"loc": ["columns", column[:LONGEST_NAME]], "msg": message}


def _invalid(message: str) -> Invalid:
    return Invalid.because([{"loc": ["applications"], "msg": message}])


def _no_table(media_type: bytes) -> NotTable:
    return NotTable(f"The body is no {_NAMES[media_type]}.")


@contextmanager
def _refusing(media_type: bytes) -> Iterator[None]:
    """Turn Arrow's errors into NotTable, without what they quote."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeError, struct.error):
        raise _no_table(media_type) from None


def _require_plain(schema: pa.Schema) -> None:
    odd = {stored for stored in set(schema.types) if not _is_plain(stored)}  # a table has few types
    if odd:
        message = "must be of numbers, texts, dates or flags, or a dictionary of them"
        raise Invalid.because([_fault(field.name, message) for field in schema if field.type in odd][:MOST_FAULTS])


def _is_plain(stored: pa.DataType) -> bool:
    kind = stored.value_type if types.is_dictionary(stored) else stored
    return not isinstance(kind, pa.BaseExtensionType) and any(is_kind(kind) for is_kind in _PLAIN)


@dataclass(frozen=True, slots=True)
class _Claim:
    """What a message of a stream says of itself: its rows, and the bytes that it takes when it is decoded."""

    rows: int
    size: int

    @classmethod
    def of(cls, message: ipc.Message) -> _Claim:
        """The claim of a message whose metadata Arrow has verified as a flatbuffer."""
        # pyarrow tells neither before it decodes. The numbers are the fields of Message.fbs and their kinds.
        data = memoryview(message.metadata)
        header = _follow(data, 0)
        kind = struct.unpack_from("<B", data, _required(data, header, 1))[0]
        if kind == _SCHEMA:
            _require_little_endian(data, _follow(data, _required(data, header, 2)))
        if kind not in (_DICTIONARY_BATCH, _RECORD_BATCH):
            return cls(0, 0)
        batch = _follow(data, _required(data, header, 2))
        if kind == _DICTIONARY_BATCH:
            batch = _follow(data, _required(data, batch, 1))
        at = _field(data, batch, 0)
        rows = struct.unpack_from("<q", data, at)[0] if at else 0
        if rows < 0:
            raise struct.error
        size = message.body.size if _field(data, batch, 3) is None else _decompressed(data, batch, message.body)
        return cls(rows if kind == _RECORD_BATCH else 0, size)


_SCHEMA, _DICTIONARY_BATCH, _RECORD_BATCH = 1, 2, 3
_PLACE = struct.Struct("<qq")
"""Offset and length of a buffer."""


def _require_little_endian(data: memoryview, schema: int) -> None:
    # Arrow would turn the bytes of values round before anything is validated.
    at = _field(data, schema, 0)
    if at is not None and struct.unpack_from("<h", data, at)[0]:
        raise struct.error


def _decompressed(data: memoryview, batch: int, body: pa.Buffer) -> int:
    """The bytes of all buffers; each compressed one begins with its size, or with -1 if it is stored as it is."""
    vector = _follow(data, _required(data, batch, 2))
    count = struct.unpack_from("<I", data, vector)[0]
    total = 0
    for place in range(vector + 4, vector + 4 + _PLACE.size * count, _PLACE.size):
        offset, length = _PLACE.unpack_from(data, place)
        if length:
            if offset < 0 or length < 0:
                raise struct.error
            size = struct.unpack_from("<q", body, offset)[0]
            if size < -1:
                raise struct.error
            total += length if size == -1 else size
    return total


def _follow(data: memoryview, at: int) -> int:
    """The place that an offset points to."""
    place: int = at + struct.unpack_from("<I", data, at)[0]
    return place


def _field(data: memoryview, table: int, number: int) -> int | None:
    """The place of a field of a flatbuffer's table, None where it has its default."""
    fields = table - struct.unpack_from("<i", data, table)[0]
    if 4 + 2 * number >= struct.unpack_from("<H", data, fields)[0]:
        return None
    offset = struct.unpack_from("<H", data, fields + 4 + 2 * number)[0]
    return table + offset if offset else None


def _required(data: memoryview, table: int, number: int) -> int:
    place = _field(data, table, number)
    if place is None:
        raise struct.error
    return place


def _is_indirect(kind: pa.DataType) -> bool:
    return bool(types.is_dictionary(kind) or types.is_string_view(kind))


def _spread(column: pa.ChunkedArray[Any]) -> int:
    """The bytes of the texts of a column if each row had its own: a dictionary or a view may name one many times."""
    return sum(_text_bytes(chunk) for chunk in column.chunks)


def _text_bytes(values: pa.Array[Any]) -> int:
    if not len(values):
        return 0
    if types.is_string_view(values.type):  # 16 bytes a view, of which the first four are the length of the text
        ends = values.offset + len(values)
        lengths = np.frombuffer(values.buffers()[1], np.int32, 4 * ends)[::4][values.offset :]
        return int(lengths.sum(dtype=np.int64))
    if not types.is_dictionary(values.type) or not len(values.dictionary):
        return 0
    kind = values.type.value_type
    if not (types.is_string(kind) or types.is_large_string(kind)):
        return _text_bytes(values.dictionary) * len(values)
    lengths = pc.binary_length(values.dictionary).take(values.indices)
    return int(pc.sum(lengths.cast(pa.int64())).as_py() or 0)


def _client_ids(values: pa.ChunkedArray[Any], *, literal: bool) -> tuple[pa.ChunkedArray[Any], Wrong]:
    """Client ids as text; `literal` texts are names as they stand, as in JSON, even one such as NA."""
    kind = values.type.value_type if types.is_dictionary(values.type) else values.type
    if not literal or kind not in (pa.string(), pa.large_string(), pa.string_view()):
        return as_client_ids(values)
    texts = values.cast(kind).cast(pa.string())
    blank = pc.equal(pc.utf8_trim_whitespace(texts), "")
    wrong = pc.or_(blank, pc.greater(pc.utf8_length(texts), LONGEST_CLIENT_ID)).fill_null(False)
    return pc.if_else(wrong, pa.scalar(None, pa.string()), texts), np.asarray(wrong.to_numpy(), dtype=np.bool_)


_CLIENT_ID_RULE = f"must be a text of 1 to {LONGEST_CLIENT_ID} characters, or a whole number"


def _faults_by_row(batch: RowBatch) -> dict[int, list[Fault]]:
    faults: dict[int, list[Fault]] = {}
    for violation in batch.violations:
        fault = {"loc": ["application", violation.column], "msg": violation.rule}
        for row in violation.rows.tolist():
            faults.setdefault(row, []).append(fault)
    return faults


def _shortened(faults: Mapping[int, list[Fault]], left: int) -> dict[int, list[Fault]]:
    """The faults of each row as long as so many are left to tell; then only the first of each."""
    shortened = {}
    for row in sorted(faults):
        shortened[row] = faults[row] if left > 0 else faults[row][:1]
        left -= len(shortened[row])
    return shortened


def _histories(callers: Sequence[Caller]) -> dict[str, pa.Array[Any]]:
    """Where the roll-ups of each client came from, where the model reads them."""
    if not callers or callers[0].history is None:
        return {}
    return {"history": pa.array([caller.history for caller in callers], pa.string())}


@dataclass(frozen=True, slots=True)
class DecisionsWriter:
    """Writes decisions as tables; see `docs/how-to/serve.md` for their columns.

    Attributes
    ----------
    model_version, threshold : of the champion, which decides where a part does not say otherwise
    told : each reason as JSON
    """

    model_version: str
    threshold: float
    told: Mapping[Reason, Answer]

    def encoded(self, media_type: bytes, request: str, parts: Iterable[DecidedPart]) -> bytes:
        """Return the answer to a request as one body."""
        tables = [self._table(request, part) for part in parts]
        sink = pa.BufferOutputStream()
        if media_type == ARROW:
            with ipc.new_stream(sink, tables[0].schema) as stream:
                for table in tables:
                    stream.write_table(table)
        elif media_type == PARQUET:
            from pyarrow import parquet

            parquet.write_table(pa.concat_tables(tables), sink)
        else:
            csv.write_csv(_flat(pa.concat_tables(tables)), sink)
        body: bytes = sink.getvalue().to_pybytes()
        return body

    def _table(self, request: str, part: DecidedPart) -> pa.Table:
        """A row for each application, scored or rejected."""
        rows, scores = part.rows, part.scores
        size, scored = rows.size, len(scores)
        versions, thresholds = pa.repeat(self.model_version, size), pa.repeat(self.threshold, scored)
        if part.models is not None:
            by_place = dict(zip(rows.positions, part.models, strict=True))
            own = (self.model_version, self.threshold)
            versions = pa.array([by_place.get(place, own)[0] for place in range(size)])
            thresholds = pa.array([threshold for _, threshold in part.models], pa.float64())
        decided = {
            "timestamp": pa.repeat(pa.scalar(now(), pa.timestamp("ms", "UTC")), scored),
            "probability": pa.array(scores.probability),
            "prediction": pa.array(scores.prediction),
            "threshold": thresholds,
            "decision": pa.array(scores.decision, pa.string()),
            "risk_level": pa.array(scores.risk_level, pa.string()),
            "score": pa.array(scores.points),
            **_histories(part.callers),
            "missing": pa.array(scores.missing),
            "unknown": pa.array(np.fromiter(map(len, scores.unknown), np.int64, scored)),
            "unknown_columns": _lists(scores.unknown),
            "withheld": _lists(scores.withheld),
            "reasons": self._reasons(scores.reasons),
        }
        if rows.rejected:
            places = np.full(size, -1)
            places[rows.positions] = np.arange(scored)
            taken = pa.array(places, mask=places < 0)
            decided = {name: values.take(taken) for name, values in decided.items()}
        return pa.table(
            {
                "request_id": pa.repeat(request, size),
                "index": pa.array(np.arange(rows.first, rows.first + size)),
                "client_id": pa.array(rows.client_ids, pa.string()),
                "status": _statuses(rows),
                "model_version": versions,
                **decided,
                "errors": _errors(rows),
            }
        )

    def _reasons(self, rows: NDArray[np.object_]) -> pa.Array[Any]:
        told, place = pa.array(self.told.values(), _REASON), {reason: i for i, reason in enumerate(self.told)}
        return _of_rows(rows, lambda reasons: told.take(pa.array([place[one] for one in reasons], pa.int32())))


_REASON = pa.struct({"code": pa.string(), "text": pa.string()})
_ERRORS = pa.list_(pa.struct({"loc": pa.list_(pa.string()), "msg": pa.string()}))


def _statuses(rows: BatchRows) -> pa.Array[Any]:
    if not rows.rejected:
        return pa.repeat("scored", rows.size)
    return pa.array(["rejected" if row in rows.rejected else "scored" for row in range(rows.size)])


def _errors(rows: BatchRows) -> pa.Array[Any]:
    if not rows.rejected:
        return pa.nulls(rows.size, _ERRORS)
    return pa.array([rows.rejected.get(row) for row in range(rows.size)], _ERRORS)


def _lists(rows: NDArray[np.object_]) -> pa.Array[Any]:
    return _of_rows(rows, lambda texts: pa.array(texts, pa.string()))


def _of_rows(rows: NDArray[np.object_], values: Callable[[list[Any]], pa.Array[Any]]) -> pa.Array[Any]:
    """A list for each row, from all their members at once: no list of Python is made, nor looked through for cycles."""
    held = rows.tolist()
    ends = np.fromiter(accumulate(map(len, held), initial=0), np.int32, len(held) + 1)
    return pa.ListArray.from_arrays(pa.array(ends), values(list(chain.from_iterable(held))))


def _flat(table: pa.Table) -> pa.Table:
    """The answer with texts for its lists, as the files of batch jobs have them."""
    columns = {name: table[name] for name in table.column_names if name not in ("reasons", "errors")}
    for name in ("unknown_columns", "withheld"):
        columns[name] = pc.binary_join(table[name], "; ")
    columns["timestamp"] = pc.binary_join_element_wise(
        pc.replace_substring(table["timestamp"].cast(pa.timestamp("ms")).cast(pa.string()), " ", "T"), "Z", ""
    )
    codes = [[reason["code"] for reason in row or ()] for row in table["reasons"].to_pylist()]
    for place in range(MOST_REASONS):
        texts = [row[place] if len(row) > place else None for row in codes]
        columns[f"reason_{place + 1}"] = pa.array(texts, pa.string())
    told = ["; ".join(f"{one['loc'][-1]}: {one['msg']}" for one in row or ()) for row in table["errors"].to_pylist()]
    return pa.table({**columns, "errors": pa.array([text or None for text in told], pa.string())})
