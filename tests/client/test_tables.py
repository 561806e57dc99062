"""What `predict_table` sends, and makes of the answers."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import credit_scoring_client
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from credit_scoring_client.errors import InvalidRequest, UnexpectedAnswer
from pyarrow import ipc
from starlette.responses import JSONResponse, Response

from tests.client.examples import decided, problem

ARROW = "application/vnd.apache.arrow.stream"
_OFFSETS = b"\x01\0\0\0\x02\0\0\0"
SECRET = "S3CR3T-VALUE"


def stream(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def answer(rows: int, **columns: Any) -> Response:
    table = pa.table({"index": range(rows), "score": [431] * rows, **columns})
    return Response(stream(table), media_type=ARROW)


def sent(received: Any) -> pa.Table:
    return ipc.open_stream(io.BytesIO(received.content)).read_all()


def test_a_table_is_sent_as_arrow_and_answered_with_a_table(server, run):
    server.answers = [answer(2)]
    table = pa.table({"AMT_CREDIT": [1.0, None], "client_id": ["a", "b"]})
    found = run(server.url, lambda client: client.predict_table(table, request_id="r-1"))
    [received] = server.received
    assert found.to_pylist() == [{"index": 0, "score": 431}, {"index": 1, "score": 431}]
    assert (received.method, received.path) == ("POST", "/predict/batch")
    assert (received.headers["content-type"], received.headers["accept"]) == (ARROW, ARROW)
    assert (received.headers["x-request-id"], "idempotency-key" in received.headers) == ("r-1", True)
    assert sent(received).equals(table)


def test_a_frame_is_answered_with_a_frame_under_its_own_index(server, run):
    server.answers = [answer(3)]
    frame = pd.DataFrame(
        {"AMT_CREDIT": [1.0, np.nan, 3.0], "NAME_CONTRACT_TYPE": pd.Categorical(["x", "y", "x"])}, index=["p", "q", "r"]
    )
    found = run(server.url, lambda client: client.predict_table(frame))
    assert isinstance(found, pd.DataFrame)
    assert (list(found.index), list(found["score"])) == (["p", "q", "r"], [431] * 3)
    table = sent(server.received[0])
    assert table.column_names == ["AMT_CREDIT", "NAME_CONTRACT_TYPE"]
    assert table["AMT_CREDIT"].to_pylist() == [1.0, None, 3.0]
    assert table["NAME_CONTRACT_TYPE"].cast(pa.string()).to_pylist() == ["x", "y", "x"]
    assert table.schema.metadata is None


def test_a_long_table_is_sent_in_parts_each_under_an_id_and_a_key_of_its_own(server, run):
    server.answers = [answer(2), answer(2), answer(1)]
    table = pa.table({"AMT_CREDIT": [1.0, 2.0, 3.0, 4.0, 5.0]})
    found = run(server.url, lambda client: client.predict_table(table, rows=2, request_id="r"))
    assert found["index"].to_pylist() == [0, 1, 0, 1, 0]
    assert [received.headers["x-request-id"] for received in server.received] == ["r", "r-1", "r-2"]
    assert len({received.headers["idempotency-key"] for received in server.received}) == 3
    assert [sent(received)["AMT_CREDIT"].to_pylist() for received in server.received] == [[1.0, 2.0], [3.0, 4.0], [5.0]]


def test_parts_of_wide_rows_stay_below_the_size_of_a_body(server, run):
    server.answers = [answer(3), answer(3), answer(3), answer(1)]
    table = pa.table({"NAME_CONTRACT_TYPE": ["x" * (1 << 20)] * 10})
    run(server.url, lambda client: client.predict_table(table))
    assert [sent(received).num_rows for received in server.received] == [3, 3, 3, 1]


def test_a_part_is_tried_again_under_the_same_key(server, run, time):
    server.answers = [answer(1), problem(503, {"Retry-After": "1"}), answer(1)]
    run(server.url, lambda client: client.predict_table(pa.table({"A": [1, 2]}), rows=1))
    keys = [received.headers["idempotency-key"] for received in server.received]
    assert (keys[0] != keys[1], keys[1] == keys[2], len(time.pauses)) == (True, True, 1)


def test_a_refusal_ends_the_call(server, run):
    server.answers = [answer(1), problem(422, errors=[{"loc": ["columns", "A"], "msg": "Extra inputs"}])]
    with pytest.raises(InvalidRequest) as refused:
        run(server.url, lambda client: client.predict_table(pa.table({"A": [1, 2, 3]}), rows=1))
    assert [violation.loc for violation in refused.value.errors] == [("columns", "A")]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: answer(1), lambda: answer(3), lambda: answer(0), decided, lambda: JSONResponse({}),
        lambda: Response(b"", media_type=ARROW), lambda: Response(stream(pa.table({"a": [1, 2]})), media_type=ARROW),
        lambda: Response(stream(pa.table({"index": [1, 0]})), media_type=ARROW),
        lambda: Response(stream(pa.table({"index": [0, 1], "s": ["x", "y"]})).replace(_OFFSETS, b"\xff" * 8)),
    ],
    ids=["less", "more", "none", "decision", "JSON", "empty", "without index", "out of order", "damaged"],
)  # fmt: skip
def test_an_answer_that_is_not_of_these_rows_is_unexpected(server, run, wrong):
    server.answers = [wrong()]
    with pytest.raises(UnexpectedAnswer):
        run(server.url, lambda client: client.predict_table(pa.table({"A": [1, 2]})))


@pytest.mark.parametrize("given", [[{"A": 1}], {"A": [1]}, None, pd.Series([1])])
def test_what_is_no_table_is_refused_before_anything_is_sent(server, run, given):
    with pytest.raises(TypeError, match="must be a pyarrow Table or a pandas DataFrame"):
        run(server.url, lambda client: client.predict_table(given))


@pytest.mark.parametrize(("rows", "table"), [(0, pa.table({"A": [1]})), (1, pa.table({"A": pa.array([], pa.int8())}))])
def test_rows_are_at_least_one(server, run, rows, table):
    with pytest.raises(ValueError, match="at least"):
        run(server.url, lambda client: client.predict_table(table, rows=rows))


def test_a_column_of_mixed_kinds_is_named_and_no_value_is(server, run):
    frame = pd.DataFrame({"A": [1.0, 2.0], "B": [SECRET, 7.0]}, dtype=object)
    with pytest.raises(ValueError, match="columns of mixed or unknown kinds: B") as refused:
        run(server.url, lambda client: client.predict_table(frame))
    assert SECRET not in str(refused.value)


def test_without_pyarrow_it_says_what_to_install():
    code = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "from credit_scoring_client.client import Client\n"
        "try:\n    Client('http://127.0.0.1:1').predict_table(1)\n"
        "except ModuleNotFoundError as error:\n    print(error)"
    )
    home = Path(credit_scoring_client.__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", code], cwd=home, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "tables need pyarrow: pip install 'credit-scoring-client[arrow]'"
