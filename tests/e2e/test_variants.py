"""Challengers of a real service with two workers: in shadow, with a share of the clients, missing, and halted."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from decision_log.reader import DecisionLogReader
from scoring.artefact import Artefact
from scoring.scorer import with_conformance
from scoring.store import StoredModel, write_alias
from serving.split import variant_of
from tests.applications import applications
from tests.decision_log.models import kept
from tests.server import Server, serve_with
from tests.training.live import design
from training.live.arms import read_applicants

NAME = "contested_service"
SALT = "a-test"
KEY = "0123456789abcdef" * 4
_DEADLINE = 180.0  # a challenger gets the processor time that other tests leave


@pytest.fixture(scope="module")
def artefact(stored: StoredModel) -> Artefact:
    return stored.scorer.artefact


@pytest.fixture(scope="module")
def models(artefact: Artefact) -> Iterator[tuple[StoredModel, StoredModel]]:
    """The champion, and a stricter challenger that the alias names."""
    policy = replace(artefact.policy, refer_from=artefact.policy.refer_from / 2, refer_to=artefact.policy.cutoff)
    with ExitStack() as stack:
        challenger = stack.enter_context(kept(NAME, with_conformance(replace(artefact, policy=policy)), version="2"))
        champion = stack.enter_context(kept(NAME, artefact, version="1"))  # created last, so that it is the latest
        write_alias(NAME, "challenger", challenger.version)
        yield champion, challenger


@pytest.fixture(scope="module")
def bodies(generated: Path) -> list[dict[str, Any]]:
    """Applications with the ids of their clients."""
    chosen = applications(generated / "application_train.csv")[:60]
    return [{"client_id": str(client), "application": one} for client, one in enumerate(chosen)]


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another process does within a second or two."""
    deadline = time.monotonic() + _DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def served(folder: Path, *variants: dict[str, Any], **environment: str) -> Any:
    recording = {"DECISION_LOG_DIR": str(folder / "log"), "DECISION_LOG_KEY": KEY}
    changes = {"model": NAME, "bentoml": {"workers": 2}, "variants": list(variants), "split": {"salt": SALT}}
    return serve_with(folder, changes, recording | environment)


def counted(server: Server, name: str, **labels: str) -> float:
    """A counter, over all workers."""
    wanted = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
    text = httpx.get(f"{server.url}/metrics").text
    return sum(map(float, re.findall(rf"^credit_scoring_{name}{{{re.escape(wanted)}}} (\S+)$", text, re.MULTILINE)))


def rows(log: Path, *columns: str) -> list[tuple[Any, ...]]:
    tables = DecisionLogReader(log).tables(list(columns))
    return [row for table in tables for row in zip(*table.select(columns).to_pydict().values(), strict=True)]


def test_a_shadow_records_what_it_would_have_decided_and_changes_no_answer(
    models: tuple[StoredModel, StoredModel], bodies: list[dict[str, Any]], tmp_path: Path
) -> None:
    champion, challenger = models
    missing = {"name": "lost", "model": f"{NAME}:lost"}
    with served(tmp_path, {"model": f"{NAME}:challenger"}, missing) as server:
        with httpx.Client(base_url=server.url, timeout=600) as http:
            single = [http.post("/predict", json=body).json() for body in bodies[:20]]
            batch = http.post("/predict/batch", json={"applications": bodies[20:]}).json()["results"]
            vector = http.post("/predict/features", json={"features": [None] * len(champion.scorer.features)}).json()
            known = http.get("/model/info").json()["variants"]
        answers = [*single, *batch, vector]
        assert {one["model_version"] for one in answers} == {champion.version}
        until(lambda: counted(server, "shadow_applications_total", outcome="scored", variant="challenger") == 61)
        flips = {
            (was, now): counted(server, "shadow_decisions_total", challenger=now, champion=was, variant="challenger")
            for was in ("approve", "refer", "decline")
            for now in ("approve", "refer", "decline")
        }
        assert counted(server, "variant_state", state="missing", variant="lost") > 0
        assert "the challenger lost is missing: " in server.logged
    assert [(one["name"], one["version"], one["share"], one["state"]) for one in known] == [
        ("champion", champion.version, 1.0, "decides"),
        ("challenger", challenger.version, 0.0, "shadow"),
        ("lost", None, 0.0, "missing"),
    ]
    log, joined = tmp_path / "log", ("request_id", "index")
    decided = {row[:2]: row[2:] for row in rows(log, *joined, "variant", "client", "decision", "margin")}
    shadow = {row[:2]: row[2:] for row in rows(log / "shadow", *joined, "variant", "client", "decision", "margin")}
    assert decided.keys() == shadow.keys()
    assert len(decided) == 61
    assert {row[0] for row in decided.values()} == {"champion"}
    assert {row[0] for row in shadow.values()} == {"challenger"}
    for key, (_, client, _, margin) in decided.items():
        assert (shadow[key][1], shadow[key][3]) == (client, margin)
    found = dict.fromkeys(flips, 0)
    for key, (_, _, decision, _) in decided.items():
        found[decision, shadow[key][2]] += 1
    assert flips == found
    assert sum(count for (was, now), count in found.items() if was != now) > 0


