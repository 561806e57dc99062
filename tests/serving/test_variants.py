"""Challengers beside the champion: the split of the clients, what halts it, and shadows that fail or are slow."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from decision_log.format import Caller
from decision_log.reader import DecisionLogReader
from features.errors import ColumnsError
from features.transformer import Columns
from jobs.output import write_text
from monitoring.recorder import Recorder, open_recorder, open_shadow_records
from scoring.artefact import Artefact
from scoring.errors import ArtefactError
from scoring.scorer import Scorer, Scores, in_order, with_conformance
from scoring.store import StoredModel
from serving.engine import DecisionEngine
from serving.judge import OwnJudge, RowMemory, RowShape
from serving.problems import Unrecorded
from serving.schemas import ExplainRequest, PredictRequest, Requests
from serving.settings import GuardSettings, ServingSettings, VariantSettings
from serving.shadow import Shadow, ShadowMetrics
from serving.split import FailureBudget, HaltFile, described, variant_of
from serving.variants import CallerRows, Challenger, Variant, VariantState, load_challengers
from tests.home_credit import PORTFOLIO
from tests.monitoring.recording import KEY, settings
from tests.server import ROOT
from tests.serving.test_engine import SERVING

IDS = 1_000_000


def shares(split: dict[str, float], salt: str = "s", ids: int = IDS) -> dict[str, float]:
    found = dict.fromkeys(("champion", *split), 0)
    low, high = ({name: split[name]} for name in split)
    for client in range(ids):
        found[variant_of(str(client), low, salt, high=high)] += 1
    return {name: count / ids for name, count in found.items()}


@pytest.mark.slow
def test_the_split_of_a_million_clients_is_within_a_fifth_of_a_point() -> None:
    found = shares({"one": 0.1, "two": 0.25})
    assert found == pytest.approx({"champion": 0.65, "one": 0.1, "two": 0.25}, abs=0.002)


def test_raising_a_share_moves_only_clients_of_the_champion_into_it() -> None:
    clients = [str(number) for number in range(5_000)]

    def chosen(one: float, two: float) -> list[str]:
        return [variant_of(client, {"one": one}, "s", high={"two": two}) for client in clients]

    before, more, other = chosen(0.1, 0.2), chosen(0.3, 0.2), chosen(0.1, 0.4)
    assert {pair for pair in zip(before, more, strict=True) if len(set(pair)) > 1} == {("champion", "one")}
    assert {pair for pair in zip(before, other, strict=True) if len(set(pair)) > 1} == {("champion", "two")}


def test_the_split_is_the_same_in_every_process_and_another_salt_draws_anew() -> None:
    program = (
        "from serving.split import variant_of\n"
        "print(''.join(variant_of(str(n), {'x': 0.5}, 's')[0] for n in range(200)))"
    )
    told = [
        subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": seed}, check=True,
            capture_output=True, text=True,
        ).stdout.strip()
        for seed in ("0", "7")
    ]  # fmt: skip
    here = "".join(variant_of(str(number), {"x": 0.5}, "s")[0] for number in range(200))
    assert told == [here, here]
    assert here != "".join(variant_of(str(number), {"x": 0.5}, "t")[0] for number in range(200))


def test_old_failures_are_forgotten() -> None:
    budget = FailureBudget(GuardSettings(failures=2, of=3))
    assert [budget.spent(failed=failed) for failed in (True, False, False, True, False, True)] == [*[False] * 5, True]


def sharing(name: str, share: float, end: str = "low") -> dict[str, Any]:
    return {"name": name, "model": "other", "share": share, "end": end}


def test_a_challenger_must_leave_time_to_the_champion() -> None:
    written = SERVING.model_dump(mode="json")
    late = {"split": written["split"] | {"seconds": written["limits"]["timeout_seconds"]}}
    ServingSettings.model_validate(written | late)  # nobody has a share
    with pytest.raises(ValueError, match=r"split\.seconds must be below limits\.timeout_seconds"):
        ServingSettings.model_validate(written | late | {"variants": [sharing("a", 0.1)]})


@pytest.mark.parametrize(
    ("variants", "reason"),
    [
        ([{"name": "champion", "model": "m"}], "each needs a name of its own"),
        ([{"name": "a", "model": "m"}, {"name": "a", "model": "n"}], "each needs a name of its own"),
        ([{"name": "A b", "model": "m"}], "name"),
        ([{"name": one, "model": "m", "share": 0.1} for one in "ab"], "one with the end low and one with the end high"),
        ([sharing("a", 0.1), sharing("b", 0.1, "high"), sharing("c", 0.1, "high")], "two may have a share"),
        ([sharing("a", 0.5), sharing("b", 0.5, "high")], "some share must be left to the champion"),
        ([{"name": "a", "model": "m", "share": 1.0}], "share"),
    ],
)
def test_variants_that_cannot_be_are_refused(variants: list[dict[str, Any]], reason: str) -> None:
    changed = SERVING.model_dump(mode="json") | {"variants": variants}
    with pytest.raises(ValueError, match=reason):
        ServingSettings.model_validate(changed)


class Broken(Scorer):
    """Fails on every row, until it is mended."""

    broken = True
    error: Exception = ZeroDivisionError()

    def decide(self, *arguments: Any, **options: Any) -> Scores:
        if self.broken:
            raise self.error
        return super().decide(*arguments, **options)


class Stuck(Scorer):
    """Decides only when it may."""

    def __init__(self, artefact: Artefact) -> None:
        self.may = threading.Event()
        self.began = threading.Event()
        self.may.set()
        super().__init__(artefact)
        self.may.clear()
        self.began.clear()

    def decide(self, *arguments: Any, **options: Any) -> Scores:
        self.began.set()
        self.may.wait()
        return super().decide(*arguments, **options)


@pytest.fixture(scope="module")
def stricter(artefact: Artefact) -> Artefact:
    policy = artefact.policy
    return with_conformance(replace(artefact, policy=replace(policy, refer_from=0.01, refer_to=policy.cutoff)))


def model(scorer: Scorer) -> StoredModel:
    return StoredModel("other", f"2-{scorer.artefact.digest[:32]}", scorer)


def broken(artefact: Artefact) -> Broken:
    Broken.broken = False
    made = Broken(artefact)
    made.broken = True
    Broken.broken = True
    return made


class Observed:
    """A shadow beside a champion, with metrics and, where there is a folder, logs of its own."""

    def __init__(self, champion: StoredModel, scorer: Scorer, folder: Path | None = None) -> None:
        self.registry = CollectorRegistry()
        self.champion = champion
        self.metrics = ShadowMetrics("challenger", registry=self.registry)
        self.recorder, records = None, None
        if folder is not None:
            environment = {"DECISION_LOG_DIR": str(folder), "DECISION_LOG_KEY": KEY}
            chosen = settings()
            self.recorder = open_recorder(champion, chosen.recording, chosen.drift, environment, registry=self.registry)
            records = open_shadow_records(
                model(scorer), "challenger", chosen.recording, environment, self.recorder.metrics, self.metrics.lost,
                registry=self.registry,
            )  # fmt: skip
        judge = OwnJudge(model(scorer), champion.scorer.artefact.portfolio, records, clock=lambda: 5.0)
        self.shadow = Shadow("challenger", model(scorer), champion, self.metrics, judge, registry=self.registry)

    def offer(self, matrix: NDArray[np.float64], columns: Columns | None = None) -> Scores:
        scores = self.champion.scorer.score_matrix(matrix)
        callers = [Caller("r-1", str(row), row) for row in range(len(matrix))]
        self.shadow.offer("/predict", callers, columns, matrix, scores)
        return scores

    def count(self, name: str, **labels: str) -> float:
        found = self.registry.get_sample_value(
            f"credit_scoring_shadow_{name}_total", {"variant": "challenger", **labels}
        )
        assert found is not None
        return found


def test_flips_and_shifts_are_those_of_a_direct_computation(
    small: StoredModel, stricter: Artefact, model_matrix: NDArray[np.float64], tmp_path: Path
) -> None:
    observed = Observed(small, Scorer(stricter), tmp_path / "log")
    was = [observed.offer(model_matrix[start : start + 7]) for start in range(0, len(model_matrix), 7)]
    observed.shadow.close()
    assert observed.recorder is not None
    observed.recorder.close()
    champion = in_order([(np.arange(7 * i, 7 * i + len(one)), one) for i, one in enumerate(was)])
    challenger = Scorer(stricter).score_matrix(model_matrix)
    kinds = ("approve", "refer", "decline")
    found = {(a, b): observed.count("decisions", champion=a, challenger=b) for a in kinds for b in kinds}
    expected = {
        (a, b): np.count_nonzero((champion.decision == a) & (challenger.decision == b)) for a in kinds for b in kinds
    }
    assert found == expected
    assert sum(count for (a, b), count in found.items() if a != b) > 0
    assert observed.count("applications", outcome="scored") == len(model_matrix)
    assert observed.count("pd", of="challenger") == pytest.approx(challenger.probability.sum())
    firsts = zip(champion.reasons.tolist(), challenger.reasons.tolist(), strict=True)
    assert observed.count("reason_changes") == sum(bool(a and b and a[0].code != b[0].code) for a, b in firsts)
    [table] = list(DecisionLogReader(tmp_path / "log" / "shadow").tables(["index", "variant", "margin"]))
    assert set(table["variant"].to_pylist()) == {"challenger"}
    assert table["margin"].to_pylist() == challenger.margin.tolist()


def test_a_shadow_that_fails_is_counted_and_recovers(
    small: StoredModel, artefact: Artefact, model_matrix: NDArray[np.float64], caplog: pytest.LogCaptureFixture
) -> None:
    scorer = broken(artefact)
    observed = Observed(small, scorer)
    observed.offer(model_matrix[:3])
    until(lambda: observed.count("applications", outcome="failed") == 3)
    scorer.broken = False
    observed.offer(model_matrix[:2])
    observed.shadow.close()
    assert observed.count("applications", outcome="scored") == 2
    assert [one.getMessage() for one in caplog.records] == [
        "the challenger challenger in shadow fails: ZeroDivisionError"
    ]


def test_a_shadow_that_is_stuck_holds_nobody_up_and_drops_what_it_has_no_room_for(
    small: StoredModel, artefact: Artefact, model_matrix: NDArray[np.float64]
) -> None:
    scorer = Stuck(artefact)
    observed = Observed(small, scorer)
    many = np.repeat(model_matrix[:1], 3000, axis=0)
    observed.offer(model_matrix[:5])
    scorer.began.wait()
    for _ in range(2):
        observed.offer(many)
    assert observed.count("applications", outcome="dropped") == 2 * 3000 - 4096
    scorer.may.set()
    until(lambda: observed.count("applications", outcome="scored") == 5 + 4096)
    observed.shadow.close()


def test_a_shadow_of_other_features_makes_its_own_matrix_and_cannot_read_the_champions(
    small: StoredModel, artefact: Artefact, applications: Columns, model_matrix: NDArray[np.float64]
) -> None:
    clip = {name: (low, low) for name, (low, _) in artefact.features.clip.items()}
    other = with_conformance(replace(artefact, features=replace(artefact.features, clip=clip)))
    observed = Observed(small, Scorer(other))
    observed.offer(model_matrix[:4])
    observed.offer(model_matrix[:9], applications.take(slice(0, 9)))
    observed.shadow.close()
    assert observed.count("applications", outcome="unreadable") == 4
    assert observed.count("applications", outcome="scored") == 9
    expected = Scorer(other).score(applications.take(slice(0, 9))).probability.sum()
    assert observed.count("pd", of="challenger") == pytest.approx(expected)


class Short(Scorer):
    """Loses a row of the first block that it decides on."""

    whole = True

    def decide(self, *arguments: Any, **options: Any) -> Scores:
        scores = super().decide(*arguments, **options)
        whole, self.whole = self.whole, True
        return scores if whole else scores.take(slice(1, None))


def test_a_block_that_fails_is_counted_whole_and_does_not_lose_the_blocks_after_it(
    small: StoredModel, artefact: Artefact, model_matrix: NDArray[np.float64]
) -> None:
    scorer = Short(artefact)
    scorer.whole = False
    observed = Observed(small, scorer)
    observed.offer(model_matrix[:7])
    until(lambda: observed.count("applications", outcome="failed") == 7)
    observed.offer(model_matrix[:5])
    observed.shadow.close()
    counts = {outcome: observed.count("applications", outcome=outcome) for outcome in ("scored", "failed", "dropped")}
    assert counts == {"scored": 5, "failed": 7, "dropped": 0}


def test_what_a_shadow_has_not_scored_when_it_is_closed_is_dropped_and_never_written(
    small: StoredModel, artefact: Artefact, model_matrix: NDArray[np.float64], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("serving.shadow._LAST_SECONDS", 0.0)
    scorer = Stuck(artefact)
    observed = Observed(small, scorer, tmp_path / "log")
    observed.offer(model_matrix[:5])
    scorer.began.wait()
    observed.offer(model_matrix[:7])
    observed.shadow.close()
    observed.offer(model_matrix[:1])
    assert observed.count("applications", outcome="dropped") == 5 + 7 + 1
    scorer.may.set()
    until(lambda: "shadow-challenger" not in {thread.name for thread in threading.enumerate()})
    assert observed.count("applications", outcome="scored") == 0
    assert [len(table) for table in DecisionLogReader(tmp_path / "log" / "shadow").tables(["index"])] == []


def test_rows_that_are_forgotten_hold_nothing_of_an_applicant(
    small: StoredModel, applications: Columns, model_matrix: NDArray[np.float64]
) -> None:
    scores, callers = small.scorer.score_matrix(model_matrix[:2]), [Caller("r-1", "a"), Caller("r-1", "b")]
    for same in (True, False):
        memory = RowMemory(RowShape.of(small, 2, same_features=same))
        kept = memory.halves[0]
        assert kept.put("/predict", callers, applications.take(slice(0, 2)), model_matrix[:2], scores)
        assert b"r-1" in os.pread(memory.descriptor, 1 << 20, 0)
        kept.forget()
        assert np.isnan(kept.numbers).all()
        assert np.isnan(kept.probability).all()
        assert b"r-1" not in os.pread(memory.descriptor, 1 << 20, 0)


def test_applications_whose_notes_have_no_room_are_not_kept(
    small: StoredModel, model_matrix: NDArray[np.float64]
) -> None:
    kept = RowMemory(RowShape.of(small, 2, same_features=True)).halves[0]
    scores = small.scorer.score_matrix(model_matrix[:1])
    for client, there in (("x" * 1500, True), ("x" * 500, False), ("x", True)):
        assert kept.put("/predict", [Caller("r-1", client)], None, model_matrix[:1], scores) is there
    assert [caller[1] for caller in kept.told().callers] == ["x" * 1500, "x"]


def refused(*_: object, **__: object) -> int:
    raise PermissionError("planted")


def test_a_sandbox_without_files_in_memory_has_shadows_all_the_same(
    small: StoredModel, artefact: Artefact, model_matrix: NDArray[np.float64], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.memfd_create", refused, raising=False)
    observed = Observed(small, Scorer(artefact))
    observed.offer(model_matrix[:3])
    observed.shadow.close()
    assert observed.count("applications", outcome="scored") == 3


def test_memory_without_room_is_refused_when_it_is_made_and_not_when_it_is_used(
    small: StoredModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page that could not be had later would end the worker by SIGBUS."""
    monkeypatch.setattr("os.memfd_create", refused, raising=False)
    monkeypatch.setattr("tempfile.TemporaryFile", lambda **_: os.fdopen(os.open("/dev/full", os.O_RDWR), "r+b", 0))
    with pytest.raises(OSError, match="No space left"):
        RowMemory(RowShape.of(small, 2, same_features=True))


