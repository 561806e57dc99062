"""Tables as bodies and answers of /predict/batch, behind the boundary and with a real decision log."""

from __future__ import annotations

import asyncio
import io
import json
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest
from pyarrow import csv, ipc, parquet

from decision_log.segments import Listing, read_lines
from scoring.artefact import Artefact
from scoring.scorer import with_conformance
from scoring.store import StoredModel
from serving.columnar import TableReader
from serving.engine import DecisionEngine, Margins, Matrix
from serving.exchange import ARROW, CSV, JSON, PARQUET
from serving.problems import HTTPProblem, Invalid, NotTable, TooLarge
from serving.schemas import Requests
from tests.decision_log.models import kept
from tests.home_credit import APPLICATION, PORTFOLIO
from tests.server import ROOT
from tests.serving.tables import LIMITS, arrow, drawn, encoded, mutated, parquet_file, table_of
from tests.serving.test_engine import SERVING, Service

FORMS = (ARROW, PARQUET, CSV)
SECRET = "S3CR3T-VALUE"
REQUIRED: dict[str, Any] = {"NAME_CONTRACT_TYPE": "Cash loans", "AMT_INCOME_TOTAL": 1e5, "AMT_CREDIT": 2e5}
every_form = pytest.mark.parametrize("form", FORMS, ids=["arrow", "parquet", "csv"])


@pytest.fixture(scope="module")
def reader() -> TableReader:
    return TableReader(PORTFOLIO, LIMITS)


@pytest.fixture
def strict(artefact: Artefact) -> Iterator[StoredModel]:
    """A model that declines everybody, so that every answer has reasons."""
    policy = replace(artefact.policy, cutoff=1e-9, refer_from=1e-9, refer_to=1e-9)
    with kept("strict", with_conformance(replace(artefact, policy=policy))) as model:
        yield model


@pytest.fixture
def service(small: StoredModel, tmp_path: Path) -> Iterator[Service]:
    service = Service(small, tmp_path, {})
    yield service
    service.close()


def ask(service: Service, body: bytes, form: bytes, **headers: str) -> httpx.Response:
    sent = {"Content-Type": form.decode(), **{name.replace("_", "-"): value for name, value in headers.items()}}
    return asyncio.run(service.send("/predict/batch", body, sent))


def answered(answer: httpx.Response) -> pa.Table:
    """The table of an answer, whatever its form."""
    assert answer.status_code == 200, answer.text
    content = io.BytesIO(answer.content)
    match answer.headers["content-type"].encode():
        case form if form == ARROW:
            return ipc.open_stream(content).read_all()
        case form if form == PARQUET:
            return parquet.read_table(content)
    return csv.read_csv(content, convert_options=csv.ConvertOptions(strings_can_be_null=True))


def refusal(reader: TableReader, form: bytes, body: bytes) -> HTTPProblem:
    with pytest.raises(HTTPProblem) as refused:
        list(reader.read(form, body))
    return refused.value


def as_json(rows: list[dict[str, Any]]) -> bytes:
    items = [{"client_id": f"c-{number}", "application": row} for number, row in enumerate(rows)]
    return json.dumps({"applications": items}).encode()


def lines(folder: Path) -> list[dict[str, Any]]:
    """What is recorded, without what differs between two records of one application."""
    found = [line for path in Listing.of(folder).open for line in read_lines(path) if "index" in line]
    return [{name: line[name] for name in line if name not in ("salt", "time", "request_id")} for line in found]


@every_form
def test_a_table_is_decided_and_recorded_as_the_same_rows_in_json(
    strict: StoredModel, tmp_path: Path, form: bytes
) -> None:
    rows = drawn(50)
    rows[7] |= {"AMT_CREDIT": -1.0}
    table = table_of(rows, client_id=pa.array([f"c-{number}" for number in range(50)]))
    services = [Service(strict, tmp_path / name, {}) for name in ("json", "table")]
    plain = ask(services[0], as_json(rows), JSON).json()
    found = answered(ask(services[1], encoded(form, table), form, X_Request_ID="r-1"))
    recorded = [lines(service.folder) for service in services]
    for service in services:
        service.close()
    assert found["index"].to_pylist() == list(range(50))
    assert set(found["request_id"].to_pylist()) == {"r-1"}
    assert found["status"].to_pylist() == ["rejected" if row == 7 else "scored" for row in range(50)]
    scored = found.take([row for row in range(50) if row != 7])
    expected = [row for row in plain["results"] if row.get("status") != "rejected"]
    for name in ("client_id", "probability", "prediction", "threshold", "decision", "risk_level", "score", "missing"):
        assert scored[name].cast(pa.string() if name == "client_id" else scored[name].type).to_pylist() == [
            row[name] for row in expected
        ]
    codes = [[reason["code"] for reason in row["reasons"]] for row in expected]
    assert all(codes)
    if form == CSV:
        assert [[row[f"reason_{place}"] for place in range(1, len(row) + 1) if row.get(f"reason_{place}")]
                for row in scored.to_pylist()] == codes  # fmt: skip
    else:
        assert scored["reasons"].to_pylist() == [row["reasons"] for row in expected]
    assert recorded[0] == recorded[1]
    assert len(recorded[0]) == 49


