"""The model of the application alone, which decides where no history of the client is known."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from prometheus_client import CollectorRegistry

from decision_log.format import APPLICATION_ONLY, CHAMPION
from decision_log.reader import DecisionLogReader
from decision_log.replay import replay
from features.errors import FeatureError
from features.store import HistorySource
from scoring.artefact import Artefact
from scoring.errors import ArtefactError
from scoring.scorer import with_conformance
from scoring.store import StoredModel
from serving.direct import Replies
from serving.engine import DecisionEngine
from serving.pages import model_info
from serving.schemas import ModelInfo, Requests, VariantInfo
from serving.settings import ServingSettings, VariantSettings
from serving.split import described, variant_of
from serving.variants import Variant, load_application_only
from tests.decision_log.models import kept
from tests.features.histories import FOLDER, LENDER
from tests.portfolios.test_portfolio import artefact_of
from tests.scoring.history_models import model, second, second_artefact
from tests.serving.histories import ARROW, INCOME, NOW, Asked, Services, fill, history
from tests.serving.tables import arrow
from tests.serving.test_engine import SERVING
from tests.serving.test_variants import broken

SOURCES = ["store", "missing", "store", "missing", "store"]
CLIENTS = ["anna", "nobody", "ben", None, "cleo"]


def batch() -> dict[str, Any]:
    items = [{"application": INCOME} | ({} if client is None else {"client_id": client}) for client in CLIENTS]
    return {"applications": items}


def by_history(sources: list[str]) -> list[tuple[str, str, float]]:
    """Source, version and threshold of decisions whose histories come from these places."""
    models = {"store": model(), "missing": second()}
    return [(one, models[one].version, models[one].scorer.artefact.policy.cutoff) for one in sources]


def told(answers: list[dict[str, Any]]) -> list[tuple[str, str, float]]:
    return [(one["history"], one["model_version"], one["threshold"]) for one in answers]


def recorded(asked: Asked) -> list[tuple[str, str, str]]:
    """Variant, version and source of the records, in no order."""
    names = ["variant", "model_version", "history"]
    tables = DecisionLogReader(asked.service.folder).tables(names)
    return sorted(row for table in tables for row in zip(*table.select(names).to_pydict().values(), strict=True))


def expected_records(sources: list[str]) -> list[tuple[str, str, str]]:
    variants = {"store": (CHAMPION, model().version), "missing": (APPLICATION_ONLY, second().version)}
    return sorted((*variants[one], one) for one in sources)


@pytest.mark.parametrize("path", ["/predict", "/explain"])
def test_it_decides_on_a_single_application_without_a_history(serve: Services, store: str, path: str) -> None:
    asked = serve(store, application_only=second())
    bodies = batch()["applications"]
    answers = [asked.post(path, body).json() for body in bodies]
    assert told(answers) == by_history(SOURCES)
    columns = Requests(LENDER).applications.plain([INCOME])[0]
    assert answers[1]["probability"] == second().scorer.score(columns).probability[0]
    assert recorded(asked) == expected_records(SOURCES)


def test_what_it_decided_is_replayed_by_its_own_model(serve: Services, store: str) -> None:
    asked = serve(store, application_only=second())
    asked.post("/predict/batch", batch())
    with kept("lender", second_artefact(), version="2"), kept("lender", artefact_of(FOLDER), version="1"):
        found = replay(DecisionLogReader(asked.service.folder))
    assert (found.replayed, found.different) == (len(CLIENTS), 0)


@pytest.mark.parametrize("source", ["stale", "unavailable"])
def test_a_history_that_cannot_be_used_is_none(serve: Services, tmp_path: Path, source: str) -> None:
    address = f"sqlite:///{tmp_path}/features.sqlite"
    if source == "stale":
        fill(address, tmp_path, NOW.replace(year=2025))
    answer = serve(address, application_only=second()).predict(client_id="anna").json()
    assert (answer["history"], answer["model_version"]) == (source, second().version)


def test_in_a_batch_it_decides_on_those_without_a_history(serve: Services, store: str) -> None:
    asked = serve(store, application_only=second())
    answer = asked.post("/predict/batch", batch()).json()
    assert told(answer["results"]) == by_history(SOURCES)
    assert answer["model_version"] == model().version
    alone = [asked.post("/predict", body).json()["probability"] for body in batch()["applications"]]
    assert [one["probability"] for one in answer["results"]] == alone
    assert recorded(asked) == expected_records(SOURCES * 2)


def test_in_a_table_it_decides_on_those_without_a_history(serve: Services, store: str) -> None:
    asked = serve(store, application_only=second())
    table = pa.table({"client_id": CLIENTS, "income": [2000.0] * 5})
    answer = asked.post("/predict/batch", arrow(table), ARROW)
    assert told(answer.json()["results"]) == by_history(SOURCES)


def test_a_batch_of_nobodys_history_is_its_own(serve: Services) -> None:
    asked = serve(application_only=second())
    results = asked.post("/predict/batch", batch()).json()["results"]
    assert told(results) == by_history(["missing"] * 5)


def test_a_history_in_the_request_leaves_the_decision_to_the_champion(serve: Services) -> None:
    answer = serve(application_only=second()).predict(history=history("anna")).json()
    assert told([answer]) == [("request", model().version, model().scorer.artefact.policy.cutoff)]


def test_a_row_of_the_champions_matrix_is_the_champions(serve: Services) -> None:
    asked = serve(application_only=second())
    answer = asked.post("/predict/features", {"features": [None] * len(model().scorer.features)}).json()
    assert answer["model_version"] == model().version


def test_it_answers_directly_too(serve: Services, store: str) -> None:
    begin = serve(store, application_only=second()).service.engine.routes["/predict"].direct
    assert begin is not None

    async def run() -> list[Replies]:
        answers: list[asyncio.Future[Replies]] = [asyncio.get_running_loop().create_future() for _ in CLIENTS]
        for body, answer in zip(batch()["applications"], answers, strict=True):
            begin(json.dumps(body).encode(), "r", answer)
        return await asyncio.gather(*answers)

    assert told([json.loads(reply) for [reply] in asyncio.run(run())]) == by_history(SOURCES)


def test_one_that_has_to_be_waited_for_sends_requests_the_long_way() -> None:
    apart = Variant(APPLICATION_ONLY, second(), SERVING, lambda *_: None, apart=True)
    engine = DecisionEngine(
        model(), Requests(LENDER), SERVING, lambda *_: None, application_only=apart, registry=CollectorRegistry()
    )  # fmt: skip
    assert engine.routes["/predict"].direct is None
    engine.close()


@pytest.mark.parametrize("path", ["/predict", "/explain"])
def test_nobody_stands_in_for_it(serve: Services, path: str) -> None:
    asked = serve(application_only=StoredModel("lender", "2", broken(second_artefact())))
    assert asked.post(path, {"application": INCOME}).status_code == 500
    assert asked.post("/predict/batch", batch()).status_code == 500
    assert recorded(asked) == []


def test_it_goes_before_a_challenger(serve: Services, store: str) -> None:
    histories = serve(store).service.engine._histories
    share = {"name": "challenger", "model": "m", "share": 0.5}
    other = StoredModel("lender", f"3-{model().scorer.artefact.digest[:32]}", model().scorer)
    registry = CollectorRegistry()
    engine = DecisionEngine(
        model(), Requests(LENDER), SERVING, lambda *_: None, registry=registry, histories=histories,
        application_only=Variant(APPLICATION_ONLY, second(), SERVING, lambda *_: None),
        challengers=[
            (VariantSettings(**share), Variant("challenger", other, SERVING, lambda *_: None, apart=True)),
        ],
    )  # fmt: skip
    theirs = {client: variant_of(client, {"challenger": 0.5}, SERVING.split.salt) for client in ("anna", "ben", "cleo")}
    unknown = next(str(n) for n in range(99) if variant_of(str(n), {"challenger": 0.5}, SERVING.split.salt) != CHAMPION)
    versions = {CHAMPION: model().version, "challenger": other.version}
    requests = [
        Requests(LENDER).predict.model_validate({"application": INCOME, "client_id": client})
        for client in (*theirs, unknown)
    ]
    expected = [*(versions[name] for name in theirs.values()), second().version]
    assert set(theirs.values()) == {CHAMPION, "challenger"}
    single = [asyncio.run(engine.predict(request))["model_version"] for request in requests]
    results = asyncio.run(engine.predict_batch(requests))["results"]
    assert (single, [one["model_version"] for one in results]) == (expected, expected)
    labels = {"variant": APPLICATION_ONLY, "outcome": "decided"}
    assert registry.get_sample_value("credit_scoring_split_applications_total", labels) == 2
    assert engine.split.of(unknown, history=HistorySource.STORE).name == "challenger"
    for variant in engine.split.variants:
        variant.close()


def test_model_info_tells_of_it_and_of_the_histories_that_the_champion_reads(serve: Services) -> None:
    split = serve(application_only=second()).service.engine.split
    variants = described([], split)
    info = ModelInfo.model_validate({**model_info(model()), "variants": variants, "policy": {}})
    assert info.histories == ["credits"]
    assert model_info(second())["histories"] == []
    digest = second_artefact().digest
    assert info.variants[1] == VariantInfo(
        name=APPLICATION_ONLY, model="lender", version=second().version, digest=digest, share=0, state="decides"
    )
    assert [one.name for one in info.variants] == [CHAMPION, APPLICATION_ONLY]


def settings(**histories: Any) -> ServingSettings:
    written = SERVING.model_dump(mode="json")
    return ServingSettings.model_validate(written | {"histories": written["histories"] | histories})


CHOSEN: dict[str, Any] = {"without": APPLICATION_ONLY, "model": "lender:application_only"}


@pytest.mark.parametrize("wrong", [{"without": APPLICATION_ONLY}, {"model": "lender"}, CHOSEN | {"without": "refuse"}])
def test_a_model_is_named_where_it_is_needed_and_nowhere_else(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="without: application_only needs a model, and nothing else reads it"):
        settings(**wrong)


def test_no_challenger_has_its_name() -> None:
    variants = {"variants": [{"name": APPLICATION_ONLY, "model": "m"}]}
    with pytest.raises(ValueError, match="other than champion and application_only"):
        ServingSettings.model_validate(SERVING.model_dump(mode="json") | variants)


def test_it_is_loaded_where_the_champion_reads_histories() -> None:
    with kept("application_alone", second_artefact()) as alone:
        chosen = settings(**CHOSEN | {"model": "application_alone:latest"})
        loaded = load_application_only(chosen, model())
        assert loaded is not None
        assert loaded.version == alone.version
        assert load_application_only(chosen, second()) is None
        assert load_application_only(settings(), model()) is None


def without_reasons() -> Artefact:
    return with_conformance(replace(second_artefact(), reasons=None))


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: artefact_of(FOLDER), "it reads the histories credits"),
        (
            lambda: artefact_of(FOLDER.parent / "gmsc_like"),
            "it is of the portfolio gmsc-like, and the champion of lender",
        ),
        (without_reasons, "it gives no reasons, and the champion does"),
    ],
)
def test_a_model_that_cannot_decide_without_a_history_is_refused(made: Any, said: str) -> None:
    with kept("application_alone", made()), pytest.raises(FeatureError) as refused:
        load_application_only(settings(**CHOSEN | {"model": "application_alone:latest"}), model())
    assert str(refused.value) == f"histories.model: application_alone:latest cannot decide without a history: {said}"


def test_a_model_that_is_not_there_is_refused() -> None:
    with pytest.raises(ArtefactError, match="application_alone:nowhere"):
        load_application_only(settings(**CHOSEN | {"model": "application_alone:nowhere"}), model())
