"""The HTTP contract, against the real service."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import httpx
import pytest
from pydantic import TypeAdapter

from features.drawing import records_of
from features.files import open_file
from scoring.store import StoredModel
from serving.schemas import BatchAnswer, Decision, ExplainAnswer, Health, ModelInfo, ProblemDocument
from tests.home_credit import EXAMPLE, REQUESTS, columns_of
from tests.server import Server

APPLICATION = EXAMPLE["application"]
SECRET = "S3CR3T-VALUE"
NUMBER = 918273645.5
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def http(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=600) as client:
        yield client


def assert_problem(answer: httpx.Response, status: int) -> ProblemDocument:
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    problem = TypeAdapter(ProblemDocument).validate_json(answer.content)
    assert (problem.status, problem.request_id) == (status, answer.headers["x-request-id"])
    return problem


def without_history(answer: type[Decision]) -> list[str]:
    """The fields of the answers of a model that reads no histories."""
    return [name for name in answer.model_fields if name != "history"]


def test_predict_answers_with_a_decision(http: httpx.Client, stored: StoredModel) -> None:
    answer = http.post("/predict", json=EXAMPLE, headers={"X-Request-ID": "abc-1"})
    assert (answer.status_code, answer.headers["x-request-id"]) == (200, "abc-1")
    decision = Decision.model_validate_json(answer.content)
    assert list(answer.json()) == without_history(Decision)
    assert (decision.request_id, decision.client_id) == ("abc-1", "example")
    assert (decision.model_version, decision.threshold) == (stored.version, stored.scorer.artefact.policy.cutoff)
    assert decision.prediction == int(decision.probability >= decision.threshold)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", decision.timestamp)


# Nothing that speaks for the applicant: declined by any model of this data.
DECLINED = {**APPLICATION, "EXT_SOURCE_2": 0.001, "EXT_SOURCE_3": 0.001, "DAYS_EMPLOYED": -10, "AMT_CREDIT": 2e6}


def test_a_decline_carries_the_same_reasons_on_every_route(http: httpx.Client, stored: StoredModel) -> None:
    single = http.post("/predict", json={"application": DECLINED}).json()
    explained = http.post("/explain", json={"application": DECLINED}).json()
    [of_batch] = http.post("/predict/batch", json={"applications": [{"application": DECLINED}]}).json()["results"]
    matrix = stored.scorer.transformer.transform(columns_of([REQUESTS.predict(application=DECLINED).application]))
    vector = [None if value != value else value for value in matrix[0].tolist()]
    of_vector = http.post("/predict/features", json={"features": vector}).json()
    [expected] = stored.scorer.reasons(matrix)
    assert single["decision"] == "decline"
    assert 1 <= len(single["reasons"]) <= 4
    assert single["reasons"] == [{"code": one.code, "text": one.text("en")} for one in expected]
    assert explained["reasons"] == of_batch["reasons"] == of_vector["reasons"] == single["reasons"]


def test_an_explanation_adds_up_to_the_margin(http: httpx.Client, stored: StoredModel) -> None:
    answer = http.post("/explain", json=EXAMPLE)
    explained = ExplainAnswer.model_validate_json(answer.content)
    assert list(answer.json()) == without_history(ExplainAnswer)
    added = [one.contribution for one in explained.contributions]
    assert explained.base + sum(added) == pytest.approx(explained.margin, abs=1e-9)
    assert added == sorted(added, reverse=True)
    told = [one.code for one in explained.contributions if one.contribution > 0 and one.code is not None]
    assert [one.code for one in explained.reasons] == told[:4]
    assert stored.scorer.artefact.reasons is not None
    assert explained.explained_by == stored.scorer.artefact.reasons.version
    decided = http.post("/predict", json=EXAMPLE).json()
    same = ("client_id", "model_version", "probability", "decision", "score", "risk_level")
    assert {name: answer.json()[name] for name in same} == {name: decided[name] for name in same}
    assert decided["reasons"] == []


def test_a_waterfall_is_the_same_decision_drawn_and_carries_it(http: httpx.Client) -> None:
    body = {"client_id": "\ufffe<&", "application": DECLINED, "changes": True}
    answer = http.post("/explain", json=body, headers={"Accept": "image/svg+xml", "X-Request-ID": "w-1"})
    explained = http.post("/explain", json=body, headers={"X-Request-ID": "w-1"}).json()
    picture = ET.fromstring(answer.content)  # noqa: S314 - it comes from the service under test
    carried = json.loads(picture.findtext("{http://www.w3.org/2000/svg}metadata") or "")
    assert answer.headers["content-type"] == "image/svg+xml"
    # Each looks for changes within a time limit, and on a busy machine one may find more than the other.
    otherwise = {"timestamp": "", "changes": None}
    assert carried | otherwise == explained | otherwise
    assert carried["changes"].keys() == explained["changes"].keys()
    words = "".join(picture.itertext())
    assert all(reason["text"] in words for reason in explained["reasons"])
    assert_problem(http.post("/explain", json={}, headers={"Accept": "image/svg+xml"}), 422)


def test_an_explanation_says_what_is_missing_and_where_a_person_decides(
    http: httpx.Client, stored: StoredModel
) -> None:
    explained = http.post("/explain", json=EXAMPLE).json()
    read = [name for name in stored.scorer.inputs if name not in EXAMPLE["application"]]
    policy = stored.scorer.artefact.policy
    assert explained["missing_columns"] == read
    assert len(read) == explained["missing"]
    assert (explained["refer_from"], explained["refer_to"]) == (policy.refer_from, policy.refer_to)


def test_alternatives_of_a_decline_are_approved_by_predict(
    http: httpx.Client, stored: StoredModel, generated: Path
) -> None:
    file = open_file(generated / "application_train.csv", stored.scorer.artefact.portfolio)
    columns = next(iter(file.batches(300))).columns
    records, decisions = records_of(columns), stored.scorer.score(columns).decision.tolist()
    reached = 0
    for application, decision in zip(records, decisions, strict=True):
        if decision == "approve" or reached >= 3:
            continue
        answer = http.post("/explain", json={"application": application, "changes": True}).json()
        assert (answer["decision"], answer["changes"]["complete"]) == (decision, True)
        for alternative in answer["changes"]["alternatives"]:
            reached += 1
            assert all(application[one["column"]] == one["from"] for one in alternative["columns"])
            suggested = {**application, **{one["column"]: one["to"] for one in alternative["columns"]}}
            decided = http.post("/predict", json={"application": suggested}).json()
            assert (decided["decision"], decided["probability"]) == ("approve", alternative["probability"])
    assert reached >= 3


def test_an_approval_has_no_alternatives(http: httpx.Client) -> None:
    answer = http.post("/explain", json={**EXAMPLE, "changes": True}).json()
    assert answer["decision"] == "approve"
    says = "The application is approved as it is."
    assert answer["changes"] == {"alternatives": [], "complete": True, "says": says}


def test_changes_are_not_told_unless_they_are_asked_for(http: httpx.Client) -> None:
    for body in ({"application": DECLINED}, {"application": DECLINED, "changes": False}):
        assert http.post("/explain", json=body).json()["changes"] is None


@pytest.mark.parametrize("stated", ["true", 1, None, [True]])
def test_whether_changes_are_asked_for_is_true_or_false(http: httpx.Client, stated: object) -> None:
    problem = assert_problem(http.post("/explain", json={"application": DECLINED, "changes": stated}), 422)
    assert problem.errors is not None
    assert [place.model_dump() for place in problem.errors] == [
        {"loc": ["changes"], "msg": "Input should be a valid boolean"}
    ]


def test_a_part_of_explain_is_stated_once_and_is_none_of_predict(http: httpx.Client) -> None:
    body = json.dumps({"application": DECLINED, "changes": True})
    twice = http.post("/explain", content=body[:-1] + ', "changes": false}', headers=JSON)
    assert [one.model_dump() for one in assert_problem(twice, 422).errors or ()] == [
        {"loc": ["changes"], "msg": "is stated more than once"}
    ]
    assert_problem(http.post("/predict", content=body, headers=JSON), 422)


def test_no_suggested_value_is_logged(http: httpx.Client, server: Server) -> None:
    answer = http.post("/explain", json={"application": {**DECLINED, "AMT_CREDIT": 1987654.5}, "changes": True})
    assert answer.json()["changes"]["says"]
    assert "1987654" not in server.logged


def test_the_words_of_every_reason_are_told_in_every_language(http: httpx.Client) -> None:
    info = http.get("/model/info").json()
    assert {frozenset(words) for words in info["reasons"].values()} == {frozenset({"en", "fr"})}
    assert info["explained_by"].startswith("interventional:")


def test_predict_without_a_client_id_gives_none_back(http: httpx.Client) -> None:
    assert http.post("/predict", json={"application": APPLICATION}).json()["client_id"] is None


def test_a_batch_keeps_its_order_and_rejects_only_what_is_bad(http: httpx.Client) -> None:
    rows = [
        {"client_id": "a", "application": APPLICATION},
        {"client_id": "b", "application": {**APPLICATION, "AMT_CREDIT": "much"}},
        {"client_id": "c", "application": {**APPLICATION, "AMT_CREDIT": 90000}},
    ]
    answer = http.post("/predict/batch", json={"applications": rows})
    first, second, third = BatchAnswer.model_validate_json(answer.content).results
    assert isinstance(first, Decision)
    assert isinstance(third, Decision)
    assert (first.client_id, third.client_id) == ("a", "c")
    assert second.model_dump() == {
        "index": 1,
        "status": "rejected",
        "errors": [{"loc": ["application", "AMT_CREDIT"], "msg": "Input should be a valid number"}],
    }


def test_the_feature_vector_must_have_the_length_of_the_model(http: httpx.Client) -> None:
    expected = len(http.get("/model/info").json()["features"])
    assert http.post("/predict/features", json={"features": [None] * expected}).status_code == 200
    for length in (0, expected - 1, expected + 1):
        problem = assert_problem(http.post("/predict/features", json={"features": [0.0] * length}), 422)
        assert problem.errors is not None
        assert problem.errors[0].loc == ["features"]


def test_the_feature_vector_must_hold_codes_of_its_categories(http: httpx.Client, stored: StoredModel) -> None:
    info = ModelInfo.model_validate_json(http.get("/model/info").content)
    position = stored.scorer.transformer.categorical[0]
    name = info.features[position]
    unknown = len(info.categories[name])
    features: list[float | None] = [None] * len(info.features)
    for code in (0, unknown):
        features[position] = code
        assert http.post("/predict/features", json={"features": features}).status_code == 200
    for code in (-1, 0.5, unknown + 1):
        features[position] = code
        problem = assert_problem(http.post("/predict/features", json={"features": features}), 422)
        assert problem.errors is not None
        assert [error.model_dump() for error in problem.errors] == [
            {
                "loc": ["features", position],
                "msg": f"{name} is a category: null, or a whole number from 0 to {unknown}",
            }
        ]


def test_model_info_says_which_model_answers(http: httpx.Client, stored: StoredModel) -> None:
    info = ModelInfo.model_validate_json(http.get("/model/info").content)
    assert (info.version, info.digest) == (stored.version, stored.scorer.artefact.digest)
    assert tuple(info.features) == stored.scorer.features
    assert info.required_columns == ["NAME_CONTRACT_TYPE", "AMT_INCOME_TOTAL", "AMT_CREDIT"]


def test_model_info_says_how_a_category_is_coded(http: httpx.Client, stored: StoredModel) -> None:
    info = ModelInfo.model_validate_json(http.get("/model/info").content)
    application = REQUESTS.predict.model_validate(EXAMPLE).application
    (row,) = stored.scorer.transformer.transform(columns_of([application])).tolist()
    assert {info.features[position] for position in stored.scorer.transformer.categorical} == set(info.categories)
    for name, levels in info.categories.items():
        level = EXAMPLE["application"].get(name)
        assert level is None or row[info.features.index(name)] == levels.index(level)


def test_health_and_probes(http: httpx.Client, stored: StoredModel) -> None:
    health = Health.model_validate_json(http.get("/health").content)
    assert (health.status, health.model_version) == ("ok", stored.version)
    assert [http.get(path).status_code for path in ("/livez", "/readyz", "/healthz")] == [200, 200, 200]


def test_metrics_count_requests_under_the_names_of_bentoml(http: httpx.Client) -> None:
    http.post("/predict", json=EXAMPLE)
    metrics = http.get("/metrics").text
    assert re.search(r'bentoml_service_request_total\{endpoint="/predict",http_response_code="200",.*\} [1-9]', metrics)


def test_the_worker_runs_on_uvloop_and_httptools(server: Server) -> None:
    workers = subprocess.run(
        ["pgrep", "-P", str(server.pid)], check=True, capture_output=True, text=True
    ).stdout.split()
    loaded = "".join((Path("/proc") / worker / "maps").read_text() for worker in workers)
    assert "uvloop" in loaded
    assert "httptools" in loaded


def test_the_page_loads_nothing_from_elsewhere(http: httpx.Client) -> None:
    page = http.get("/").text
    assert "http://" not in page
    assert "https://" not in page
    for path in re.findall(r'(?:src|href)="\./([^"]+)"', page):
        assert http.get(f"/{path}").status_code == 200


def test_the_openapi_document_describes_every_route(http: httpx.Client) -> None:
    document = http.get("/docs.json").json()
    assert sorted(document["paths"]) == [
        "/decisions/{request_id}/override",
        "/drift", "/explain", "/health", "/model/info", "/predict", "/predict/batch", "/predict/features",
    ]  # fmt: skip
    application = document["components"]["schemas"]["Application"]
    assert application["required"] == ["NAME_CONTRACT_TYPE", "AMT_INCOME_TOTAL", "AMT_CREDIT"]
    assert len(application["properties"]) == 120
    assert document["components"]["schemas"]["BatchRequest"]["properties"]["applications"]["maxItems"] == 1000
    references = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document)))
    assert references <= set(document["components"]["schemas"])


@pytest.mark.parametrize(
    ("content", "media_type", "status"),
    [
        (b"", "application/json", 400),
        (b"{", "application/json", 400),
        (b'{"application": {"AMT_CREDIT": NaN}}', "application/json", 422),
        (b"[]", "application/json", 422),
        (b"{}", "text/plain", 415),
        (b"\x80\x04N.", "application/vnd.bentoml+pickle", 415),
        (b"a=1", "application/x-www-form-urlencoded", 415),
        (b'"' + b"x" * 10_000_000 + b'"', "application/json", 413),
    ],
)
@pytest.mark.parametrize("path", ["/predict", "/predict/batch", "/predict/features", "/explain"])
def test_bad_bodies_get_the_documented_status(
    http: httpx.Client, path: str, content: bytes, media_type: str, status: int
) -> None:
    assert_problem(http.post(path, content=content, headers={"Content-Type": media_type}), status)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/predict", 405),
        ("DELETE", "/model/info", 405),
        ("GET", "/nothing", 404),
        ("POST", "/explain/../nothing", 404),
    ],
)
def test_unknown_routes_and_methods_are_problems(http: httpx.Client, method: str, path: str, status: int) -> None:
    assert_problem(http.request(method, path), status)


def test_too_many_applications_are_refused(http: httpx.Client) -> None:
    problem = assert_problem(http.post("/predict/batch", json={"applications": [EXAMPLE] * 1001}), 422)
    assert problem.errors is not None
    assert problem.errors[0].loc == ["applications"]


def test_no_value_of_an_applicant_reaches_an_answer_or_the_log(server: Server, http: httpx.Client) -> None:
    hostile: list[dict[str, Any]] = [
        {**APPLICATION, "AMT_CREDIT": SECRET},
        {**APPLICATION, "AMT_CREDIT": -NUMBER},
        {**APPLICATION, "NAME_INCOME_TYPE": SECRET * 50},
        {**APPLICATION, "CNT_CHILDREN": NUMBER},
        {**APPLICATION, "OCCUPATION_TYPE": [SECRET]},
    ]
    answers = [http.post("/predict", json={"application": row}) for row in hostile]
    answers.append(http.post("/predict/batch", json={"applications": [{"application": row} for row in hostile]}))
    answers.append(http.post("/predict", content=f'{{"application": {{"AMT_CREDIT": {SECRET}', headers=JSON))
    assert [answer.status_code for answer in answers] == [422] * 5 + [200, 400]
    said = "".join(answer.text for answer in answers) + server.logged + http.get("/metrics").text
    assert SECRET not in said
    assert "918273645" not in said


def test_bad_requests_leave_no_traceback_in_the_log(server: Server, http: httpx.Client) -> None:
    before = len(server.logged)
    http.post("/predict", json={"application": {}})
    http.post("/predict", content=b"{", headers=JSON)
    http.get("/nothing")
    assert server.logged[before:] == ""


JSON = {"Content-Type": "application/json"}


def test_a_single_application_may_be_smaller_than_a_batch(http: httpx.Client) -> None:
    padded = {**EXAMPLE, "client_id": "x" * 100_000}
    assert_problem(http.post("/predict", json=padded), 413)
    assert_problem(http.post("/predict/batch", json=padded), 422)