@pytest.mark.parametrize("given", [JSON, *FORMS])
@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        (None, None),
        ("*/*", None),
        ("image/png", None),
        ("application/json", JSON),
        ("text/csv, application/json;q=0.5", CSV),
        ("application/vnd.apache.parquet", PARQUET),
        ("application/json;q=0.1, application/vnd.apache.arrow.stream", ARROW),
        ("application/json, */*;q=0.5", JSON),
    ],
)
def test_the_answer_has_the_form_that_is_preferred_and_else_that_of_the_body(
    service: Service, given: bytes, accept: str | None, wanted: bytes | None
) -> None:
    body = as_json([REQUIRED]) if given == JSON else encoded(given, table_of([REQUIRED]))
    answer = ask(service, body, given, Accept=accept or "*/*")
    assert (answer.status_code, answer.headers["content-type"].encode()) == (200, wanted or given)


def test_rejections_tell_the_same_places_in_every_form_of_the_answer(service: Service) -> None:
    rows = [REQUIRED, {**REQUIRED, "AMT_CREDIT": None, "CNT_CHILDREN": 1.5}, REQUIRED]
    body = arrow(table_of(rows, client_id=pa.array(["a", "b", " "])))
    plain = ask(service, body, ARROW, Accept="application/json").json()["results"]
    assert [row.get("index") for row in plain] == [None, 1, 2]
    faults = [
        {"loc": ["application", "AMT_CREDIT"], "msg": "is required"},
        {"loc": ["application", "CNT_CHILDREN"], "msg": "must be a whole number"},
    ]
    named = [{"loc": ["client_id"], "msg": "must be a text of 1 to 64 characters, or a whole number"}]
    assert [sorted(row["errors"], key=str) for row in plain[1:]] == [faults, named]
    table = answered(ask(service, body, ARROW)).to_pylist()
    assert [row["errors"] and sorted(row["errors"], key=str) for row in table] == [None, faults, named]
    assert [row["decision"] is None for row in table] == [False, True, True]
    told = answered(ask(service, body, ARROW, Accept="text/csv"))["errors"].to_pylist()
    assert told[0] is None
    assert sorted(told[1].split("; ")) == ["AMT_CREDIT: is required", "CNT_CHILDREN: must be a whole number"]


def test_a_table_of_rejections_alone_is_answered(service: Service) -> None:
    table = table_of([{**REQUIRED, "AMT_CREDIT": -1.0}] * 3)
    assert answered(ask(service, arrow(table), ARROW))["status"].to_pylist() == ["rejected"] * 3


def test_many_rows_keep_their_order_over_all_parts(service: Service) -> None:
    rows = [{**REQUIRED, "AMT_CREDIT": 1e5 + number, "EXT_SOURCE_2": number % 97 / 97} for number in range(2_500)]
    rows[1_234] = {**REQUIRED, "AMT_CREDIT": -1.0}
    body = arrow(table_of(rows, client_id=pa.array(range(2_500))), batch=700)
    found = answered(ask(service, body, ARROW))
    assert found["index"].to_pylist() == list(range(2_500))
    assert found["client_id"].to_pylist() == [str(number) for number in range(2_500)]
    assert [row for row, status in enumerate(found["status"].to_pylist()) if status == "rejected"] == [1_234]
    assert [line["index"] for line in lines(service.folder)] == [row for row in range(2_500) if row != 1_234]


