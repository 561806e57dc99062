"""One application and many, in every contract."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

from benchmarks.peer import PEERS
from benchmarks.request_format import DECISIONS, DECISIONS_AND_TABLES, ONE_ROUTE, OPEN_INFERENCE, RECORDS, SPLIT_FRAME

APPLICATIONS = [{"AMT_CREDIT": 1, "NAME_CONTRACT_TYPE": "Cash loans"}, {"AMT_CREDIT": 2, "NAME_CONTRACT_TYPE": "x"}]


@pytest.mark.parametrize(
    ("requests", "size", "body"),
    [
        (DECISIONS, 1, {"client_id": "1", "application": APPLICATIONS[0]}),
        (
            DECISIONS, 2,
            {"applications": [{"client_id": str(i), "application": APPLICATIONS[i]} for i in range(2)]},
        ),
        (ONE_ROUTE, 1, {"applications": [{"client_id": "0", "application": APPLICATIONS[0]}]}),
        (RECORDS, 2, {"applications": APPLICATIONS}),
        (
            SPLIT_FRAME, 2,
            {"dataframe_split": {"columns": ["AMT_CREDIT", "NAME_CONTRACT_TYPE"],
                                 "data": [[1, "Cash loans"], [2, "x"]]}},
        ),
    ],
)  # fmt: skip
def test_a_request_carries_all_of_the_applications(requests, size, body):
    assert json.loads(requests.encode(APPLICATIONS[:size])) == body


def test_the_open_inference_protocol_carries_them_as_texts():
    (tensor,) = json.loads(OPEN_INFERENCE.encode(APPLICATIONS))["inputs"]
    assert tensor["shape"] == [2, 1]
    assert [json.loads(text)["application"] for text in tensor["data"]] == APPLICATIONS


@pytest.mark.parametrize(
    ("requests", "answer", "probabilities"),
    [
        (DECISIONS, {"probability": 0.25, "decision": "refer"}, [0.25]),
        (DECISIONS, {"results": [{"probability": 0.25}, {"probability": 0.5}]}, [0.25, 0.5]),
        (ONE_ROUTE, {"results": [{"probability": 0.25}]}, [0.25]),
        (RECORDS, [{"probability": 0.25}, {"probability": 0.5}], [0.25, 0.5]),
        (SPLIT_FRAME, {"predictions": [{"probability": 0.25}]}, [0.25]),
        (
            OPEN_INFERENCE,
            {"outputs": [{"name": "score", "data": [600]}, {"name": "probability", "data": [0.25]}]},
            [0.25],
        ),
    ],
)
def test_the_probabilities_of_an_answer_are_found(requests, answer, probabilities):
    assert requests.read(json.dumps(answer).encode(), len(probabilities)) == probabilities


def test_every_peer_has_a_name_of_its_own_and_requirements():
    assert len({peer.name for peer in PEERS}) == len(PEERS) == 10
    assert all("==" in peer.requirements.read_text() for peer in PEERS)


def test_a_table_carries_all_of_the_applications_with_their_types():
    table = DECISIONS_AND_TABLES.table
    with pa.ipc.open_stream(table.encode(APPLICATIONS)) as reader:
        read = reader.read_all()
    assert read.schema.types == [pa.string(), pa.int64(), pa.string()]
    assert read.to_pylist() == [{"client_id": str(i), **one} for i, one in enumerate(APPLICATIONS)]
    assert table.kind == "application/vnd.apache.arrow.stream"


def test_the_probabilities_of_a_table_are_found():
    answer = pa.table({"client_id": ["0", "1"], "probability": [0.25, 0.5]})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, answer.schema) as writer:
        writer.write_table(answer)
    assert DECISIONS_AND_TABLES.table.probabilities(sink.getvalue().to_pybytes()) == [0.25, 0.5]
