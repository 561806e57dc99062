"""The whole comparison: environments, the model, and rounds over all peers in a rotating order."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from benchmarks.environment import Environment, environment
from benchmarks.errors import BenchmarkError
from benchmarks.machine import this_machine
from benchmarks.measurement import Bench, measure, model_load_ms, prepare
from benchmarks.peer import SERVICE, Peer
from benchmarks.request_format import DECISIONS
from benchmarks.results import Comparison, PeerResult, Round
from benchmarks.settings import BenchmarkSettings
from benchmarks.store import ROOT, Store, Trained, served_model, trained
from benchmarks.workload import workload
from jobs.commandline import Progress


@dataclass(frozen=True, slots=True)
class Prepared:
    """A bench whose model is trained and whose peers can be started."""

    bench: Bench
    model: Trained
    environments: dict[str, Environment]
    provenance: dict[str, Any]
    """When, where and on what: the fields of `Recorded`."""


def compare(
    store: Store, settings: BenchmarkSettings, peers: Sequence[Peer], progress: Progress, command: str
) -> Comparison:
    """Measure all peers in every round; the order is turned by one from round to round."""
    prepared = ready(store, settings, peers, progress, command)
    rounds: dict[str, list[Round]] = {peer.name: [] for peer in peers}
    for number in range(settings.rounds):
        for peer in turned(peers, number):
            with progress.step(f"round {number + 1} of {settings.rounds}: {peer.name}"):
                rounds[peer.name].append(_round(prepared, peer, progress))
    results = [
        PeerResult(
            name=peer.name,
            title=peer.title,
            packages=prepared.environments[peer.name].packages,
            rounds=tuple(rounds[peer.name]),
        )
        for peer in peers
    ]
    return Comparison(**prepared.provenance, peers=tuple(results))


def turned(peers: Sequence[Peer], number: int) -> list[Peer]:
    """The order of a round: everyone is first once, if there are as many rounds.

    >>> turned("abc", 1)
    ['b', 'c', 'a']
    """
    turn = number % len(peers)
    return [*peers[turn:], *peers[:turn]]


def ready(
    store: Store, settings: BenchmarkSettings, peers: Sequence[Peer], progress: Progress, command: str
) -> Prepared:
    """Train the model and make the environments, as far as the store lacks them."""
    machine = this_machine()
    with progress.step("model"):
        model = trained(store, settings)
        asked = workload(store.data, model.scorer, max(settings.applications, *settings.batches))
    bodies = [DECISIONS.encode(one.applications) for one in asked.batches(1)]
    served = served_model(model, bodies, len(asked.applications[0]))
    bench = Bench(settings, store, asked, _variables(store, settings, model, served.trees, served.leaves))
    environments = {}
    for peer in peers:
        with progress.step(f"environment of {peer.name}"):
            environments[peer.name] = environment(peer.requirements, store.environments)
            prepare(bench, peer, environments[peer.name])
    provenance = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "command": command,
        "machine": machine,
        "model": served,
        "settings": settings.model_dump(mode="json"),
    }
    return Prepared(bench, model, environments, provenance)


def _round(prepared: Prepared, peer: Peer, progress: Progress) -> Round:
    """The peer's round; one that fails is begun once more, from the start."""
    try:
        measured = measure(prepared.bench, peer, prepared.environments[peer.name])
    except BenchmarkError as error:
        progress.line(f"{error}; once more")
        measured = measure(prepared.bench, peer, prepared.environments[peer.name])
    if peer.name != SERVICE.name:
        return measured
    loading = model_load_ms(prepared.bench, prepared.environments[peer.name], prepared.model.name)
    return replace(measured, model_load_ms=loading)


def _variables(store: Store, settings: BenchmarkSettings, model: Trained, trees: int, leaves: int) -> dict[str, str]:
    return {
        **store.variables,
        "ARTEFACT": str(model.artefact),
        "MODEL_URI": model.uri,
        "DATA": str(store.data),
        "TREES": str(trees),
        "LEAVES": str(leaves),
        "SEED": str(settings.seed),
        "RAY_TEMPORARY": str(store.folder / "ray"),
    }


def _commit() -> str | None:
    answer = subprocess.run(
        ["git", "rev-parse", "HEAD"],  # noqa: S607 - git is found on the path as everywhere
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return answer.stdout.strip() or None