def test_a_repetition_gets_the_first_answer_and_a_key_stands_for_one_form(service: Service) -> None:
    body = arrow(table_of([REQUIRED] * 3))
    first, again = (ask(service, body, ARROW, Idempotency_Key="k-7") for _ in range(2))
    other = ask(service, body, ARROW, Idempotency_Key="k-7", Accept="application/json")
    assert (first.status_code, again.content, again.headers["idempotency-replayed"]) == (200, first.content, "true")
    assert again.headers["content-type"].encode() == ARROW
    assert other.status_code == 422
    assert len(lines(service.folder)) == 3


def test_a_model_in_a_service_of_its_own_is_given_each_part(small: StoredModel) -> None:
    shapes = []

    async def margins(matrix: Matrix) -> Margins:
        shapes.append(len(matrix))
        return small.scorer.model.margins(matrix)

    engine = DecisionEngine(small, Requests(PORTFOLIO), SERVING, lambda *_: None, ask=margins)
    body = arrow(table_of([REQUIRED] * 1_200))
    found = asyncio.run(engine.routes["/predict/batch"].work(ARROW, ARROW)(body))
    assert ipc.open_stream(found).read_all().num_rows == 1_200
    assert shapes == [1_000, 200]


def test_each_row_of_a_table_is_charged_to_its_key(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    charged: list[int] = []
    monkeypatch.setattr("serving.engine.count_applications", charged.append)
    ask(service, arrow(table_of([REQUIRED] * 1_500)), ARROW)
    assert charged == [1_500]


@pytest.mark.parametrize("path", ["/predict", "/explain", "/predict/features"])
def test_other_routes_read_no_tables(service: Service, path: str) -> None:
    answer = asyncio.run(service.send(path, arrow(table_of([REQUIRED])), {"Content-Type": ARROW.decode()}))
    assert (answer.status_code, answer.json()["detail"]) == (415, "The body must be declared as application/json.")


def test_a_refusal_is_a_problem_document_whatever_is_accepted(service: Service) -> None:
    answer = ask(service, b"nothing", ARROW, Accept=ARROW.decode())
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")
    assert answer.json()["detail"] == "The body is no Arrow stream."


def test_a_compressed_body_is_refused(service: Service) -> None:
    assert ask(service, arrow(table_of([REQUIRED])), ARROW, Content_Encoding="gzip").status_code == 415


@every_form
def test_an_absent_column_is_missing_in_every_row(reader: TableReader, form: bytes) -> None:
    [(rows, columns)] = reader.read(form, encoded(form, table_of([REQUIRED] * 2)))
    assert (rows.size, rows.rejected, list(rows.client_ids)) == (2, {}, [None, None])
    assert columns.numbers[:, APPLICATION.position["AMT_CREDIT"]].tolist() == [2e5, 2e5]
    assert columns.levels[0, APPLICATION.position["NAME_INCOME_TYPE"]] is None


@every_form
@pytest.mark.parametrize(
    ("change", "faults"),
    [
        (lambda table: table.append_column("TARGET", [[1]]), [("TARGET", "Extra inputs are not permitted")]),
        (lambda table: table.drop_columns(["AMT_CREDIT"]), [("AMT_CREDIT", "Field required")]),
        (
            lambda table: table.append_column("client_id", [["a"]]).append_column("SK_ID_CURR", [[1]]),
            [("client_id", "may not be beside SK_ID_CURR")],
        ),
    ],
)
def test_columns_are_those_that_are_declared_each_once(
    reader: TableReader, form: bytes, change: Callable[[pa.Table], pa.Table], faults: list[tuple[str, str]]
) -> None:
    refused = refusal(reader, form, encoded(form, change(table_of([REQUIRED]))))
    assert isinstance(refused, Invalid)
    assert [(fault["loc"], fault["msg"]) for fault in refused.errors] == [
        (["columns", name], msg) for name, msg in faults
    ]


@pytest.mark.parametrize("form", [ARROW, CSV], ids=["arrow", "csv"])
def test_a_column_is_stated_once(reader: TableReader, form: bytes) -> None:
    refused = refusal(reader, form, encoded(form, table_of([REQUIRED]).append_column("AMT_CREDIT", [[1.0]])))
    assert refused.errors == [{"loc": ["columns", "AMT_CREDIT"], "msg": "is stated more than once"}]


@every_form
def test_the_identity_of_the_portfolio_names_the_applicants_too(reader: TableReader, form: bytes) -> None:
    table = table_of([REQUIRED] * 2).append_column("SK_ID_CURR", [[100002, 100003]])
    [(rows, _)] = reader.read(form, encoded(form, table))
    assert list(rows.client_ids) == ["100002", "100003"]


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())], ids=str
)
def test_a_text_that_means_missing_elsewhere_is_a_client_id_as_in_json(reader: TableReader, kind: pa.DataType) -> None:
    names = pa.array(["NA", "x" * 65, "", None])
    names = names.dictionary_encode() if pa.types.is_dictionary(kind) else names.cast(kind)
    [(rows, _)] = reader.read(ARROW, arrow(table_of([REQUIRED] * 4, client_id=names)))
    assert list(rows.client_ids) == ["NA", None, None, None]
    assert [rows.rejected[row][0]["loc"] for row in (1, 2)] == [["client_id"], ["client_id"]]
    assert list(rows.positions) == [0, 3]


