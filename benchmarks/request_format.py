"""How the same applications are written for peers with different contracts, and how their answers are read."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

Applications = Sequence[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class TableFormat:
    """How many applications are sent and answered as a table, where a peer takes one instead of JSON."""

    kind: str
    """The media type."""
    encode: Callable[[Applications], bytes]
    probabilities: Callable[[bytes], list[float]]


@dataclass(frozen=True, slots=True)
class RequestFormat:
    """The contract of a peer: where one application and many go, how they are written, where the PDs are."""

    single: str
    batch: str
    body: Callable[[Applications], Any]
    """JSON-ready, of many applications."""
    probabilities: Callable[[Any], list[float]]
    one: Callable[[dict[str, Any]], Any] | None = None
    """JSON-ready, of one application, where that differs from a batch of one."""
    decision: Callable[[Any], float] | None = None
    """The PD in the answer to one application, where that differs from the answer to a batch."""
    table: TableFormat | None = None

    def encode(self, applications: Applications) -> bytes:
        """The request body; one application is written as a single request."""
        single = len(applications) == 1 and self.one is not None
        content = self.one(applications[0]) if single and self.one else self.body(applications)
        return json.dumps(content, separators=(",", ":")).encode()

    def read(self, answer: bytes, size: int) -> list[float]:
        """The PDs that the answer to `size` applications gives."""
        content = json.loads(answer)
        return [self.decision(content)] if size == 1 and self.decision else self.probabilities(content)


def _typed(application: dict[str, Any], client_id: str = "1") -> dict[str, Any]:
    return {"client_id": client_id, "application": application}


DECISIONS = RequestFormat(
    single="/predict",
    batch="/predict/batch",
    one=_typed,
    decision=lambda answer: float(answer["probability"]),
    body=lambda applications: {"applications": [_typed(item, str(i)) for i, item in enumerate(applications)]},
    probabilities=lambda answer: [float(result["probability"]) for result in answer["results"]],
)
"""This project's contract, which the peers that are written for the comparison take over."""


def _stream(applications: Applications) -> bytes:
    rows = [{"client_id": str(i), **item} for i, item in enumerate(applications)]
    table = pa.Table.from_pylist(rows)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def _probability_column(answer: bytes) -> list[float]:
    with pa.ipc.open_stream(answer) as reader:
        return [float(value) for value in reader.read_all()["probability"].to_pylist()]


DECISIONS_AND_TABLES = replace(
    DECISIONS, table=TableFormat("application/vnd.apache.arrow.stream", _stream, _probability_column)
)
"""The contract of this service, which takes batches as Arrow streams too."""

ONE_ROUTE = RequestFormat(
    single="/predict", batch="/predict", body=DECISIONS.body, probabilities=DECISIONS.probabilities
)
"""The same for a framework with one route: a single request is a batch of one."""

RECORDS = RequestFormat(
    single="/predict",
    batch="/predict",
    body=lambda applications: {"applications": list(applications)},
    probabilities=lambda answer: [float(row["probability"]) for row in answer],
)
"""A frame as records."""

SPLIT_FRAME = RequestFormat(
    single="/invocations",
    batch="/invocations",
    body=lambda applications: {
        "dataframe_split": {"columns": list(applications[0]), "data": [list(item.values()) for item in applications]}
    },
    probabilities=lambda answer: [float(row["probability"]) for row in answer["predictions"]],
)
"""MLflow's scoring protocol."""


def _tensor(applications: Applications) -> dict[str, Any]:
    texts = [json.dumps(_typed(item, str(i)), separators=(",", ":")) for i, item in enumerate(applications)]
    return {"inputs": [{"name": "applications", "shape": [len(texts), 1], "datatype": "BYTES", "data": texts}]}


def _probability_tensor(answer: Any) -> list[float]:
    return [float(value) for output in answer["outputs"] if output["name"] == "probability" for value in output["data"]]


OPEN_INFERENCE = RequestFormat(
    single="/v2/models/credit/infer",
    batch="/v2/models/credit/infer",
    body=_tensor,
    probabilities=_probability_tensor,
)
"""The Open Inference Protocol, version 2: a tensor of JSON texts."""
