"""A whole book of generated applications, drawn by the generator chunk by chunk on several processes.

Each chunk has random numbers of its own and a range of identifiers of its own, so that the book is the same whatever
writes it. No row is made of another one: all are drawn, as those of `python -m training synthesize` are.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from configs.portfolios.home_credit.generator.application import draw_clients
from configs.portfolios.home_credit.generator.dataset import APPLICATION_TEST, Writer
from configs.portfolios.home_credit.generator.population import FIRST_CLIENT, Chunk, Split
from jobs.output import staged

_CHUNK_ROWS = 62_500
"""Applications that are drawn at once; they make a row group of the file."""


def write_book(
    folder: Path,
    *,
    rows: int,
    file_rows: int,
    seed: int,
    processes: int,
    progress: Callable[[int], object] = lambda _: None,
) -> None:
    """Write `rows` applications as Parquet files of `file_rows` into the new folder; it appears whole or not at all."""
    firsts = range(0, rows, file_rows)
    with staged(folder) as unfinished:
        write = partial(_write_file, unfinished, rows, file_rows, seed)
        with ProcessPoolExecutor(min(processes, len(firsts)), mp_context=get_context("spawn")) as workers:
            for written in workers.map(write, firsts):
                progress(written)


def _write_file(folder: Path, rows: int, file_rows: int, seed: int, first: int) -> int:
    """Write the file that begins with row `first`, and return its number of rows."""
    last = min(first + file_rows, rows)
    part = folder / f"part-{first // file_rows:05}"
    part.mkdir()
    with Writer(part, "parquet") as writer:
        for begin in range(first, last, _CHUNK_ROWS):
            ids = FIRST_CLIENT + np.arange(begin, min(begin + _CHUNK_ROWS, last), dtype=np.int64)
            clients = draw_clients(Chunk(seed, Split.TEST, begin, ids))
            writer.write(APPLICATION_TEST, {"SK_ID_CURR": clients.ids, **clients.application})
    (part / f"{APPLICATION_TEST.name}.parquet").rename(folder / f"{part.name}.parquet")
    part.rmdir()
    return last - first