def test_a_table_that_outlasts_its_time_limit_is_recorded_once_and_given_to_a_repetition(
    small: StoredModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service(small, tmp_path, {})
    stalled, record = threading.Event(), service.recorder.record

    def stall(*arguments: Any) -> Any:
        stalled.wait()
        return record(*arguments)

    monkeypatch.setattr(service.recorder, "record", stall)
    body, headers = arrow(table_of([REQUIRED] * 1_100)), {"Content-Type": ARROW.decode(), "Idempotency-Key": "k-1"}

    async def run() -> list[httpx.Response]:
        late = await service.send("/predict/batch", body, headers, late=True)
        stalled.set()
        await service.idempotency.settled(3600)
        return [late, await service.send("/predict/batch", body, headers)]

    late, again = asyncio.run(run())
    service.close()
    assert (late.status_code, again.headers["idempotency-replayed"]) == (504, "true")
    assert set(answered(again)["request_id"].to_pylist()) == {late.headers["x-request-id"]}
    assert len(lines(service.folder)) == 1_100


def test_faults_are_told_in_full_up_to_a_number(reader: TableReader) -> None:
    rows = [{**REQUIRED, "AMT_CREDIT": -1.0, "CNT_CHILDREN": 0.5}] * 1_500
    told = [len(faults) for part, _ in reader.read(ARROW, arrow(table_of(rows))) for faults in part.rejected.values()]
    assert (told[:500], told[500:]) == ([2] * 500, [1] * 1_000)


@every_form
def test_a_table_holds_at_least_one_application_and_at_most_as_many_as_the_limit(
    reader: TableReader, form: bytes
) -> None:
    table = table_of([REQUIRED])
    most = pa.concat_tables([table] * LIMITS.columnar_rows).combine_chunks()
    assert sum(rows.size for rows, _ in reader.read(form, encoded(form, most))) == 10_000
    for wrong, message in (
        (table.slice(0, 0), "must hold at least 1 application"),
        (pa.concat_tables([most, table]), "holds more than 10000 applications"),
    ):
        refused = refusal(reader, form, encoded(form, wrong))
        assert [fault["msg"] for fault in refused.errors] == [message]


@every_form
@pytest.mark.parametrize("body", [b"", b"x", b"\0" * 300, b"PAR1" * 9, b"\xff\xff\xff\xff\x10\0\0\0", b'{"a": 1}'])
def test_what_is_no_table_is_said_to_be_none(reader: TableReader, form: bytes, body: bytes) -> None:
    assert isinstance(refusal(reader, form, body), (NotTable, Invalid))
    assert form == CSV or isinstance(refusal(reader, form, body), NotTable)


@pytest.mark.parametrize("text", [b"A,B\n1\n", b'"A', b"A\xff,B\n1,2\n", SECRET.encode() + b",1\n2,3\n"])
def test_no_refusal_of_csv_quotes_a_row(reader: TableReader, text: bytes) -> None:
    header = ",".join(REQUIRED).encode()
    refused = refusal(reader, CSV, header + b"\n" + SECRET.encode() + b",1\n" + text)
    assert SECRET not in f"{refused} {refused.content('id')} {refused.__cause__}"


def _dictionary() -> pa.Table:
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * 10_000, pa.int32()), pa.array(["x" * 100_000]))
    return table_of([REQUIRED] * 10_000).append_column("NAME_INCOME_TYPE", texts)


