"""The whole data set, generated and written chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from scoring import OutputError, staged

from .bureau import FIRST_CREDIT, draw_bureau
from .bureau_balance import draw_bureau_balance
from .card import draw_cards
from .card_balance import draw_card_balance
from .chunk import Chunk, Split, chunks, later_clients
from .client import Clients, draw_clients, draw_target
from .errors import SynthesisError
from .instalments import draw_instalments
from .pos_cash import draw_pos_cash
from .previous import FIRST_PREVIOUS, draw_previous
from .schedule import draw_schedule
from .tables import (
    ALL,
    APPLICATION_TEST,
    APPLICATION_TRAIN,
    BUREAU,
    BUREAU_BALANCE,
    CARD_BALANCE,
    INSTALMENTS,
    POS_CASH,
    PREVIOUS,
    TRUE_PD,
    Tables,
)
from .writer import FILE_FORMATS, FileFormat, Writer

MINIMUM_CLIENTS = 100


def synthesize(
    output: Path,
    *,
    clients: int,
    seed: int,
    file_format: FileFormat = "csv",
    tables: Tables = ALL,
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
    """Writes the history files; identifiers go on from chunk to chunk."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._next_credit = FIRST_CREDIT
        self._next_previous = FIRST_PREVIOUS

    def write(self, chunk: Chunk, clients: Clients) -> None:
        """The histories of the clients of one chunk."""
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
