"""Encode applications and feature vectors as JSON values, tables as Arrow streams, and read the tables that answer."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar

from credit_scoring_client.answer import Reply, Request, accepted, reply_id, unexpected

if TYPE_CHECKING:
    import pyarrow as pa

Application = Mapping[str, object]
"""Value of each column: a number, text, bool, None, or a numpy scalar of these; None, NaN, and pandas' NA and NaT mean
missing. A Decimal is sent as the nearest float."""

History = Mapping[str, Iterable[Application]]
"""What is known of a client before the application: the rows of each table."""

Identified = tuple[str | None, Application]
"""A client_id and its application."""

_PANDAS_MISSING = ("NAType", "NaTType")

JsonValue = str | int | float | bool | None


def encoded_application(application: object, where: str = "") -> dict[str, JsonValue]:
    """Return the JSON value of each column; None where missing. `where` precedes the column's name in errors.

    Raises
    ------
    ValueError
        A value is infinite.
    TypeError
        `application` is no mapping, or a value is neither number, text, bool nor None.

    Examples
    --------
    >>> encoded_application({"AMT_CREDIT": 4e5, "OWN_CAR_AGE": float("nan")})
    {'AMT_CREDIT': 400000.0, 'OWN_CAR_AGE': None}
    """
    if not isinstance(application, Mapping):
        raise TypeError(f"{where}application must be a mapping of columns to values")
    return {column: _encoded(value, f"{where}{column}") for column, value in application.items()}


def encoded_features(features: Iterable[object]) -> list[JsonValue]:
    """Return the JSON values of a feature vector; errors as in `encoded_application`.

    >>> encoded_features([1, float("-inf")])
    Traceback (most recent call last):
    ValueError: features[1] is infinite; a number must be finite, or NaN where it is missing
    """
    return [_encoded(value, f"features[{position}]") for position, value in enumerate(features)]


def encoded_client_id(client_id: object, where: str = "") -> dict[str, str]:
    """Return the client_id as part of a body, which is empty for None; TypeError if it is not text."""
    if client_id is None:
        return {}
    if not isinstance(client_id, str):
        raise TypeError(f"{where}client_id must be text or None")
    return {"client_id": client_id}


def encoded_item(application: object, client_id: object, where: str = "") -> dict[str, object]:
    """Return one application with its client_id, which is left out if it is None."""
    return {**encoded_client_id(client_id, where), "application": encoded_application(application, where)}


def encoded_history(history: object) -> dict[str, object]:
    """Return the history as part of a body, which is empty for None; errors name the table and the row.

    >>> encoded_history({"bureau": [{"DAYS_CREDIT": -30, "AMT_CREDIT_SUM": float("nan")}]})
    {'history': {'bureau': [{'DAYS_CREDIT': -30, 'AMT_CREDIT_SUM': None}]}}
    """
    if history is None:
        return {}
    if not isinstance(history, Mapping):
        raise TypeError("history must be a mapping of tables to their rows")
    return {"history": {table: [*_encoded_rows(table, rows)] for table, rows in history.items()}}


def _encoded_rows(table: str, rows: Iterable[object]) -> Iterator[dict[str, JsonValue]]:
    for position, row in enumerate(rows):
        where = f"history.{table}[{position}]."
        if not isinstance(row, Mapping):
            raise TypeError(f"{where.rstrip('.')} must be a mapping of columns to values")
        yield encoded_application(row, where)


def encoded_items(applications: Iterable[Application | Identified]) -> list[dict[str, object]]:
    """Return the items of a batch, in order; errors name the item's position, else as in `encoded_application`."""
    return [_encoded_item(item, f"applications[{position}].") for position, item in enumerate(applications)]


def _encoded_item(item: Application | Identified, where: str) -> dict[str, object]:
    match item:
        case Mapping():
            return encoded_item(item, None, where)
        case (client_id, application):
            return encoded_item(application, client_id, where)
    raise TypeError(f"{where.rstrip('.')} must be a mapping of columns or a pair (client_id, mapping)")


def _encoded(value: object, name: str) -> JsonValue:
    plain = _plain(value)
    if isinstance(plain, float) and math.isinf(plain):
        raise ValueError(f"{name} is infinite; a number must be finite, or NaN where it is missing")
    if isinstance(plain, float) and math.isnan(plain):
        return None
    if plain is None or isinstance(plain, str | int | float):
        return plain
    raise TypeError(f"{name} must be a number, text, bool or None")


