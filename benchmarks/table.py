"""A comparison as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from benchmarks.bars import Verdict
from benchmarks.book import BookRecord, Figure
from benchmarks.generators import Generators
from benchmarks.results import Comparison, Load, PeerResult, Round, ServedModel, Soak

_NOTHING = "-"


def document(comparison: Comparison, soak: Soak | None, verdicts: Sequence[Verdict], chart: str) -> str:
    """What a reader needs: the machine and the model, the chart, the tables, the bars."""
    parts = [
        _circumstances(comparison),
        f"![CPU time and throughput of every peer]({chart})",
        single_requests(by_cpu(comparison.peers)),
        batches_and_start(comparison.peers),
        bars(verdicts),
        "" if soak is None else _soaked(soak),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def variants(comparison: Comparison) -> str:
    """The service under other settings: single requests."""
    return f"{_circumstances(comparison)}\n\n{single_requests(_answering(comparison.peers))}\n"


def generators(found: Generators) -> str:
    """What two load generators saw of the same server."""
    head = [
        "load by", "connections", "requests/s", "p50, ms", "p99, ms", "requests under way",
        "CPU of the server per request, µs", "CPU of the generator per request, µs",
    ]  # fmt: skip
    rows = [
        [
            f"`{seen.generator}`", str(seen.connections), number(seen.throughput), number(seen.p50_ms),
            number(seen.p99_ms), number(seen.concurrency), number(seen.server_us), number(seen.generator_us),
        ]
        for seen in found.seen
    ]  # fmt: skip
    said = f"Measured on {found.measured_at[:10]} by `{found.command}`: one application again and again, bare ASGI."
    return f"{said}\n\n{_table(head, rows)}\n"


def book(record: BookRecord, verdicts: Sequence[Verdict]) -> str:
    """How long a whole book takes."""
    head = ["what", "applications", "seconds", "µs for one", "CPU for one, µs", "memory of all processes, MB"]
    said = (
        f"Measured on {record.measured_at[:10]} by `{record.command}`: {record.machine.processor},"
        f" {record.machine.cores} cores. The model has {record.model.trees:,} trees of at most {record.model.leaves}"
        f" leaves; {record.declined:.1%} of the applications are declined and get reasons."
    )
    figures = [
        *record.jobs, record.without_reasons, record.pandas_with_reasons, record.pandas, record.booster,
        *record.one_thread,
    ]  # fmt: skip
    spent = ", ".join(f"{name} {number(us)}" for name, us in record.stages_us.items())
    stages = f"Processor time of the job by stage, µs for one application: {spent}."
    return f"{said}\n\n{_table(head, map(_figure, figures))}\n\n{stages}\n\n{bars(verdicts)}\n"


def look_ups(found: Mapping[str, Any]) -> str:
    """What look-ups and histories in requests cost, of the results of `python -m benchmarks look-ups`."""
    timings = [
        [one["what"], f"{one['calls']:,}", number(one["median_us"]), number(one["p99_us"])] for one in found["timings"]
    ]
    return f"{_measured(found)}\n\n{_table(['call', 'calls', 'median, µs', 'p99, µs'], timings)}\n"


def materialized(found: Mapping[str, Any]) -> str:
    """How long histories take, of the results of `python -m benchmarks materialize`."""
    head = ["clients", "rows", "what", "seconds", "processor time, s", "peak memory, MB"]
    rows = [
        [
            f"{one['clients']:,}", f"{one['rows']:,}", one["what"], number(one["seconds"]),
            number(one["cpu_seconds"]), number(one["peak_mb"]),
        ]
        for one in found["rolled_up"]
    ]  # fmt: skip
    return f"{_measured(found)}\n\n{_table(head, rows)}\n"


def _measured(found: Mapping[str, Any]) -> str:
    return (
        f"Measured on {found['measured_at'][:10]} by `{found['command']}`:"
        f" {found['cores']} cores, load average {found['load_average']} at the end."
    )


def _figure(figure: Figure) -> list[str]:
    peak = number(figure.peak_mb) if figure.peak_mb else _NOTHING
    return [figure.what, f"{figure.rows:,}", number(figure.seconds), number(figure.us), number(figure.cpu_us), peak]


def by_cpu(peers: Iterable[PeerResult]) -> list[PeerResult]:
    """The peers that answer requests, the cheapest first."""
    return sorted(_answering(peers), key=lambda peer: median(measured.closed[0].cpu_us for measured in peer.rounds))


def _answering(peers: Iterable[PeerResult]) -> list[PeerResult]:
    return [peer for peer in peers if peer.rounds[0].closed]


def single_requests(peers: Sequence[PeerResult]) -> str:
    """One application in one request."""
    if not peers:
        return ""
    at = " / ".join(str(load.connections) for load in peers[0].rounds[0].closed)
    head = [
        "served by",
        f"CPU per request at {at} connections, µs",
        f"requests/s at {at}",
        f"p50 at {at}, ms",
        f"p99 at {at}, ms",
        "open loop: p99, ms (arrivals/s)",
        "errors",
    ]
    return _table(head, [_single(peer) for peer in peers])


def batches_and_start(peers: Sequence[PeerResult]) -> str:
    """Many applications in one request, time until ready, memory."""
    sizes, tables = _sizes(peers, lambda measured: measured.batches), _sizes(peers, lambda measured: measured.tables)
    head = [
        "served by",
        *(f"batch of {size:,}: p50, ms (CPU per application, µs)" for size in sizes),
        *(f"Arrow table of {size:,}: the same" for size in tables),
        "ready, s",
        "first decision, s",
        "memory, MB: all processes (the largest)",
    ]
    return _table(head, [_batches_and_start(peer, len(sizes), len(tables)) for peer in peers])


def _sizes(peers: Sequence[PeerResult], loads: Callable[[Round], Sequence[Load]]) -> list[int]:
    """How many applications are in each batch of the peers that were sent any."""
    return next(([load.applications for load in loads(p.rounds[0])] for p in peers if loads(p.rounds[0])), [])


def bars(verdicts: Sequence[Verdict]) -> str:
    """The bars, and whether they are met."""
    return _table(["of this service", "measured", "bar", "aim", "met"], [_verdict(verdict) for verdict in verdicts])


def number(value: float) -> str:
    """A figure in about three digits.

    >>> number(0.03333), number(1.5), number(12.34), number(48452.0), number(0)
    ('0.033', '1.50', '12.3', '48,452', '0')
    """
    if abs(value) >= 100 or value == 0:
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.3f}"


def _circumstances(comparison: Comparison) -> str:
    machine, model, rounds = comparison.machine, comparison.model, len(comparison.peers[0].rounds)
    sentences = [
        f"Measured on {comparison.measured_at[:10]} by `{comparison.command}`: {machine.processor},",
        f"{machine.cores} cores, {machine.system}, Python {machine.python}, {machine.load_generator}.",
        f"{_asked(model)} of {model.application_fields} columns ({model.application_bytes:,} bytes);",
        f"the model has {model.trees:,} trees of at most {model.leaves} leaves; every server has one worker.",
        f"Figures are medians over {rounds} interleaved rounds; [from, to] are the lowest and the highest round.",
        _littles_law(comparison),
        *_generator(comparison),
    ]
    return "\n".join(sentences)


def _asked(model: ServedModel) -> str:
    if model.applications == 1:
        return "The request is one application"
    return f"A request is one of {model.applications:,} different applications, in turn,"


def _generator(comparison: Comparison) -> list[str]:
    """What the load generator took, and how late it was; nothing where that was not measured."""
    windows = [load for peer in comparison.peers for measured in peer.rounds for load in _loads(measured)]
    most = max((load.generator_cores for load in windows), default=0.0)
    held, late = sum(load.held_back for load in windows), max((load.late_ms for load in windows), default=0.0)
    if not most:
        return []
    return [
        f"The load generator kept at most {most:.0%} of one core busy.",
        f"In the open loop {held:,} arrivals found no free connection, and 99% were sent within {number(late)} ms.",
    ]


def _littles_law(comparison: Comparison) -> str:
    """How far throughput x mean latency is from the number of connections, at most, and for whom it is too far."""
    allowed = comparison.settings["littles_law"]
    distances = {
        peer.title: max(abs(load.concurrency / load.connections - 1) for r in peer.rounds for load in r.closed)
        for peer in comparison.peers
        if peer.rounds[0].closed
    }
    far = [title for title, distance in distances.items() if distance > allowed]
    said = f"Little's law holds within {max(distances.values()):.1%} in every closed window"
    return f"Little's law is off by more than {allowed:.0%} in a window of: {'; '.join(far)}." if far else f"{said}."


def _single(peer: PeerResult) -> list[str]:
    windows = list(zip(*(measured.closed for measured in peer.rounds), strict=True))
    opened = [measured.open for measured in peer.rounds if measured.open]
    return [
        peer.title,
        " / ".join(_spread([load.cpu_us for load in loads]) for loads in windows),
        " / ".join(_spread([load.throughput for load in loads]) for loads in windows),
        " / ".join(_median([load.p50_ms for load in loads]) for loads in windows),
        " / ".join(_median([load.p99_ms for load in loads]) for loads in windows),
        f"{_median([load.p99_ms for load in opened])} ({_median([load.throughput for load in opened])})",
        f"{sum(load.errors for measured in peer.rounds for load in _loads(measured)):,}",
    ]


def _batches_and_start(peer: PeerResult, sizes: int, tables: int) -> list[str]:
    batches = _costs([measured.batches for measured in peer.rounds])
    streams = _costs([measured.tables for measured in peer.rounds])
    answered = [measured.start.answered for measured in peer.rounds if measured.start.answered is not None]
    tree = _median([measured.memory_at_start.tree for measured in peer.rounds])
    largest = _median([measured.memory_at_start.worker for measured in peer.rounds])
    return [
        peer.title,
        *(batches or [_NOTHING] * sizes),
        *(streams or [_NOTHING] * tables),
        _spread([measured.start.ready for measured in peer.rounds]),
        _median(answered) if answered else _NOTHING,
        f"{tree} ({largest})",
    ]


def _costs(rounds: Sequence[Sequence[Load]]) -> list[str]:
    """Latency and CPU of batches, one text for each size."""
    return [
        f"{_median([load.p50_ms for load in loads])} ({_median([load.cpu_us for load in loads])})"
        for loads in zip(*rounds, strict=True)
    ]


def _verdict(verdict: Verdict) -> list[str]:
    measured = _NOTHING if verdict.value is None else number(verdict.value)
    met = {None: _NOTHING, True: "yes", False: "**no**"}[verdict.met]
    return [verdict.figure, measured, number(verdict.bar.bar), number(verdict.bar.aim), met]


def _soaked(soak: Soak) -> str:
    first, last = soak.windows[0].memory_mb, soak.windows[-1].memory_mb
    return (
        f"Soak with API keys, drift counts and the decision log: {soak.requests:,} requests in"
        f" {soak.seconds / 60:,.0f} minutes, {soak.arrivals:,.0f} a second where {soak.saturation:,.0f} are the most:"
        f" {soak.errors:,} errors, p99 {number(soak.p99_ms)} ms, worker memory {first:.1f} MB after the first"
        f" window and {last:.1f} MB after the last."
    )


def _loads(measured: Round) -> list[Load]:
    return [*measured.closed, *([measured.open] if measured.open else []), *measured.batches, *measured.tables]


def _median(values: Sequence[float]) -> str:
    return number(median(values))


def _spread(values: Sequence[float]) -> str:
    if len(values) == 1:
        return number(values[0])
    return f"{_median(values)} [{number(min(values))}, {number(max(values))}]"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
