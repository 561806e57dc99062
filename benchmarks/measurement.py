"""One peer in one round: start, check the answers, load, stop."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
import yaml

from benchmarks.environment import Environment
from benchmarks.errors import BenchmarkError
from benchmarks.load import Arrivals, Sample, Target, closed_loop, counted, open_loop, post
from benchmarks.peer import Peer
from benchmarks.process import HOST, Server, free_port, serving
from benchmarks.request_format import RequestFormat, TableFormat
from benchmarks.results import Load, Round, Start
from benchmarks.settings import BenchmarkSettings
from benchmarks.store import ROOT, Store
from benchmarks.workload import Workload

_CHECKED = 50  # single requests whose answers are checked, besides those to batches of all applications
_FEWEST_EACH = 3  # requests of a connection, however slow the server
_MANY_EACH = 50  # so many that the one under way when a window ends does not matter
_JSON = "application/json"
_NOT_INHERITED = ("VIRTUAL_ENV", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE")
"""Variables of this process that would change a peer's: without bytecode each start would compile the sources."""
_MODEL_LOAD = """
import json, sys, time
import bentoml
from scoring.store import load_stored
from serving.runtime import without_collection
bentoml.models.list()  # imports the model store, which a service has done by then
begun = time.perf_counter()
with without_collection():  # as the service does
    load_stored(sys.argv[1])
json.dump((time.perf_counter() - begun) * 1000, sys.stdout)
"""


@dataclass(frozen=True, slots=True)
class Bench:
    """What the measurement of every peer needs."""

    settings: BenchmarkSettings
    store: Store
    workload: Workload
    variables: Mapping[str, str]
    """Environment variables that tell a peer which model to serve."""

    def process_variables(self, environment: Environment, port: int) -> dict[str, str]:
        """The variables of a peer's process: those of this process without its virtual environment, and the bench's."""
        inherited = {name: value for name, value in os.environ.items() if name not in _NOT_INHERITED}
        return {
            **inherited,
            **self.variables,
            "PATH": f"{environment.folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": str(self.settings.threads),
            "HOST": HOST,
            "PORT": str(port),
            "MLSERVER_HTTP_PORT": str(port),
            "MLSERVER_GRPC_PORT": str(port + 1),
            "MLSERVER_METRICS_PORT": str(port + 2),
        }


def prepare(bench: Bench, peer: Peer, environment: Environment) -> None:
    """Run what the peer wants run before its first start, unless that was done for this model and environment."""
    wanted = f"{bench.variables['ARTEFACT']} {environment.folder}"
    done_for = bench.store.folder / "prepared" / peer.name
    if peer.prepare is None or (done_for.exists() and done_for.read_text() == wanted):
        return
    command = [environment.program("python"), "-m", peer.prepare]
    variables = bench.process_variables(environment, 0)
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchmarkError(f"{peer.name}: preparing failed: {' '.join(done.stderr.split())[-400:]}")
    done_for.parent.mkdir(exist_ok=True)
    done_for.write_text(wanted)


def measure(bench: Bench, peer: Peer, environment: Environment) -> Round:
    """Everything about one peer, the others being stopped."""
    with started(bench, peer, environment) as server:
        if peer.requests is None:
            return Round(start=Start(ready=server.ready_seconds, answered=None), memory_at_start=server.memory())
        check(bench, peer, peer.requests, server, bench.workload.first(1))
        start = Start(ready=server.ready_seconds, answered=time.perf_counter() - server.started)
        memory = server.memory()
        check_all(bench, peer, peer.requests, server)
        loads = _Loads(bench, peer, peer.requests, server, server.cores())
        closed = tuple(loads.closed(connections) for connections in bench.settings.connections)
        return Round(
            start=start,
            memory_at_start=memory,
            closed=closed,
            open=loads.open(max(load.throughput for load in closed)),
            batches=tuple(loads.batch(size) for size in bench.settings.batches),
            tables=loads.tables(),
            memory_under_load=server.memory(),
        )