def test_a_split_is_sticky_across_workers_routes_and_restarts(
    models: tuple[StoredModel, StoredModel], bodies: list[dict[str, Any]], tmp_path: Path
) -> None:
    champion, challenger = models
    versions = {"champion": champion.version, "challenger": challenger.version}
    expected = [versions[variant_of(body["client_id"], {"challenger": 0.5}, SALT)] for body in bodies]
    assert 15 < expected.count(challenger.version) < 45
    for _ in range(2):
        with (
            served(tmp_path, {"model": f"{NAME}:challenger", "share": 0.5}) as server,
            httpx.Client(base_url=server.url, timeout=600) as http,
        ):
            single = [http.post("/predict", json=body, headers={"Connection": "close"}).json() for body in bodies]
            batch = http.post("/predict/batch", json={"applications": bodies}).json()
            explained = [http.post("/explain", json=body).json() for body in bodies[:10]]
            unnamed = http.post("/predict", json={"application": bodies[0]["application"]}).json()
        assert [one["model_version"] for one in single] == expected
        assert [one["model_version"] for one in batch["results"]] == expected
        assert [one["model_version"] for one in explained] == expected[:10]
        assert (batch["model_version"], unnamed["model_version"]) == (champion.version, champion.version)
        thresholds = {one["model_version"]: one["threshold"] for one in batch["results"]}
        assert thresholds == {one.version: one.scorer.artefact.policy.cutoff for one in models}
    by_variant = set(rows(tmp_path / "log", "variant", "model_version"))
    assert by_variant == set(versions.items())
    assert len(rows(tmp_path / "log", "variant")) == 2 * (60 + 60 + 10 + 1)
    seen = read_applicants(DecisionLogReader(tmp_path / "log"), design())  # as a live test reads them
    assert seen.arm.tolist().count(1) == expected.count(challenger.version)
    assert (len(seen), seen.crossed, seen.repeated, seen.nameless) == (60, 0, 2 * (60 + 60 + 10) - 60, 2)


def test_a_halt_file_returns_every_client_to_the_champion_in_both_workers(
    models: tuple[StoredModel, StoredModel], bodies: list[dict[str, Any]], tmp_path: Path
) -> None:
    champion, challenger = models
    halt = tmp_path / "halt"
    [body] = [one for one in bodies if variant_of(one["client_id"], {"challenger": 0.5}, SALT) != "champion"][:1]

    def versions(server: Server) -> set[str]:
        """Of the answers on eight connections, which come to both workers."""
        return {httpx.post(f"{server.url}/predict", json=body).json()["model_version"] for _ in range(8)}

    variant = {"model": f"{NAME}:challenger", "share": 0.5}
    with served(tmp_path, variant, CREDIT_SCORING_HALT_FILE=str(halt)) as server:
        assert versions(server) == {challenger.version}
        halt.write_text("an alarm\n")
        until(lambda: versions(server) == {champion.version})
        until(lambda: counted(server, "variant_halted", reason="halt_file", variant="challenger") == 1)
        assert httpx.get(f"{server.url}/model/info").json()["variants"][1]["state"] == "halted"
        halt.write_text("")
        until(lambda: versions(server) == {challenger.version})
