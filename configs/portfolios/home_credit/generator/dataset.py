"""Generates the whole data set and writes it chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from configs.portfolios.home_credit.generator.application import Clients, draw_clients, draw_target
from configs.portfolios.home_credit.generator.bureau import FIRST_CREDIT, draw_bureau, draw_bureau_balance
from configs.portfolios.home_credit.generator.cards import draw_card_balance, draw_cards
from configs.portfolios.home_credit.generator.draws import (
    APPLICATION,
    Category,
    Columns,
    Floats,
    Integers,
    SynthesisError,
)
from configs.portfolios.home_credit.generator.population import Chunk, Split, chunks, later_clients
from configs.portfolios.home_credit.generator.previous import FIRST_PREVIOUS, draw_previous
from configs.portfolios.home_credit.generator.repayment import draw_instalments, draw_pos_cash, draw_schedule
from jobs.errors import OutputError
from jobs.output import staged
from training.generation import FileFormat, Tables

ALL: Tables = "all"
"""The application files, true_pd and the six history files."""
APPLICATIONS: Tables = "applications"
"""application_train, application_test and true_pd."""


@dataclass(frozen=True, slots=True)
class DataTable:
    """One file: its name without extension, and its columns in order."""

    name: str
    columns: tuple[str, ...]


def _table(name: str, columns: str) -> DataTable:
    return DataTable(name, tuple(columns.split()))


_ID = "SK_ID_CURR"
_APPLICATION_COLUMNS = tuple(column.name for column in APPLICATION.stated)

APPLICATION_TRAIN = DataTable("application_train", (_ID, APPLICATION.target_column, *_APPLICATION_COLUMNS))
APPLICATION_TEST = DataTable("application_test", (_ID, *_APPLICATION_COLUMNS))
# Only generated data knows the true probabilities, so Kaggle's files have no such table.
TRUE_PD = DataTable("true_pd", (_ID, "TRUE_PD"))
BUREAU = _table(
    "bureau",
    """
    SK_ID_CURR SK_ID_BUREAU CREDIT_ACTIVE CREDIT_CURRENCY DAYS_CREDIT CREDIT_DAY_OVERDUE DAYS_CREDIT_ENDDATE
    DAYS_ENDDATE_FACT AMT_CREDIT_MAX_OVERDUE CNT_CREDIT_PROLONG AMT_CREDIT_SUM AMT_CREDIT_SUM_DEBT
    AMT_CREDIT_SUM_LIMIT AMT_CREDIT_SUM_OVERDUE CREDIT_TYPE DAYS_CREDIT_UPDATE AMT_ANNUITY
    """,
)
BUREAU_BALANCE = _table("bureau_balance", "SK_ID_BUREAU MONTHS_BALANCE STATUS")
PREVIOUS = _table(
    "previous_application",
    """
    SK_ID_PREV SK_ID_CURR NAME_CONTRACT_TYPE AMT_ANNUITY AMT_APPLICATION AMT_CREDIT AMT_DOWN_PAYMENT AMT_GOODS_PRICE
    WEEKDAY_APPR_PROCESS_START HOUR_APPR_PROCESS_START FLAG_LAST_APPL_PER_CONTRACT NFLAG_LAST_APPL_IN_DAY
    RATE_DOWN_PAYMENT RATE_INTEREST_PRIMARY RATE_INTEREST_PRIVILEGED NAME_CASH_LOAN_PURPOSE NAME_CONTRACT_STATUS
    DAYS_DECISION NAME_PAYMENT_TYPE CODE_REJECT_REASON NAME_TYPE_SUITE NAME_CLIENT_TYPE NAME_GOODS_CATEGORY
    NAME_PORTFOLIO NAME_PRODUCT_TYPE CHANNEL_TYPE SELLERPLACE_AREA NAME_SELLER_INDUSTRY CNT_PAYMENT NAME_YIELD_GROUP
    PRODUCT_COMBINATION DAYS_FIRST_DRAWING DAYS_FIRST_DUE DAYS_LAST_DUE_1ST_VERSION DAYS_LAST_DUE DAYS_TERMINATION
    NFLAG_INSURED_ON_APPROVAL
    """,
)
POS_CASH = _table(
    "POS_CASH_balance",
    """
    SK_ID_PREV SK_ID_CURR MONTHS_BALANCE CNT_INSTALMENT CNT_INSTALMENT_FUTURE NAME_CONTRACT_STATUS SK_DPD SK_DPD_DEF
    """,
)
# AMT_RECIVABLE is spelt so in the layout; a test holds the headers against the real files.
CARD_BALANCE = _table(
    "credit_card_balance",
    """
    SK_ID_PREV SK_ID_CURR MONTHS_BALANCE AMT_BALANCE AMT_CREDIT_LIMIT_ACTUAL AMT_DRAWINGS_ATM_CURRENT
    AMT_DRAWINGS_CURRENT AMT_DRAWINGS_OTHER_CURRENT AMT_DRAWINGS_POS_CURRENT AMT_INST_MIN_REGULARITY
    AMT_PAYMENT_CURRENT AMT_PAYMENT_TOTAL_CURRENT AMT_RECEIVABLE_PRINCIPAL AMT_RECIVABLE AMT_TOTAL_RECEIVABLE
    CNT_DRAWINGS_ATM_CURRENT CNT_DRAWINGS_CURRENT CNT_DRAWINGS_OTHER_CURRENT CNT_DRAWINGS_POS_CURRENT
    CNT_INSTALMENT_MATURE_CUM NAME_CONTRACT_STATUS SK_DPD SK_DPD_DEF
    """,
)
INSTALMENTS = _table(
    "installments_payments",
    """
    SK_ID_PREV SK_ID_CURR NUM_INSTALMENT_VERSION NUM_INSTALMENT_NUMBER DAYS_INSTALMENT DAYS_ENTRY_PAYMENT
    AMT_INSTALMENT AMT_PAYMENT
    """,
)

FILE_FORMATS = ("csv", "parquet")


class Writer:
    """Writes tables into files of one directory; the first chunk of a table opens its file."""

    def __init__(self, directory: Path, file_format: FileFormat) -> None:
        self._directory = directory
        self._format = file_format
        self._files: dict[str, pyarrow.csv.CSVWriter | pyarrow.parquet.ParquetWriter] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # A Parquet file gets its footer on closing; the stack closes every file even if one of them fails.
        self._stack.close()

    def write(self, table: DataTable, columns: Columns) -> None:
        """Append rows to the table's file, with its columns taken from `columns` in the table's order.

        SynthesisError if one of them is absent.
        """
        absent = [name for name in table.columns if name not in columns]
        if absent:
            raise SynthesisError(f"the generator makes no {', '.join(absent)}, which {table.name} declares")
        batch = pa.table({name: _to_arrow(columns[name]) for name in table.columns})
        self._file(table, batch.schema).write_table(batch)

    def _file(self, table: DataTable, schema: pa.Schema) -> pyarrow.csv.CSVWriter | pyarrow.parquet.ParquetWriter:
        if table.name not in self._files:
            path = self._directory / f"{table.name}.{self._format}"
            open_file = pyarrow.csv.CSVWriter if self._format == "csv" else pyarrow.parquet.ParquetWriter
            self._files[table.name] = self._stack.enter_context(open_file(path, schema))
        return self._files[table.name]


def _to_arrow(values: Floats | Integers | Category) -> pa.Array:
    if isinstance(values, Category):
        # `take` gives null for a null index and refuses -1, so missing codes are masked.
        levels = pa.array(values.levels, type=pa.string())
        return levels.take(pa.array(values.codes, mask=values.codes < 0))
    if values.dtype == np.float64:
        # Adding 0.0 turns -0.0 into 0.0, which CSV would show as -0; from_pandas makes NaN a null, not the text "nan".
        return pa.array(values + 0.0, from_pandas=True)
    return pa.array(values, type=pa.int64())


MINIMUM_CLIENTS = 100


def synthesize(
    output: Path,
    *,
    clients: int,
    seed: int,
    file_format: FileFormat = "csv",
    tables: Tables = "all",
    progress: Callable[[int], object] | None = None,
) -> None:
    """Write a generated data set in Kaggle's Home Credit layout into the directory `output`, or nothing at all.

    Parameters
    ----------
    output : Path
        Directory to create; it may exist if it is empty.
    clients : int
        Rows of application_train, at least 100; application_test gets 16 % as many more (see `total_clients`).
    seed : int
        Not negative. The same arguments give the same bytes, and the application rows do not depend on `tables`.
    file_format : {"csv", "parquet"}
        Extension and format of every file.
    tables : Tables
        All files, or those of the application only. true_pd (SK_ID_CURR, TRUE_PD of every client) is always written.
    progress : callable, optional
        Called with the number of clients finished since the last call; the numbers add up to `total_clients(clients)`.

    Raises
    ------
    SynthesisError
        When an argument is not as stated, or the files cannot be written; then `output` is as it was before.
    """
    _check(clients, seed, file_format)
    try:
        # Written beside `output` and moved there at the end, so that a run cut short leaves nothing half-done.
        with staged(output) as unfinished:
            _write(unfinished, clients, seed, file_format, tables, progress)
    except OutputError as error:
        raise SynthesisError(str(error)) from None


def total_clients(clients: int) -> int:
    """Clients of application_train and application_test together.

    >>> total_clients(1_000)
    1160
    """
    return clients + later_clients(clients)


def _check(clients: int, seed: int, file_format: str) -> None:
    if clients < MINIMUM_CLIENTS:
        raise SynthesisError(f"clients is {clients}, must be at least {MINIMUM_CLIENTS}")
    if seed < 0:
        raise SynthesisError(f"seed is {seed}, must not be negative")
    if file_format not in FILE_FORMATS:
        raise SynthesisError(f"file_format is '{file_format}', must be one of {', '.join(FILE_FORMATS)}")


def _write(
    directory: Path,
    clients: int,
    seed: int,
    file_format: FileFormat,
    tables: Tables,
    progress: Callable[[int], object] | None,
) -> None:
    with Writer(directory, file_format) as writer:
        histories = _Histories(writer) if tables == ALL else None
        for chunk in chunks(clients, seed):
            drawn = draw_clients(chunk)
            _write_applications(writer, chunk, drawn)
            if histories is not None:
                histories.write(chunk, drawn)
            if progress is not None:
                progress(len(chunk))


def _write_applications(writer: Writer, chunk: Chunk, clients: Clients) -> None:
    columns = {"SK_ID_CURR": clients.ids, **clients.application}
    if chunk.split is Split.TRAIN:
        writer.write(APPLICATION_TRAIN, columns | {"TARGET": draw_target(chunk, clients)})
    else:
        writer.write(APPLICATION_TEST, columns)
    writer.write(TRUE_PD, {"SK_ID_CURR": clients.ids, "TRUE_PD": clients.true_pd})


class _Histories:
    """Writes the history files; identifiers are counted on from chunk to chunk."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._next_credit = FIRST_CREDIT
        self._next_previous = FIRST_PREVIOUS

    def write(self, chunk: Chunk, clients: Clients) -> None:
        """Draw and write the histories of the clients of one chunk."""
        self._write_bureau(chunk, clients)
        self._write_previous(chunk, clients)

    def _write_bureau(self, chunk: Chunk, clients: Clients) -> None:
        bureau = draw_bureau(chunk, clients, first_id=self._next_credit)
        self._next_credit += len(bureau.ids)
        self._writer.write(BUREAU, bureau.columns)
        self._writer.write(BUREAU_BALANCE, draw_bureau_balance(chunk, clients, bureau))

    def _write_previous(self, chunk: Chunk, clients: Clients) -> None:
        previous = draw_previous(chunk, clients, first_id=self._next_previous)
        self._next_previous += len(previous.offers)
        schedule, cards = draw_schedule(chunk, clients, previous), draw_cards(chunk, clients, previous)
        self._writer.write(PREVIOUS, previous.columns)
        self._writer.write(POS_CASH, draw_pos_cash(chunk, clients, schedule))
        self._writer.write(CARD_BALANCE, draw_card_balance(chunk, clients, cards))
        self._writer.write(INSTALMENTS, draw_instalments(chunk, clients, schedule, cards))