def model_load_ms(bench: Bench, environment: Environment, name: str) -> float:
    """Milliseconds that reading, verifying and preparing the stored model takes, without the imports."""
    command = [environment.program("python"), "-c", _MODEL_LOAD, name]
    variables = {**os.environ, **bench.variables, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout))


@contextmanager
def started(bench: Bench, peer: Peer, environment: Environment) -> Iterator[Server]:
    """The peer's server, ready."""
    port = free_port()
    program, *arguments = [part.format(port=port, uri=bench.variables["MODEL_URI"]) for part in peer.command]
    bench.store.logs.mkdir(exist_ok=True)
    try:
        with serving(
            [environment.program(program), *arguments],
            port=port,
            ready=peer.ready,
            environment=bench.process_variables(environment, port) | _settings(bench, peer),
            cwd=ROOT,
            log=bench.store.logs / f"{peer.name}.log",
            start_limit=bench.settings.timeouts.start,
            stop_limit=bench.settings.timeouts.stop,
        ) as server:
            yield server
    except BenchmarkError as error:
        raise BenchmarkError(f"{peer.name}: {error}") from None


def _settings(bench: Bench, peer: Peer) -> dict[str, str]:
    """The variable that names the settings of a variant."""
    if not peer.changes:
        return {}
    content = yaml.safe_load((ROOT / "configs" / "serving.yaml").read_text(encoding="utf-8"))
    for section, values in peer.changes.items():
        content[section] = content[section] | values if isinstance(values, dict) else values
    path = bench.store.folder / f"serving-{peer.name}.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return {"CREDIT_SCORING_SETTINGS": str(path)}


def check_all(bench: Bench, peer: Peer, requests: RequestFormat, server: Server) -> None:
    """BenchmarkError unless every application of the load is answered rightly in batches, and many one by one."""
    for one in bench.workload.first(_CHECKED).batches(1):
        check(bench, peer, requests, server, one)
    for size in bench.settings.batches:
        for batch in bench.workload.batches(size):
            check(bench, peer, requests, server, batch)
    for size in bench.settings.tables if requests.table else ():
        for batch in bench.workload.batches(size):
            check(bench, peer, requests, server, batch, requests.table)


def check(
    bench: Bench,
    peer: Peer,
    requests: RequestFormat,
    server: Server,
    asked: Workload,
    table: TableFormat | None = None,
) -> None:
    """BenchmarkError unless the answer has the scorer's PDs; only probabilities from a model of the peer's own."""
    size, limit = len(asked), bench.settings.timeouts.answer
    path = requests.single if size == 1 else requests.batch
    if table is None:
        answer = _post(server.port, path, requests.encode(asked.applications), limit, peer.headers)
        given = requests.read(answer, size)
    else:
        answer = _post(server.port, path, table.encode(asked.applications), limit, peer.headers, table.kind)
        given = table.probabilities(answer)
    if len(given) != size:
        raise BenchmarkError(f"{len(given)} probabilities for {size} applications")
    expected = given if peer.own_model else asked.probabilities
    wrong = sum(not (0 <= p <= 1 and abs(p - q) <= peer.tolerance) for p, q in zip(given, expected, strict=True))
    if wrong:
        raise BenchmarkError(f"{wrong} of {size} probabilities are wrong")


def target(
    bench: Bench,
    peer: Peer,
    requests: RequestFormat,
    server: Server,
    size: int = 1,
    table: TableFormat | None = None,
) -> Target:
    """The peer's requests for all applications, `size` in each, as JSON or as tables."""
    path = requests.single if size == 1 else requests.batch
    encode, kind = (table.encode, table.kind) if table else (requests.encode, _JSON)
    bodies = [encode(asked.applications) for asked in bench.workload.batches(size)]
    whole = [post(HOST, server.port, path, body, kind=kind, headers=peer.headers) for body in bodies]
    return Target(HOST, server.port, tuple(whole))