class Watched(Shadow):
    """Notes when it is told of decisions."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.events: list[str] = []
        super().__init__(*arguments, **options)

    def offer(self, *arguments: Any) -> None:
        self.events.append("told")
        super().offer(*arguments)


class Sent:
    """Notes when an answer is sent."""

    def __init__(self, events: list[str]) -> None:
        self._events = events

    def done(self) -> bool:
        return False

    def set_result(self, _: object) -> None:
        self._events.append("answered")

    def set_exception(self, error: BaseException) -> None:
        raise error


def test_shadows_are_told_of_a_direct_answer_when_it_has_left(
    small: StoredModel, artefact: Artefact, applications: Columns
) -> None:
    registry = CollectorRegistry()
    metrics, judge = ShadowMetrics("one", registry=registry), OwnJudge(small, PORTFOLIO)
    shadow = Watched("one", model(Scorer(artefact)), small, metrics, judge, registry=registry)
    champion = Variant("champion", small, SERVING, lambda *_: None, shadows=[shadow])

    async def ask() -> None:
        assert champion.replies is not None
        for row in range(2):
            given = CallerRows(applications.take(slice(row, row + 1)), [Caller("r-1", str(row))])
            champion.replies.put(given, Sent(shadow.events))
        await asyncio.sleep(0)

    for _ in range(2):
        asyncio.run(ask())
    assert shadow.events == ["answered", "answered", "told"] * 2
    shadow.close()
    labels = {"variant": "one", "outcome": "scored"}
    assert registry.get_sample_value("credit_scoring_shadow_applications_total", labels) == 4


def test_an_application_that_cannot_be_kept_for_a_shadow_is_answered_all_the_same(
    small: StoredModel, artefact: Artefact, model_matrix: NDArray[np.float64]
) -> None:
    observed = Observed(small, Scorer(artefact))
    scores = small.scorer.score_matrix(model_matrix[:3])
    observed.shadow.offer("/predict", [Caller("r-1", None)] * 3, None, model_matrix[:3, :2], scores)
    assert observed.count("applications", outcome="failed") == 3
    observed.shadow.close()


def test_threads_of_a_challenger_beat_under_a_name_of_their_own(
    small: StoredModel, artefact: Artefact, tmp_path: Path
) -> None:
    observed = Observed(small, Scorer(artefact), tmp_path / "log")
    name = "credit_scoring_thread_heartbeat_timestamp_seconds"
    told = {sample.labels["thread"] for metric in observed.registry.collect() for sample in metric.samples
            if sample.name == name}  # fmt: skip
    assert told == {"decision-log", "drift", "metrics", "decision-log-challenger", "shadow-challenger"}
    observed.shadow.close()


def test_a_challenger_of_the_champions_model_has_counts_of_its_own(
    small: StoredModel, model_matrix: NDArray[np.float64], tmp_path: Path
) -> None:
    registry, chosen, environment = CollectorRegistry(), settings(), {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    made = partial(open_recorder, small, chosen.recording, chosen.drift, environment, registry=registry)
    champion = made()
    for recorder, rows in ((champion, 3), (made(variant="challenger", beside=champion), 2)):
        matrix = model_matrix[:rows]
        recorder.record("/predict", [Caller("r-1", None)] * rows, matrix, small.scorer.score_matrix(matrix))
        recorder.publish()
    assert champion.drift()["rows"] == 3


class Unclosable(Shadow):
    """Says that it cannot be closed."""

    def close(self) -> None:
        super().close()
        raise OSError("planted")


def test_what_can_be_closed_is_closed_after_an_error(small: StoredModel, artefact: Artefact) -> None:
    registry = CollectorRegistry()
    metrics = [ShadowMetrics(name, registry=registry) for name in ("one", "two")]
    one, two = (
        kind(metric_of, model(Scorer(artefact)), small, metric, OwnJudge(small, PORTFOLIO), registry=registry)
        for kind, metric_of, metric in zip((Unclosable, Shadow), ("one", "two"), metrics, strict=True)
    )
    engine = DecisionEngine(
        small, Requests(PORTFOLIO), SERVING, lambda *_: None, shadows=[one, two], registry=registry
    )  # fmt: skip
    with pytest.raises(OSError, match="planted"):
        engine.close()
    names = {thread.name for thread in threading.enumerate()}
    assert not names & {"shadow-one", "shadow-two"}


def until(condition: Callable[[], bool]) -> None:
    waiting = threading.Event()
    for _ in range(6_000):
        if condition():
            return
        waiting.wait(0.01)
    raise AssertionError("not within a minute")


def settings_of(name: str, share: float, end: str = "low") -> VariantSettings:
    return VariantSettings.model_validate(sharing(name, share, end))


@pytest.mark.parametrize("share", [None, 0.3])
def test_taking_the_first_share_away_moves_no_client_of_the_second(
    small: StoredModel, stricter: Artefact, share: float | None
) -> None:
    other = Variant("two", model(Scorer(stricter)), SERVING, lambda *_: None)
    first = [] if share is None else [(settings_of("one", share), None)]
    engine = DecisionEngine(
        small, Requests(PORTFOLIO), SERVING, lambda *_: None,
        challengers=[*first, (settings_of("two", 0.3, "high"), other)], registry=CollectorRegistry(),
    )  # fmt: skip
    salt = SERVING.split.salt
    expected = [variant_of(str(client), {}, salt, high={"two": 0.3}) for client in range(200)]
    assert [engine.split.of(str(client)).name for client in range(200)] == expected


def test_a_challenger_that_is_not_there_moves_nobody(small: StoredModel, stricter: Artefact) -> None:
    other, registry = Variant("two", model(Scorer(stricter)), SERVING, lambda *_: None), CollectorRegistry()
    engine = DecisionEngine(
        small, Requests(PORTFOLIO), SERVING, lambda *_: None,
        challengers=[(settings_of("one", 0.3), None), (settings_of("two", 0.3, "high"), other)], registry=registry,
    )  # fmt: skip
    salt = SERVING.split.salt
    expected = [variant_of(str(client), {"one": 0.3}, salt, high={"two": 0.3}) for client in range(200)]
    chosen = [engine.split.of(str(client)).name for client in range(200)]
    assert chosen == ["two" if name == "two" else "champion" for name in expected]
    assert {"one", "two"} < set(expected)


class Contest:
    """An engine in which a challenger decides for half of the clients."""

    def __init__(
        self, champion: StoredModel, scorer: Scorer, halt: Path | None = None, *, seconds: float = 60.0,
        log: Path | None = None,
    ) -> None:  # fmt: skip
        self.before = set(threading.enumerate())
        self.registry = CollectorRegistry()
        self.halt = HaltFile(halt, registry=self.registry)
        guard = {"guard": GuardSettings(failures=3, of=10), "seconds": seconds}
        chosen = SERVING.model_copy(update={"split": SERVING.split.model_copy(update=guard)})
        self.other = model(scorer)
        recorder, others = self._recorders(champion, log)
        self.challenger = Variant("challenger", self.other, chosen, lambda *_: None, others, apart=True)
        self.engine = DecisionEngine(
            champion, Requests(PORTFOLIO), chosen, lambda *_: None, recorder,
            challengers=[(settings_of("challenger", 0.5), self.challenger)], halt=self.halt, registry=self.registry,
        )  # fmt: skip
        self.requests = Requests(PORTFOLIO)
        example = PORTFOLIO.declared.example
        salt = chosen.split.salt
        self.theirs = next(str(n) for n in range(99) if variant_of(str(n), {"challenger": 0.5}, salt) != "champion")
        self.example = self.requests.applications.model.model_validate(example)

    def _recorders(self, champion: StoredModel, log: Path | None) -> tuple[Recorder | None, Recorder | None]:
        if log is None:
            return None, None
        environment, chosen = {"DECISION_LOG_DIR": str(log), "DECISION_LOG_KEY": KEY}, settings()
        made = partial(open_recorder, registry=self.registry)
        recorder = made(champion, chosen.recording, chosen.drift, environment)
        others = made(
            self.other, chosen.recording, chosen.drift, environment, variant="challenger", beside=recorder
        )  # fmt: skip
        return recorder, others

    def request(self, client_id: str | None) -> PredictRequest:
        return PredictRequest.model_construct(application=self.example, client_id=client_id)

    def version(self, client_id: str | None) -> str:
        return str(asyncio.run(self.engine.predict(self.request(client_id)))["model_version"])

    def batch(self, *clients: str | None) -> list[str]:
        requests = [self.request(one) for one in clients]
        return [one["model_version"] for one in asyncio.run(self.engine.predict_batch(requests))["results"]]

    def count(self, variant: str, outcome: str) -> float | None:
        labels = {"variant": variant, "outcome": outcome}
        return self.registry.get_sample_value("credit_scoring_split_applications_total", labels)


def test_a_challenger_that_fails_leaves_the_decision_to_the_champion_and_is_halted_by_its_guard(
    small: StoredModel, artefact: Artefact, tmp_path: Path
) -> None:
    contest = Contest(small, broken(artefact), tmp_path / "halt")
    assert contest.version(contest.theirs) == small.version
    assert contest.batch(contest.theirs, None, contest.theirs) == [small.version] * 3
    assert (contest.count("challenger", "failed"), contest.count("champion", "unnamed")) == (3, 1)
    assert not contest.halt.halted
    assert contest.version(contest.theirs) == small.version
    contest.halt.look()
    assert (tmp_path / "halt").read_text() == "the challenger challenger failed too often\n"
    assert contest.halt.halted
    assert contest.version(contest.theirs) == small.version
    assert contest.count("challenger", "halted") == 1
    (tmp_path / "halt").unlink()
    contest.halt.look()
    assert contest.engine.split.halted("challenger") == "failures"
    [_, told] = described([Challenger(SERVING_VARIANT, VariantState.DECIDES, contest.other)], contest.engine.split)
    assert (told["state"], told["version"]) == ("halted", contest.other.version)


def recorded(log: Path) -> list[str]:
    """The variants of the decisions that a log has."""
    return [name for table in DecisionLogReader(log).tables(["variant"]) for name in table["variant"].to_pylist()]


def ended(contest: Contest, scorer: Stuck) -> None:
    """Let a stuck challenger go on, and wait until its threads have ended."""
    contest.engine.close()
    scorer.may.set()
    theirs = {one for one in set(threading.enumerate()) - contest.before if one.name.startswith("challenger")}
    until(lambda: not any(one.is_alive() for one in theirs))


def test_the_champion_decides_where_a_challenger_takes_too_long_and_nobody_decides_twice(
    small: StoredModel, artefact: Artefact, tmp_path: Path
) -> None:
    scorer = Stuck(artefact)
    contest = Contest(small, scorer, log=tmp_path / "log", seconds=0.05)
    assert contest.version(contest.theirs) == small.version
    assert contest.batch(contest.theirs, None) == [small.version, small.version]
    assert contest.engine.split.halted("challenger") is None
    assert contest.batch(contest.theirs) == [small.version]
    assert (contest.count("challenger", "failed"), contest.count("challenger", "decided")) == (3, 0)
    assert contest.engine.split.halted("challenger") == "failures"
    ended(contest, scorer)
    assert recorded(tmp_path / "log") == ["champion"] * 4


def test_a_request_that_is_cancelled_is_no_failure_of_a_challenger_and_leaves_no_record(
    small: StoredModel, artefact: Artefact, tmp_path: Path
) -> None:
    scorer = Stuck(artefact)
    contest = Contest(small, scorer, log=tmp_path / "log")

    async def cancelled() -> None:
        asked = asyncio.ensure_future(contest.engine.predict(contest.request(contest.theirs)))
        await asyncio.to_thread(scorer.began.wait)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked

    asyncio.run(cancelled())
    ended(contest, scorer)
    assert (contest.count("challenger", "failed"), contest.count("challenger", "decided")) == (0, 0)
    assert recorded(tmp_path / "log") == []


def test_a_challenger_that_cannot_record_is_refused_like_the_champion_and_halted_by_its_guard(
    small: StoredModel, artefact: Artefact
) -> None:
    scorer = broken(artefact)
    scorer.error = Unrecorded.after(1)
    contest = Contest(small, scorer)
    for ask in (contest.version, contest.version, contest.batch):
        with pytest.raises(Unrecorded):
            ask(contest.theirs)
    assert contest.count("challenger", "failed") == 3
    assert contest.version(contest.theirs) == small.version


@pytest.mark.parametrize(("part", "changes"), [("told", False), ("search", True)])
def test_a_challenger_that_cannot_tell_its_decision_is_counted_and_nobody_decides_again(
    small: StoredModel, artefact: Artefact, tmp_path: Path, part: str, changes: bool
) -> None:
    contest = Contest(small, Scorer(artefact), log=tmp_path / "log")
    setattr(contest.challenger, part, {})
    request = ExplainRequest.model_construct(application=contest.example, client_id=contest.theirs, changes=changes)
    with pytest.raises((KeyError, AttributeError)):
        asyncio.run(contest.engine.explain(request))
    assert contest.count("challenger", "failed") == 1
    contest.engine.close()
    assert recorded(tmp_path / "log") == ["challenger"]


def test_the_thread_writes_the_halt_file_and_keeps_the_gauge(
    small: StoredModel, artefact: Artefact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    halt, writers = tmp_path / "halt", list[str]()

    def noted(path: Path, text: str) -> None:
        writers.append(threading.current_thread().name)
        write_text(path, text)

    monkeypatch.setattr("serving.split.write_text", noted)
    contest = Contest(small, broken(artefact), halt)

    def gauge() -> float | None:
        labels = {"variant": "challenger", "reason": "halt_file"}
        return contest.registry.get_sample_value("credit_scoring_variant_halted", labels)

    for _ in range(3):
        contest.version(contest.theirs)
    until(lambda: gauge() == 1)
    assert writers == ["halt"]
    halt.unlink()
    until(lambda: gauge() == 0)


def test_a_halt_file_that_cannot_be_written_is_tried_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    place = tmp_path / "mounted"
    place.write_text("")
    watched = HaltFile(place / "halt", registry=CollectorRegistry())
    watched.write("a reason")
    watched.look()
    watched.look()
    assert not watched.halted
    place.unlink()
    place.mkdir()
    until(lambda: watched.halted)
    assert (place / "halt").read_text() == "a reason\n"
    assert [one.levelname for one in caplog.records] == ["ERROR", "WARNING"]


@pytest.mark.parametrize("error", [ColumnsError("planted"), PermissionError(13, "planted"), ArtefactError("planted")])
def test_a_challenger_that_cannot_be_loaded_is_missing_and_stops_nothing(
    small: StoredModel, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(_: str) -> StoredModel:
        raise error

    monkeypatch.setattr("serving.variants.load_stored", damaged)
    written = SERVING.model_dump(mode="json") | {"variants": [sharing("challenger", 0.5)]}
    [found] = load_challengers(ServingSettings.model_validate(written), small)
    assert (found.state, found.served) == ("missing", None)


SERVING_VARIANT = settings_of("challenger", 0.5)


def test_a_halt_file_that_cannot_be_read_halts(small: StoredModel, stricter: Artefact, tmp_path: Path) -> None:
    contest = Contest(small, Scorer(stricter), tmp_path / "halt")
    assert contest.version(contest.theirs) == contest.other.version
    assert contest.version(None) == small.version
    assert contest.batch(contest.theirs, None) == [contest.other.version, small.version]
    (tmp_path / "halt").mkdir()
    contest.halt.look()
    assert contest.version(contest.theirs) == small.version
    (tmp_path / "halt").rmdir()
    contest.halt.look()
    assert contest.version(contest.theirs) == contest.other.version


def test_rows_of_the_champions_matrix_go_by_the_split_where_both_models_read_them(
    small: StoredModel, stricter: Artefact, artefact: Artefact
) -> None:
    clip = {name: (low, low) for name, (low, _) in artefact.features.clip.items()}
    other = with_conformance(replace(artefact, features=replace(artefact.features, clip=clip)))
    for scorer, decides in ((Scorer(stricter), True), (Scorer(other), False)):
        contest = Contest(small, scorer)
        split = contest.engine.split
        assert (split.of(contest.theirs, of_matrix=True) is split.champion) is not decides
    assert contest.count("challenger", "unreadable") == 1
