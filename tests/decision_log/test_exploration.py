"""Declines that are approved at random: who is drawn, what is recorded and answered, and that a replay proves it."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pyarrow import parquet

from decision_log.closed_segments import closed_lines, read_closed
from decision_log.closing import close
from decision_log.format import Caller, ClientHash
from decision_log.reader import DecisionLogReader
from decision_log.replay import policy_decisions, replay
from decision_log.segments import Listing
from features.transformer import Columns
from jobs.errors import SettingsError
from scoring.artefact import Artefact
from scoring.errors import ArtefactError
from scoring.policy import CompletenessRule, DecisionKind, DecisionPolicy, ExploreRule, PointScale
from scoring.scorer import Scorer, Scores, with_conformance
from scoring.store import StoredModel
from tests.decision_log.models import kept
from tests.monitoring.recording import KEY, Worker, settings
from tests.monitoring.test_closing import LATER, SETTINGS
from tests.monitoring.test_decision_log import put_in_the_way
from training.settings import PolicySettings

RULE = ExploreRule(share=0.3, up_to=0.5)
HASH = ClientHash(bytes.fromhex(KEY))


@pytest.fixture(scope="module")
def exploring(artefact: Artefact, applications: Columns) -> Iterator[StoredModel]:
    """The small model under a policy that declines most applications and explores."""
    policy = replace(artefact.policy, cutoff=0.03, refer_from=0.02, refer_to=0.04, completeness=None, explore=RULE)
    with kept("exploring", with_conformance(replace(artefact, policy=policy, lineage={"of": "policy"}))) as stored:
        yield stored


@pytest.fixture(scope="module")
def matrix(exploring: StoredModel, applications: Columns) -> NDArray[np.float64]:
    return exploring.scorer.transformer.transform(applications)


def callers(rows: int) -> list[Caller]:
    """A caller of each row; every tenth has no client."""
    return [Caller(f"r-{row}", None if row % 10 == 9 else f"client-{row}") for row in range(rows)]


def drawn(scores: Scores, asked: list[Caller], model: StoredModel) -> list[bool]:
    """Who is to be explored, by the rule alone."""
    policy, version = model.scorer.artefact.policy, model.scorer.artefact.policy_version
    return [
        policy.refer_to <= probability <= RULE.up_to
        and caller.client_id is not None
        and RULE.draws(HASH.digest(caller.client_id), version)
        for probability, caller in zip(scores.probability.tolist(), asked, strict=True)
    ]


@pytest.fixture
def worker(exploring: StoredModel, tmp_path: Path) -> Worker:
    return Worker(exploring, tmp_path / "counts", tmp_path / "log")


def lines_of(log: Path) -> list[dict[str, object]]:
    return [json.loads(line) for path in Listing.of(log).open for line in path.read_bytes().splitlines()[1:]]


def test_who_is_drawn_is_approved_answered_recorded_and_counted(
    worker: Worker, exploring: StoredModel, matrix: NDArray[np.float64], tmp_path: Path
) -> None:
    asked = callers(len(matrix))
    scores = exploring.scorer.score_matrix(matrix)
    expected = drawn(scores, asked, exploring)
    found = worker.recorder.record("/predict", asked, matrix, scores)
    worker.recorder.close()
    assert 20 < sum(expected) < len(matrix) // 2
    changed = [
        (was, now)
        for was, now, chosen in zip(scores.decision, found.decision, expected, strict=True)
        if chosen or was is not now
    ]
    assert changed == [(DecisionKind.DECLINE, DecisionKind.APPROVE)] * sum(expected)
    assert not any(reasons for reasons, chosen in zip(found.reasons, expected, strict=True) if chosen)
    still = found.decision == DecisionKind.DECLINE
    assert found.reasons[still].tolist() == scores.reasons[still].tolist()
    lines = lines_of(tmp_path / "log")
    assert [line.get("explored", False) for line in lines] == expected
    assert [line["decision"] for line in lines] == found.decision.tolist()
    labels = {"model_version": exploring.version}
    possible = [
        exploring.scorer.artefact.policy.refer_to <= one <= RULE.up_to and caller.client_id is not None
        for one, caller in zip(scores.probability, asked, strict=True)
    ]
    assert worker.value("explored_total", **labels) == sum(expected)
    assert worker.value("explorable_declines_total", **labels) == sum(possible)


def test_whoever_applies_again_does_not_draw_again(
    worker: Worker, exploring: StoredModel, matrix: NDArray[np.float64]
) -> None:
    scores, asked = exploring.scorer.score_matrix(matrix), callers(len(matrix))
    first = worker.recorder.record("/predict", asked, matrix, scores)
    again = worker.recorder.record("/explain", [one._replace(request_id="x") for one in asked], matrix, scores)
    assert first.decision.tolist() == again.decision.tolist()


def test_a_share_of_many_clients_is_drawn_and_another_policy_draws_others() -> None:
    rule = ExploreRule(0.02, 0.5)
    clients = [HASH.digest(str(number)) for number in range(50_000)]
    first, other = ([rule.draws(client, version) for client in clients] for version in ("a" * 16, "b" * 16))
    # Four standard deviations of 1,000 in 50,000 are 125.
    assert abs(sum(first) - 1_000) < 125
    assert sum(one and two for one, two in zip(first, other, strict=True)) < 50


def test_closing_keeps_the_bytes_and_a_replay_proves_each_one(
    worker: Worker, exploring: StoredModel, matrix: NDArray[np.float64], tmp_path: Path
) -> None:
    log, asked = tmp_path / "log", callers(len(matrix))
    worker.recorder.record("/predict", asked, matrix, exploring.scorer.score_matrix(matrix))
    worker.recorder.close()
    (path,) = Listing.of(log).open
    written = path.read_bytes().splitlines()[1:]
    assert replay(DecisionLogReader(log)).different == 0
    close(log, SETTINGS, now=LATER)
    (closed,) = Listing.of(log).closed
    assert list(closed_lines(closed)) == written
    assert parquet.read_table(closed)["line"].null_count == len(written)
    found = replay(DecisionLogReader(log))
    assert (found.replayed, found.different) == (len(matrix), 0)
    # Without chance each of them is the decline that the policy made.
    (table,) = DecisionLogReader(log).tables(["decision", "explored"])
    assert policy_decisions(table).tolist() == exploring.scorer.score_matrix(matrix).decision.tolist()


def test_who_was_not_drawn_is_found_by_a_replay(
    worker: Worker, exploring: StoredModel, matrix: NDArray[np.float64], tmp_path: Path
) -> None:
    log, asked = tmp_path / "log", callers(len(matrix))
    scores = exploring.scorer.score_matrix(matrix)
    worker.recorder.record("/predict", asked, matrix, scores)
    worker.recorder.close()
    (path,) = Listing.of(log).open
    head, *lines = path.read_bytes().splitlines()
    forged = next(i for i, line in enumerate(map(json.loads, lines)) if line["decision"] == "decline")
    text = lines[forged].decode().replace('"decision":"decline"', '"decision":"approve"')
    before, after = text.split('"reasons":"', 1)
    lines[forged] = f'{before}"explored":true,"reasons":"{after[after.index(chr(34)) :]}'.encode()
    path.write_bytes(b"\n".join([head, *lines, b""]))
    found = replay(DecisionLogReader(log))
    (first,) = found.first
    assert (first.request_id, first.fields) == (f"r-{forged}", ("decision", "reasons"))


@pytest.mark.parametrize("explored", ["false", "null", '"yes"', "1"])
def test_a_line_says_explored_only_where_it_is_true(
    worker: Worker, exploring: StoredModel, matrix: NDArray[np.float64], tmp_path: Path, explored: str
) -> None:
    asked = callers(len(matrix))
    worker.recorder.record("/predict", asked, matrix, exploring.scorer.score_matrix(matrix))
    worker.recorder.close()
    (path,) = Listing.of(tmp_path / "log").open
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"explored":true', f'"explored":{explored}'.encode(), 1))
    log = DecisionLogReader(tmp_path / "log")
    assert sum(table.num_rows for table in log.tables(["decision"])) == len(matrix) - 1
    assert log.remarks()[1].endswith("1 of its lines are damaged")


def test_segments_that_were_closed_before_there_was_exploration_are_read(small: StoredModel, tmp_path: Path) -> None:
    worker = Worker(small, tmp_path / "counts", tmp_path / "log")
    worker.record(5)
    worker.recorder.close()
    (path,) = Listing.of(tmp_path / "log").open
    written = path.read_bytes().splitlines()[1:]
    close(tmp_path / "log", SETTINGS, now=LATER)
    (closed,) = Listing.of(tmp_path / "log").closed
    table = parquet.read_table(closed)
    parquet.write_table(table.drop_columns(["explored"]), closed)
    (read,) = read_closed(closed, ["decision", "explored", "probability"], None)
    assert read.column_names == ["decision", "explored", "probability"]
    assert read["explored"].to_pylist() == [None] * 5
    assert list(closed_lines(closed)) == written


def test_nothing_is_explored_without_a_log(exploring: StoredModel, matrix: NDArray[np.float64], tmp_path: Path) -> None:
    worker = Worker(exploring, tmp_path / "counts")
    scores = exploring.scorer.score_matrix(matrix)
    assert worker.recorder.record("/predict", callers(len(matrix)), matrix, scores) is scores


def test_nothing_is_explored_where_clients_are_not_hashed(
    exploring: StoredModel, matrix: NDArray[np.float64], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "bentoml.credit_scoring"):
        worker = Worker(exploring, tmp_path / "counts", tmp_path / "log", settings(log={"hash_clients": False}))
    scores = exploring.scorer.score_matrix(matrix)
    assert worker.recorder.record("/predict", callers(len(matrix)), matrix, scores) is scores
    assert [one.message for one in caplog.records if "explored" in one.message] == [
        "no decline is explored: it is drawn by the hash of the client, and clients are not hashed"
    ]


def test_what_cannot_be_recorded_is_not_explored(
    exploring: StoredModel, matrix: NDArray[np.float64], tmp_path: Path
) -> None:
    worker = Worker(exploring, tmp_path / "counts", tmp_path / "log", settings(log={"on_failure": "drop"}))
    put_in_the_way(tmp_path / "log")
    scores = exploring.scorer.score_matrix(matrix)
    assert worker.recorder.record("/predict", callers(len(matrix)), matrix, scores) is scores
    assert worker.value("explored_total", model_version=exploring.version) == 0


def test_an_application_of_which_too_little_is_known_is_not_explored(
    exploring: StoredModel, matrix: NDArray[np.float64]
) -> None:
    rule = CompletenessRule(known=(), max_missing_share=0.2)
    artefact = exploring.scorer.artefact
    scorer = Scorer(with_conformance(replace(artefact, policy=replace(artefact.policy, completeness=rule))))
    bare = np.full_like(matrix[:1], np.nan)
    scores = scorer.score_matrix(bare)
    clients: Callable[[int], bytes] = lambda row: HASH.digest(f"client-{row}")  # noqa: E731
    possible, chosen = scorer.explored(bare, scores, clients)
    assert (possible.tolist(), chosen.tolist()) == ([False], [False])


def test_batch_jobs_do_not_explore(exploring: StoredModel, matrix: NDArray[np.float64]) -> None:
    artefact = exploring.scorer.artefact
    plain = Scorer(with_conformance(replace(artefact, policy=replace(artefact.policy, explore=None))))
    decided, without = exploring.scorer.score_matrix(matrix), plain.score_matrix(matrix)
    assert decided.decision.tolist() == without.decision.tolist()


def test_an_artefact_without_exploration_keeps_its_bytes(
    artefact: Artefact, exploring: StoredModel, tmp_path: Path
) -> None:
    artefact.write(tmp_path / "plain")
    assert "explore" not in json.loads((tmp_path / "plain" / "policy.json").read_text())
    exploring.scorer.artefact.write(tmp_path / "exploring")
    assert Artefact.read(tmp_path / "exploring").policy.explore == RULE


@pytest.mark.parametrize("rule", [(0.0, 0.5), (1.0, 0.5), (0.02, 0.1), (0.02, 1.5)])
def test_a_rule_that_explores_nothing_is_refused(rule: tuple[float, float]) -> None:
    with pytest.raises(ArtefactError, match=r"^explore\."):
        DecisionPolicy(0.1, 0.09, 0.11, (0.1, 0.2, 0.3), 9, 1, PointScale(600, 50, 20), None, ExploreRule(*rule))


def test_settings_say_who_is_explored() -> None:
    given = {
        "cost_fn": 10, "cost_fp": 1, "refer_band": 0.1, "level_bounds": [0.04, 0.08, 0.16],
        "scale": {"base": 600, "odds": 50, "double": 20},
    }  # fmt: skip
    assert PolicySettings.checked(given, Path("policy")).explore is None
    said = PolicySettings.checked({**given, "explore": {"share": 0.02, "up_to": 0.25}}, Path("policy")).explore
    assert said is not None
    assert said.build() == ExploreRule(0.02, 0.25)


def test_settings_that_explore_no_decline_are_refused_before_a_training() -> None:
    given = {
        "cost_fn": 9, "cost_fp": 1, "refer_band": 0.1, "level_bounds": [0.04, 0.08, 0.16],
        "scale": {"base": 600, "odds": 50, "double": 20}, "explore": {"share": 0.02, "up_to": 0.11},
    }  # fmt: skip
    with pytest.raises(SettingsError, match=r"explore.up_to must be above 0.1100, from which on applications are "):
        PolicySettings.checked(given, Path("policy"))
    assert PolicySettings.checked({**given, "cutoff": 0.09}, Path("policy")).cutoff == 0.09
