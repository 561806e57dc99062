"""Tables of applications as bodies, and mutated ones; run as a program, it reads many and says what became of them."""

from __future__ import annotations

import json
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

import pyarrow as pa
from pyarrow import csv, ipc, parquet

from features.drawing import draw_legal, records_of
from serving.columnar import TableReader
from serving.exchange import ARROW, CSV, PARQUET
from serving.problems import HTTPProblem
from serving.settings import ServingSettings
from tests.home_credit import APPLICATION, PORTFOLIO
from tests.server import ROOT

LIMITS = ServingSettings.load(ROOT / "configs" / "serving.yaml").limits
Row = Mapping[str, Any]


def drawn(rows: int, seed: int = 1) -> list[dict[str, Any]]:
    """Legal applications, each column with a value or None."""
    return records_of(draw_legal(PORTFOLIO, rows, seed=seed))


def table_of(rows: Sequence[Row], **more: Any) -> pa.Table:
    """The applications as a table: numbers as float64, categories as text; `more` are further columns."""
    names = [column.name for column in APPLICATION if any(column.name in row for row in rows)]
    kinds = {name: pa.float64() if APPLICATION[name].numeric else pa.string() for name in names}
    return pa.table({**more, **{name: pa.array([row.get(name) for row in rows], kinds[name]) for name in names}})