def _view() -> pa.Table:
    """Each row names the same text; a view is its length, its first letters, its buffer and its place there."""
    view = struct.pack("<i4sii", 100_000, b"xxxx", 0, 0)
    buffers = [None, pa.py_buffer(view * 10_000), pa.py_buffer(b"x" * 100_000)]
    texts = pa.Array.from_buffers(pa.string_view(), 10_000, buffers)
    return table_of([REQUIRED] * 10_000).append_column("NAME_INCOME_TYPE", texts)


def _long() -> pa.Table:
    return table_of([REQUIRED] * 10_000).append_column("NAME_INCOME_TYPE", [["x" * 10_000] * 10_000])


@pytest.mark.parametrize(
    ("form", "make"),
    [
        (ARROW, lambda: arrow(_dictionary())),
        (ARROW, lambda: arrow(_view())),
        (ARROW, lambda: arrow(_long(), compression="zstd")),
        (ARROW, lambda: arrow(_long(), compression="lz4")),
        (ARROW, lambda: arrow(table_of([REQUIRED]), batch=1)[:-8] + _empty_batches(2_000)),
        (PARQUET, lambda: parquet_file(_dictionary())),
        (PARQUET, lambda: parquet_file(_long(), compression="zstd")),
        (PARQUET, lambda: parquet_file(_long(), compression="brotli", use_dictionary=False)),
        (PARQUET, lambda: parquet_file(
            _long(), use_dictionary=False, column_encoding=dict.fromkeys(["NAME_INCOME_TYPE"], "DELTA_BYTE_ARRAY"))),
    ],
    ids=["dictionary", "view", "zstd", "lz4", "batches", "of dictionary", "of zstd", "of brotli", "of prefixes"],
)  # fmt: skip
def test_a_small_body_that_unfolds_to_much_is_refused(
    reader: TableReader, form: bytes, make: Callable[[], bytes]
) -> None:
    body = make()
    assert len(body) < LIMITS.body_bytes
    before = pa.total_allocated_bytes()
    assert isinstance(refusal(reader, form, body), TooLarge)
    assert pa.total_allocated_bytes() - before < LIMITS.body_bytes


def _empty_batches(count: int) -> bytes:
    """So many record batches without rows, and the end of the stream."""
    table = table_of([REQUIRED])
    schema = len(arrow(table.slice(0, 0))) - 8
    sink = pa.BufferOutputStream()
    with ipc.new_stream(sink, table.schema) as stream:
        for _ in range(count):
            stream.write_batch(pa.RecordBatch.from_pylist([], schema=table.schema))
    return sink.getvalue().to_pybytes()[schema:]


@pytest.mark.parametrize(
    "values",
    [
        pa.array([["x"]]), pa.array([{"a": 1}]), pa.array([b"x"]), pa.array([{"a": [[1]]}]),
        pa.array([[1]], pa.list_(pa.float64(), 1)), pa.array([b"x" * 16], pa.binary(16)),
        pa.RunEndEncodedArray.from_arrays(pa.array([1], pa.int32()), pa.array([1.0])),
        pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"x" * 16], pa.binary(16))),
    ],
    ids=lambda values: str(values.type),
)  # fmt: skip
def test_a_column_of_nested_binary_or_foreign_values_is_refused_by_name(reader: TableReader, values: Any) -> None:
    refused = refusal(reader, ARROW, arrow(table_of([REQUIRED]).append_column("AMT_ANNUITY", values)))
    message = "must be of numbers, texts, dates or flags, or a dictionary of them"
    assert refused.errors == [{"loc": ["columns", "AMT_ANNUITY"], "msg": message}]


@every_form
def test_ten_thousand_columns_are_refused(reader: TableReader, form: bytes) -> None:
    table = pa.table({f"{SECRET}{number}": [1.0] for number in range(10_000)})
    refused = refusal(reader, form, encoded(form, table))
    if form == CSV:
        assert isinstance(refused, NotTable)  # the first line is too long
    else:
        message = f"has more than the {len(APPLICATION) + 2} columns that are declared"
        assert refused.errors == [{"loc": ["applications"], "msg": message}]


