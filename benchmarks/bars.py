"""The bars of the service, held against one comparison and one soak."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median

from benchmarks.book import BookRecord
from benchmarks.peer import EMPTY, FASTAPI, FLOOR, ORIGINAL, PYFUNC, SERVICE
from benchmarks.results import Comparison, PeerResult, Round, Soak
from benchmarks.settings import Bar, Bars

Figure = Callable[[Round], float]


@dataclass(frozen=True, slots=True)
class Verdict:
    """A figure and its bar; `value` is None where the peers that it needs were not measured."""

    figure: str
    value: float | None
    bar: Bar

    @property
    def met(self) -> bool | None:
        """Whether the value is within the bar; None where there is no value."""
        return None if self.value is None else self.value <= self.bar.bar


def verdicts(comparison: Comparison, soak: Soak | None, bars: Bars) -> list[Verdict]:
    """Every bar with what was measured.

    Ratios are taken within a round, whose peers ran minutes apart, and the median over rounds is judged. CPU ratios are
    those at the number of connections that is worst for the service.
    """
    peers = {peer.name: peer for peer in comparison.peers}
    return [
        Verdict("CPU per request, against FastAPI with this scorer", _cpu(peers, FASTAPI.name), bars.cpu_of_fastapi),
        Verdict("CPU per request, against bare ASGI with this scorer", _cpu(peers, FLOOR.name), bars.cpu_of_floor),
        Verdict("CPU per request, against the original design", _cpu(peers, ORIGINAL.name), bars.cpu_of_original),
        Verdict("CPU per request, against stock BentoML with the pyfunc", _cpu(peers, PYFUNC.name), bars.cpu_of_pyfunc),
        Verdict("CPU per application in batches of 100, against single requests", _in_batch(peers), bars.cpu_in_batch),
        Verdict("CPU per application in Arrow tables of 1,000, µs", _own(peers, _cpu_in_table), bars.cpu_in_table_us),
        Verdict("model load, ms", _own(peers, lambda r: r.model_load_ms), bars.model_load_ms),
        Verdict("time until ready, against an empty BentoML service", _ready(peers), bars.ready_of_empty),
        Verdict("memory of the worker, against an empty BentoML service", _memory(peers), bars.memory_of_empty),
        Verdict("open-loop p99 at half of saturation, ms", _own(peers, _open_p99), bars.open_loop_p99_ms),
        Verdict("errors in the soak", None if soak is None else soak.errors, bars.soak_errors),
        Verdict("growth of memory over the soak", None if soak is None else soak.growth, bars.soak_growth),
        Verdict("p99 at the soak's end, against its start", None if soak is None else soak.p99_change, bars.soak_p99),
    ]


def book_verdicts(record: BookRecord, bars: Bars) -> list[Verdict]:
    """The bars of the whole book; times are those of a wall clock, for one application on all cores."""
    jobs, largest, plain = record.jobs, record.jobs[-1], record.without_reasons
    of_booster, of_pandas = largest.us / record.booster.us, largest.us / record.pandas_with_reasons.us
    return [
        Verdict("time for a decision, against Booster.predict alone", of_booster, bars.book_of_booster),
        Verdict("time for a decision with reasons, against pandas and scikit-learn", of_pandas, bars.book_of_pandas),
        Verdict("the same without reasons", plain.us / record.pandas.us, bars.book_of_plain_pandas),
        Verdict("memory of all processes, MB", max(job.peak_mb for job in jobs), bars.book_memory_mb),
        Verdict(
            "time for a decision in the largest book, against the next smaller one",
            largest.us / jobs[-2].us if len(jobs) > 1 else None,
            bars.book_growth,
        ),
    ]


def _cpu(peers: dict[str, PeerResult], other: str) -> float | None:
    """The median ratio of CPU per request, at the number of connections where it is largest."""
    pairs = list(_pairs(peers, other))
    if not pairs:
        return None
    windows = range(len(pairs[0][0].closed))
    return max(median(a.closed[i].cpu_us / b.closed[i].cpu_us for a, b in pairs) for i in windows)


def _ratio(peers: dict[str, PeerResult], other: str, figure: Figure) -> float | None:
    ratios = [figure(a) / figure(b) for a, b in _pairs(peers, other)]
    return median(ratios) if ratios else None


def _ready(peers: dict[str, PeerResult]) -> float | None:
    return _ratio(peers, EMPTY.name, lambda r: r.start.ready)


def _memory(peers: dict[str, PeerResult]) -> float | None:
    return _ratio(peers, EMPTY.name, lambda r: r.memory_at_start.worker)


def _in_batch(peers: dict[str, PeerResult]) -> float | None:
    """Against single requests that come one after the other: those that come together are scored together too."""
    return _own(peers, _cpu_in_batch)


def _cpu_in_batch(measured: Round) -> float | None:
    hundreds = [load for load in measured.batches if load.applications == 100]
    return hundreds[0].cpu_us / measured.closed[0].cpu_us if hundreds else None


def _cpu_in_table(measured: Round) -> float | None:
    thousands = [load for load in measured.tables if load.applications == 1_000]
    return thousands[0].cpu_us if thousands else None


def _open_p99(measured: Round) -> float | None:
    return measured.open.p99_ms if measured.open else None


def _own(peers: dict[str, PeerResult], figure: Callable[[Round], float | None]) -> float | None:
    """The median over the service's rounds."""
    rounds = peers[SERVICE.name].rounds if SERVICE.name in peers else ()
    values = [value for value in map(figure, rounds) if value is not None]
    return median(values) if values else None


def _pairs(peers: dict[str, PeerResult], other: str) -> Iterator[tuple[Round, Round]]:
    """The service's round and the other peer's, round by round."""
    if SERVICE.name in peers and other in peers:
        yield from zip(peers[SERVICE.name].rounds, peers[other].rounds, strict=True)