def _plain(value: object) -> object:
    if isinstance(value, Decimal):
        return float(value)
    # Found by name, since pandas need not be installed. `NA != NA` is NA, so the usual test for NaN fails on it.
    if type(value).__name__ in _PANDAS_MISSING and type(value).__module__.startswith("pandas."):
        return None
    # Arrays have .item() too, but also __len__; numpy's masked constant is one and would become a silent 0.
    item = getattr(value, "item", None)
    return item() if callable(item) and not hasattr(value, "__len__") else value


ARROW = "application/vnd.apache.arrow.stream"

Frame = TypeVar("Frame")
"""A pyarrow Table or a pandas DataFrame."""

DEFAULT_ROWS = 1_000
"""Rows of one request."""
_MOST_BYTES = 4 << 20
"""Of the values of one request; by default a server takes bodies of 8 MiB."""


@dataclass(frozen=True, slots=True)
class SentTable:
    """A table of applications, a row each.

    Attributes
    ----------
    table : what is sent
    index : of the frame that was given; None where it was no frame
    """

    table: pa.Table
    index: Any = None

    @classmethod
    def of(cls, given: object) -> SentTable:
        """Take a pyarrow Table, or a pandas DataFrame without its index.

        ModuleNotFoundError without pyarrow; TypeError for anything else; ValueError for no rows, or columns that Arrow
        cannot hold.
        """
        pa = _pyarrow()
        # By name: pandas need not be installed.
        is_frame = type(given).__name__ == "DataFrame" and type(given).__module__.partition(".")[0] == "pandas"
        if not (is_frame or isinstance(given, pa.Table)):
            raise TypeError("table must be a pyarrow Table or a pandas DataFrame")
        sent = cls(_of_frame(given), given.index) if is_frame else cls(given)  # type: ignore[attr-defined]
        if not sent.table.num_rows:
            raise ValueError("table must have at least one row")
        return sent

    def bodies(self, rows: int) -> Iterator[tuple[int, bytes]]:
        """Yield the number of rows and the Arrow stream of each request; ValueError if `rows` is below 1."""
        if rows < 1:
            raise ValueError("rows must be at least 1")
        each = max(1, self.table.nbytes // self.table.num_rows)
        most = max(1, min(rows, _MOST_BYTES // each))
        for first in range(0, self.table.num_rows, most):
            part = self.table.slice(first, most)
            yield part.num_rows, _stream(part)

    def answered(self, parts: list[pa.Table]) -> Any:
        """Return the answers as the kind of table that was given, a frame under the index of its rows."""
        table = _pyarrow().concat_tables(parts)
        return table if self.index is None else table.to_pandas().set_axis(self.index, axis="index")


def _pyarrow() -> Any:
    try:
        import pyarrow as pa
    except ModuleNotFoundError:
        message = "tables need pyarrow: pip install 'credit-scoring-client[arrow]'"
        raise ModuleNotFoundError(message, name="pyarrow") from None
    return pa


def _of_frame(frame: Any) -> pa.Table:
    pa = _pyarrow()
    try:
        return pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
    except (pa.ArrowException, TypeError) as error:
        # Arrow quotes the value that it cannot hold, and names the column only then.
        columns = [str(name) for name in frame.columns if not _holds_one_kind(frame[name])]
        raise ValueError(f"columns of mixed or unknown kinds: {', '.join(columns) or type(error).__name__}") from None


def _holds_one_kind(column: Any) -> bool:
    pa = _pyarrow()
    try:
        pa.Array.from_pandas(column)
    except (pa.ArrowException, TypeError):
        return False
    return True


def _stream(table: pa.Table) -> bytes:
    from pyarrow import ipc

    sink = _pyarrow().BufferOutputStream()
    with ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table.combine_chunks())
    body: bytes = sink.getvalue().to_pybytes()
    return body


def table_in(reply: Reply, request: Request, size: int) -> pa.Table:
    """Read the table that answers a request of `size` rows; UnexpectedAnswer for anything else."""
    from pyarrow import ipc

    response, pa = accepted(reply, request), _pyarrow()
    try:
        with ipc.open_stream(io.BytesIO(response.content)) as stream:
            table = stream.read_all()
        table.validate(full=True)
    except (pa.ArrowException, OSError):
        raise unexpected("the body is not an Arrow stream", response.status_code, reply_id(response, request)) from None
    # Rows are matched to applicants by position.
    if "index" not in table.column_names or table["index"].to_pylist() != list(range(size)):
        fault = f"the table is not of the {size} rows that were sent"
        raise unexpected(fault, response.status_code, reply_id(response, request))
    return table