@dataclass(frozen=True, slots=True)
class _Loads:
    """The windows of load on one started peer."""

    bench: Bench
    peer: Peer
    requests: RequestFormat
    server: Server
    idle: float
    """Cores that the server keeps busy when it is asked nothing."""

    def closed(self, connections: int) -> Load:
        """A window of time; of a slow server, for which it would hold few answers, so many requests as fill it."""
        settings, limit = self.bench.settings, self.bench.settings.timeouts.window
        singles = self._target()
        first = max(settings.warm_up_requests, _FEWEST_EACH * connections)
        warm = counted(singles, connections=connections, requests=first, limit=limit)
        each = round(settings.seconds * warm.throughput / connections)
        requests = max(_FEWEST_EACH, each) * connections

        def load() -> Sample:
            if each >= _MANY_EACH:
                return closed_loop(singles, connections=connections, seconds=settings.seconds)
            return counted(singles, connections=connections, requests=requests, limit=limit)

        return self._measured(load, connections=connections)

    def open(self, saturation: float) -> Load:
        singles, chosen = self._target(), self.bench.settings.open_loop
        plan = Arrivals(chosen.saturation * saturation, self.bench.settings.seconds, chosen.connections)
        return self._measured(lambda: open_loop(singles, plan), connections=plan.connections)

    def batch(self, size: int, table: TableFormat | None = None) -> Load:
        """Batches one after the other, as many as fit into a window."""
        seconds, limit = self.bench.settings.seconds, self.bench.settings.timeouts.window
        batches = self._target(size, table)
        warm = counted(batches, connections=1, requests=_FEWEST_EACH, limit=limit)
        requests = max(_FEWEST_EACH, round(seconds * warm.throughput))
        return self._measured(
            lambda: counted(batches, connections=1, requests=requests, limit=limit), connections=1, applications=size
        )

    def tables(self) -> tuple[Load, ...]:
        """Batches as tables; none of a peer that takes none."""
        table = self.requests.table
        return tuple(self.batch(size, table) for size in self.bench.settings.tables) if table else ()

    def _target(self, size: int = 1, table: TableFormat | None = None) -> Target:
        return target(self.bench, self.peer, self.requests, self.server, size, table)

    def _measured(self, load: Callable[[], Sample], *, connections: int, applications: int = 1) -> Load:
        """The load's figures."""
        self.server.wait_until_quiet(idle=self.idle, limit=self.bench.settings.timeouts.quiet)
        before = self.server.cpu_seconds()
        sample = load()
        cpu = self.server.cpu_seconds() - before
        if cpu <= 0:
            raise BenchmarkError("a process of the server was killed under load")
        return Load(
            connections=connections,
            applications=applications,
            seconds=sample.seconds,
            requests=len(sample),
            errors=sample.failed,
            throughput=sample.throughput,
            p50_ms=sample.milliseconds(50),
            p99_ms=sample.milliseconds(99),
            longest_ms=sample.milliseconds(100),
            cpu_us=cpu * 1e6 / (len(sample) * applications),
            concurrency=sample.concurrency,
            held_back=sample.held_back,
            late_ms=sample.late_ms(99),
            generator_cores=sample.generator_cores,
        )


def _post(port: int, path: str, body: bytes, limit: float, headers: Sequence[str], kind: str = _JSON) -> bytes:
    extra = dict(header.split(": ", 1) for header in headers)
    every = {"Content-Type": kind, "Accept": kind, **extra}
    try:
        answer = httpx.post(f"http://{HOST}:{port}{path}", content=body, headers=every, timeout=limit, trust_env=False)
    except httpx.RequestError as error:
        raise BenchmarkError(f"POST {path}: no answer ({type(error).__name__})") from None
    if answer.status_code != 200:
        raise BenchmarkError(f"POST {path}: status {answer.status_code}")
    return answer.content
