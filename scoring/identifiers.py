"""Identifiers of applicants: a hash of each, and whether all are present and unique, in bounded memory.

The identifiers of a part are written to a file of its own, in runs that are sorted by bucket; the bucket is the first
eight bits of the hash. Equal identifiers are in one bucket, so that a few buckets of all parts are compared at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

_BUCKET_BITS = 8
_BUCKETS = 1 << _BUCKET_BITS
_RUN = 1 << 20
"""Identifiers that are sorted and written at a time."""

_AT_ONCE = 1 << 23
"""Identifiers that are compared at a time, unless one bucket has more: 64 MB of whole numbers."""

_Hashes = NDArray[np.uint64]


def hashes_of(identifiers: pa.ChunkedArray[Any]) -> _Hashes:
    """A hash of each identifier, uint64 of shape (n,), the same on every machine; 0 where one is missing.

    >>> hashes_of(pa.chunked_array([pa.array(["a", None, "a"])])).tolist()
    [12822881965974818961, 0, 12822881965974818961]
    """
    whole = pa.types.is_integer(identifiers.type)
    hashes = _of_numbers(identifiers) if whole else _of_texts(identifiers.cast(pa.large_string()))
    missing = identifiers.is_null().to_numpy()
    return np.where(missing, np.uint64(0), hashes)


def sampled(hashes: _Hashes, share: float) -> NDArray[np.bool_]:
    """Whether each hash is in the sample of this share, shape (n,); a smaller sample is a part of a larger one.

    A missing identifier always is.

    >>> sampled(np.array([0, 2**62, 2**63], dtype=np.uint64), 0.5).tolist()
    [True, True, False]
    """
    return hashes < np.uint64(share * 2.0**64) if share < 1 else np.ones(len(hashes), dtype=np.bool_)


def _of_numbers(identifiers: pa.ChunkedArray[Any]) -> _Hashes:
    return _mixed(identifiers.fill_null(0).to_numpy().astype(np.int64).view(np.uint64))


def _of_texts(identifiers: pa.ChunkedArray[Any]) -> _Hashes:
    """The sum of the bytes of each text, each with a weight of its place."""
    texts = identifiers.fill_null("").combine_chunks()
    if not len(texts):
        return np.empty(0, dtype=np.uint64)
    _, offsets, content = texts.buffers()
    ends = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    starts, lengths = ends[:-1] - ends[0], np.diff(ends)
    found = np.frombuffer(content or b"", np.uint8)[ends[0] : ends[-1]].astype(np.uint64)
    weights = _mixed(np.arange(1, 1 + lengths.max(initial=0), dtype=np.uint64))
    weighted = (found + np.uint64(1)) * weights[np.arange(len(found)) - np.repeat(starts, lengths)]
    # reduceat gives the element itself for an empty text, and wants every start to be a place of the array.
    sums = np.add.reduceat(np.append(weighted, np.uint64(0)), starts)
    return _mixed(np.where(lengths == 0, np.uint64(0), sums))


def _mixed(numbers: NDArray[np.uint64]) -> _Hashes:
    """SplitMix64: G. Steele, D. Lea, C. Flood, "Fast splittable pseudorandom number generators", 2014."""
    mixed = numbers + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


class IdentifierSpill:
    """Writes the identifiers of one part to a file. Missing ones are counted and not written."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._writer: pa.ipc.RecordBatchFileWriter | None = None
        self._held: list[pa.ChunkedArray[Any]] = []
        self._hashes: list[_Hashes] = []
        self.missing = 0
        self.runs: list[list[int]] = []
        """For each run, where its buckets end."""

    def add(self, identifiers: pa.ChunkedArray[Any], hashes: _Hashes) -> None:
        """Write the identifiers of a batch, with the hashes of all of them."""
        known = identifiers.is_valid()
        self.missing += identifiers.null_count
        self._held.append(identifiers.filter(known))
        self._hashes.append(hashes[known.to_numpy()])
        if sum(map(len, self._hashes)) >= _RUN:
            self._write_run()

    def close(self) -> None:
        """Write what is left."""
        if self._held:
            self._write_run()
        if self._writer is not None:
            self._writer.close()

    def _write_run(self) -> None:
        buckets = np.concatenate(self._hashes) >> np.uint64(64 - _BUCKET_BITS)
        order = np.argsort(buckets, kind="stable")
        values = pa.chunked_array([chunk for column in self._held for chunk in column.chunks], self._held[0].type)
        batch = pa.record_batch({"identifier": values.combine_chunks().take(pa.array(order))})
        if self._writer is None:
            self._writer = pa.ipc.new_file(self._file, batch.schema)
        self._writer.write_batch(batch)
        self.runs.append(np.searchsorted(buckets[order], np.arange(_BUCKETS), side="right").tolist())
        self._held, self._hashes = [], []


@dataclass(frozen=True, slots=True)
class SpilledIdentifiers:
    """The identifiers of one part in a file.

    Attributes
    ----------
    runs : for each run, where its buckets end
    """

    path: Path
    runs: Sequence[Sequence[int]]

    @property
    def counts(self) -> NDArray[np.int64]:
        """How many identifiers are in each bucket."""
        ends = np.array(self.runs, dtype=np.int64).reshape(-1, _BUCKETS)
        return np.asarray(np.diff(ends, axis=1, prepend=0).sum(axis=0))

    def read(self, first: int, last: int) -> Iterator[pa.Array[Any]]:
        """The identifiers of the buckets from `first` to `last`."""
        with pa.memory_map(str(self.path)) as source, pa.ipc.open_file(source) as file:
            for run, ends in enumerate(self.runs):
                start = ends[first - 1] if first else 0
                # Taken, not sliced: a slice would keep the file mapped.
                chosen = file.get_batch(run).column(0).slice(start, ends[last] - start)
                yield chosen.take(pa.array(np.arange(len(chosen))))


def count_repeated(parts: Sequence[SpilledIdentifiers], *, at_once: int = _AT_ONCE) -> int:
    """How many identifiers of all parts are repetitions of others."""
    counts = np.sum([part.counts for part in parts], axis=0, dtype=np.int64, initial=0)
    repeated = 0
    for first, last in _passes(np.broadcast_to(counts, _BUCKETS).tolist(), at_once):
        values = [chunk for part in parts if part.runs for chunk in part.read(first, last)]
        if values:
            found = pa.chunked_array(values)
            repeated += len(found) - _distinct(found)
    return repeated


def _passes(counts: Sequence[int], at_once: int) -> Iterator[tuple[int, int]]:
    """The buckets in neighbours that together have at most so many identifiers."""
    first = held = 0
    for bucket, count in enumerate(counts):
        if held and held + count > at_once:
            yield first, bucket - 1
            first, held = bucket, 0
        held += count
    yield first, len(counts) - 1


def _distinct(values: pa.ChunkedArray[Any]) -> int:
    if not pa.types.is_integer(values.type):
        return int(pc.count_distinct(values).as_py())
    # Sorting numbers takes a fifth of the time of a hash table.
    numbers = np.sort(values.to_numpy())
    return int(np.count_nonzero(np.diff(numbers))) + bool(len(numbers))