@pytest.mark.parametrize("head", [b'"a\nb",', b'a"b,"c\n', b"  \n", b'\n\xef\xbb\xbf"a\n', b"a,"])
def test_a_header_of_csv_that_goes_on_and_on_is_refused_before_arrow_sees_it(reader: TableReader, head: bytes) -> None:
    """A million fields of it would take 20 GB."""
    before = pa.total_allocated_bytes()
    assert isinstance(refusal(reader, CSV, head + b"a," * 1_000_000 + b"a\n"), NotTable)
    assert pa.total_allocated_bytes() == before


@pytest.mark.parametrize("head", [b"\xef\xbb\xbf", b"\n\r\n", b""])
def test_a_header_of_csv_may_be_quoted_and_follow_a_mark_or_blank_lines(reader: TableReader, head: bytes) -> None:
    body = head + b'"NAME_CONTRACT_TYPE","AMT_INCOME_TOTAL",AMT_CREDIT\r\n"Cash, loans",1e5,2e5\r\n'
    [(rows, columns)] = reader.read(CSV, body)
    assert (rows.size, rows.rejected) == (1, {})
    assert columns.levels[0, APPLICATION.position["NAME_CONTRACT_TYPE"]] == "Cash, loans"


def test_a_table_without_columns_is_refused(reader: TableReader) -> None:
    refused = refusal(reader, ARROW, arrow(pa.table({})))
    assert [fault["loc"][1] for fault in refused.errors] == list(REQUIRED)


def test_offsets_and_indices_are_looked_at_before_a_value_is_used(reader: TableReader) -> None:
    body = arrow(table_of([REQUIRED] * 3))
    offsets = b"".join(number.to_bytes(4, "little") for number in (0, 10, 20, 30))
    assert body.count(offsets) == 1
    for wrong in ((0, 10, 2**31 - 1, 30), (0, 2**32 - 1, 20, 30), (5, 4, 3, 2)):
        altered = body.replace(offsets, b"".join(number.to_bytes(4, "little") for number in wrong))
        assert isinstance(refusal(reader, ARROW, altered), NotTable)


def test_a_stream_that_states_another_byte_order_is_refused(reader: TableReader) -> None:
    """The order is the first field of the schema, which writers leave out; here it is made to be one of its bytes."""
    body = bytearray(arrow(table_of([REQUIRED])))
    metadata = memoryview(body)[8:]
    message = struct.unpack_from("<I", metadata, 0)[0]
    fields = message - struct.unpack_from("<i", metadata, message)[0]
    header = message + struct.unpack_from("<H", metadata, fields + 8)[0]
    schema = header + struct.unpack_from("<I", metadata, header)[0]
    slot = schema - struct.unpack_from("<i", metadata, schema)[0] + 4
    assert struct.unpack_from("<H", metadata, slot) == (0,)
    struct.pack_into("<H", metadata, slot, 4)
    assert struct.unpack_from("<h", metadata, schema + 4) != (0,)
    assert isinstance(refusal(reader, ARROW, bytes(body)), NotTable)


def test_the_process_that_reads_parquet_knows_no_secret_and_is_replaced_when_it_dies(
    reader: TableReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DECISION_LOG_KEY", SECRET)
    own = TableReader(PORTFOLIO, LIMITS)
    body = parquet_file(table_of([REQUIRED]))
    assert [rows.size for rows, _ in own.read(PARQUET, body)] == [1]
    process = own._unpacker._process
    assert process is not None
    if Path("/proc").is_dir():
        assert SECRET.encode() not in Path(f"/proc/{process.pid}/environ").read_bytes()
    process.kill()
    process.wait()
    assert [rows.size for rows, _ in own.read(PARQUET, body)] == [1]


def test_a_process_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    own = TableReader(PORTFOLIO, LIMITS.model_copy(update={"timeout_seconds": 1e-6}))
    assert isinstance(refusal(own, PARQUET, parquet_file(table_of([REQUIRED]))), NotTable)


@pytest.mark.slow
def test_two_thousand_mutated_bodies_are_read_or_refused_and_crash_nothing() -> None:
    command = [sys.executable, "-X", "faulthandler", "-m", "tests.serving.tables", "1", "2000"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert sum(found.values()) == 2_000
    assert found.keys() == {"200", "200, all rejected", "400", "413", "422"}


@pytest.mark.slow
def test_mutated_bodies_reach_the_boundary_and_get_no_5xx(service: Service) -> None:
    for number, (form, body) in enumerate(mutated(3)):
        if number == 200:
            break
        assert ask(service, body, form).status_code in (200, 400, 413, 422)