def arrow(table: pa.Table, *, batch: int | None = None, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    with ipc.new_stream(sink, table.schema, options=ipc.IpcWriteOptions(**options)) as stream:
        stream.write_table(table, batch)
    body: bytes = sink.getvalue().to_pybytes()
    return body


def parquet_file(table: pa.Table, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    parquet.write_table(table, sink, **options)
    body: bytes = sink.getvalue().to_pybytes()
    return body


def csv_file(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    csv.write_csv(table, sink)
    body: bytes = sink.getvalue().to_pybytes()
    return body


def encoded(media_type: bytes, table: pa.Table) -> bytes:
    return {ARROW: arrow, PARQUET: parquet_file, CSV: csv_file}[media_type](table)


def _varied() -> pa.Table:
    """A small table of as many types as are read."""
    rows = drawn(20)
    table = table_of(rows, client_id=pa.array([f"c-{row}" for row in range(20)]))
    changed = {
        "NAME_INCOME_TYPE": lambda values: values.dictionary_encode(),
        "NAME_EDUCATION_TYPE": lambda values: values.cast(pa.string_view()),
        "NAME_FAMILY_STATUS": lambda values: values.cast(pa.large_string()),
        "AMT_CREDIT": lambda values: pa.array([Decimal(f"{value:.2f}") for value in values.to_pylist()]),
        "CNT_CHILDREN": lambda values: values.cast(pa.int16()),
        "AMT_ANNUITY": lambda values: values.cast(pa.string()).dictionary_encode(),
        "EXT_SOURCE_1": lambda values: values.cast(pa.float32()),
        "FLAG_EMAIL": lambda values: values.cast(pa.bool_()),
        "DAYS_BIRTH": lambda values: pa.array([3] * len(values), pa.timestamp("ms", "Europe/Berlin")),
    }
    for name, change in changed.items():
        place = table.column_names.index(name)
        table = table.set_column(place, name, change(table[name].combine_chunks()))
    return table


def mutated(seed: int) -> Iterator[tuple[bytes, bytes]]:
    """Media types and bodies without end: legal bodies in which bytes are altered, doubled, moved or cut off."""
    draw, varied = random.Random(seed), _varied()
    narrow = varied.select(["client_id", "NAME_CONTRACT_TYPE", "NAME_INCOME_TYPE", "AMT_CREDIT", "AMT_INCOME_TOTAL"])
    whole = (varied, narrow, narrow.slice(0, 3))
    plain = [arrow(table, batch=size) for table in whole for size in (None, 7)]
    packed = [arrow(table, compression=codec) for table in whole for codec in ("zstd", "lz4")]
    views = narrow.set_column(2, "NAME_INCOME_TYPE", narrow["NAME_CONTRACT_TYPE"].cast(pa.string_view()))
    without = [
        narrow.drop_columns(["NAME_INCOME_TYPE"]),
        varied.select(["AMT_CREDIT", "AMT_INCOME_TOTAL", "NAME_CONTRACT_TYPE"]),
    ]
    files = [parquet_file(table, **options) for table in without for options in _WRITERS]
    texts = [csv_file(table) for table in without]
    bodies = [(ARROW, body) for body in [*plain, *packed, arrow(views), _growing()] * 3]
    bodies += [(PARQUET, body) for body in files] + [(CSV, body) for body in texts]
    while True:
        media_type, body = draw.choice(bodies)
        yield media_type, _mutant(draw, body)


def _growing() -> bytes:
    """A stream whose dictionary grows with each batch."""
    batches = [
        pa.RecordBatch.from_pydict(
            {
                "NAME_CONTRACT_TYPE": pa.DictionaryArray.from_arrays(
                    pa.array([0, count - 1], pa.int32()), pa.array([f"level {number}" for number in range(count)])
                ),
                "AMT_INCOME_TOTAL": [1e5, 2e5],
                "AMT_CREDIT": [2e5, 3e5],
            }
        )
        for count in (1, 3, 6)
    ]
    sink = pa.BufferOutputStream()
    options = ipc.IpcWriteOptions(emit_dictionary_deltas=True)
    with ipc.new_stream(sink, batches[0].schema, options=options) as stream:
        for batch in batches:
            stream.write_batch(batch)
    body: bytes = sink.getvalue().to_pybytes()
    return body


_WRITERS: tuple[dict[str, Any], ...] = (
    {}, {"compression": "zstd"}, {"compression": "gzip", "use_dictionary": False}, {"data_page_version": "2.0"},
    {"compression": "none"},
)  # fmt: skip
_NUMBERS = (0, 1, -1, 127, 128, 255, 256, 2**15, 2**31 - 1, -(2**31), 2**31, 2**32 - 1)
_LONG = (*_NUMBERS, 2**40, 2**62, 2**63 - 1, -(2**63))


Change = Callable[[random.Random, bytearray, int], tuple[int, int, bytes]]
"""Makes a place, how many bytes there go, and what comes for them."""

_CHANGES: tuple[Change, ...] = (
    lambda draw, _, at: (at, 1, draw.randbytes(1)),
    lambda draw, _, at: (at, 4, (draw.choice(_NUMBERS) % 2**32).to_bytes(4, "little")),
    lambda draw, _, at: (at // 8 * 8, 8, (draw.choice(_LONG) % 2**64).to_bytes(8, "little")),
    lambda draw, body, at: (at, draw.choice((1, 4, 8, 64, len(body))), b""),
    lambda draw, body, at: (at, 0, bytes(body[at : at + draw.choice((1, 8, 64, 512))])),
    lambda _, body, at: (at, 16, bytes(reversed(body[at : at + 16]))),
)


def _mutant(draw: random.Random, body: bytes) -> bytes:
    changed = bytearray(body)
    for _ in range(draw.choice((1, 1, 1, 2, 3, 8, 30))):
        at = draw.randrange(len(changed) or 1)
        if draw.random() < 0.6:  # metadata is at the beginning of messages, and at the end of a Parquet file
            at = draw.choice((at % 400, max(0, len(changed) - 1 - at % 800), at // 8 * 8 % 7_000)) % (len(changed) or 1)
        change = draw.choice(_CHANGES)
        place, old, new = change(draw, changed, at)
        changed[place : place + old] = new
    return bytes(changed)


def main(seed: int, count: int) -> dict[str, int]:
    """Read so many mutated bodies; how many ended in which way."""
    reader, found = TableReader(PORTFOLIO, LIMITS), Counter[str]()
    for number, (media_type, body) in enumerate(mutated(seed)):
        if number == count:
            return dict(found)
        try:
            parts = list(reader.read(media_type, body))
        except HTTPProblem as refusal:
            found[f"{refusal.status.value}"] += 1
        else:
            rows = sum(len(columns) for _, columns in parts)
            found["200" if rows else "200, all rejected"] += 1
    raise AssertionError


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]), int(sys.argv[2]))))  # noqa: T201
