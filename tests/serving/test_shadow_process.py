"""A challenger in shadow whose judge is a process of its own: what it records, and what ends it."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from decision_log.format import Caller
from decision_log.reader import DecisionLogReader
from features.transformer import Columns
from scoring.artefact import Artefact
from scoring.scorer import Scorer, with_conformance
from scoring.store import StoredModel
from serving.judge_process import JudgeProcess, Opening
from serving.shadow import Shadow, ShadowMetrics
from tests.monitoring.recording import KEY, settings
from tests.serving.test_variants import model, until


class Apart:
    """A shadow with a process, beside a champion."""

    def __init__(self, champion: StoredModel, artefact: Artefact, *, recorded: bool = False) -> None:
        self.registry = CollectorRegistry()
        self.champion, served = champion, model(Scorer(artefact))
        self.judge = JudgeProcess(
            Opening.of("challenger", served, champion, settings().recording if recorded else None)
        )
        metrics = ShadowMetrics("challenger", registry=self.registry)
        self.shadow = Shadow("challenger", served, champion, metrics, self.judge, registry=self.registry)

    def offer(self, matrix: NDArray[np.float64], columns: Columns | None = None) -> None:
        scores = self.champion.scorer.score_matrix(matrix)
        callers = [Caller("r-1", str(row), row) for row in range(len(matrix))]
        self.shadow.offer("/predict", callers, columns, matrix, scores)

    def count(self, name: str, **labels: str) -> float:
        found = self.registry.get_sample_value(
            f"credit_scoring_shadow_{name}_total", {"variant": "challenger", **labels}
        )
        assert found is not None
        return found

    def outcomes(self) -> dict[str, float]:
        return {one: self.count("applications", outcome=one) for one in ("scored", "failed", "dropped")}

    def process(self) -> int:
        until(lambda: self.judge.pid is not None)
        assert self.judge.pid is not None
        return self.judge.pid


def stricter(artefact: Artefact) -> Artefact:
    policy = artefact.policy
    return with_conformance(replace(artefact, policy=replace(policy, refer_from=0.01, refer_to=policy.cutoff)))


@pytest.mark.slow
def test_a_process_counts_and_records_what_a_direct_computation_gives(
    small: StoredModel, artefact: Artefact, model_matrix: NDArray[np.float64], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("DECISION_LOG_DIR", str(tmp_path / "log"))
    monkeypatch.setenv("DECISION_LOG_KEY", KEY)
    (tmp_path / "log").mkdir()
    other = stricter(artefact)
    apart = Apart(small, other, recorded=True)
    apart.offer(model_matrix)
    apart.shadow.close()
    champion, challenger = small.scorer.score_matrix(model_matrix), Scorer(other).score_matrix(model_matrix)
    kinds = ("approve", "refer", "decline")
    found = {(a, b): apart.count("decisions", champion=a, challenger=b) for a in kinds for b in kinds}
    assert found == {
        (a, b): np.count_nonzero((champion.decision == a) & (challenger.decision == b)) for a in kinds for b in kinds
    }
    assert apart.outcomes() == {"scored": len(model_matrix), "failed": 0, "dropped": 0}
    assert apart.count("pd", of="champion") == pytest.approx(champion.probability.sum())
    assert apart.count("pd", of="challenger") == pytest.approx(challenger.probability.sum())
    columns = ["index", "variant", "margin", "decision"]
    [table] = list(DecisionLogReader(tmp_path / "log" / "shadow").tables(columns))
    assert table["index"].to_pylist() == list(range(len(model_matrix)))
    assert set(table["variant"].to_pylist()) == {"challenger"}
    assert table["margin"].to_pylist() == challenger.margin.tolist()
    assert table["decision"].to_pylist() == challenger.decision.tolist()


@pytest.mark.slow
def test_a_process_makes_the_matrix_of_other_features(
    small: StoredModel, artefact: Artefact, applications: Columns, model_matrix: NDArray[np.float64]
) -> None:
    clip = {name: (low, low) for name, (low, _) in artefact.features.clip.items()}
    other = with_conformance(replace(artefact, features=replace(artefact.features, clip=clip)))
    apart = Apart(small, other)
    apart.offer(model_matrix[:9], applications.take(slice(0, 9)))
    apart.shadow.close()
    assert apart.outcomes() == {"scored": 9, "failed": 0, "dropped": 0}
    expected = Scorer(other).score(applications.take(slice(0, 9))).probability.sum()
    assert apart.count("pd", of="challenger") == pytest.approx(expected)


@pytest.mark.slow
def test_a_process_that_is_killed_is_counted_and_another_takes_its_place(
    small: StoredModel, artefact: Artefact, model_matrix: NDArray[np.float64], caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("serving.judge_process._RESTART_SECONDS", 0.0)
    apart = Apart(small, artefact)
    apart.offer(model_matrix[:2])
    until(lambda: apart.count("applications", outcome="scored") == 2)
    first = apart.process()
    os.kill(first, signal.SIGKILL)
    apart.offer(model_matrix[:3])
    until(lambda: apart.count("applications", outcome="failed") == 3)
    apart.offer(model_matrix[:4])
    until(lambda: apart.count("applications", outcome="scored") == 2 + 4)
    assert apart.process() != first
    apart.shadow.close()
    assert [one.getMessage() for one in caplog.records] == ["the challenger challenger in shadow fails: ProcessError"]


@pytest.mark.slow
def test_a_process_that_cannot_open_its_log_fails_and_ends(
    small: StoredModel, artefact: Artefact, model_matrix: NDArray[np.float64], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "log").write_text("a file")
    monkeypatch.setenv("DECISION_LOG_DIR", str(tmp_path / "log"))
    monkeypatch.setenv("DECISION_LOG_KEY", KEY)
    apart = Apart(small, artefact, recorded=True)
    apart.offer(model_matrix[:3])
    apart.shadow.close()
    assert apart.outcomes() == {"scored": 0, "failed": 3, "dropped": 0}
    assert "the challenger challenger in shadow cannot begin: " in capfd.readouterr().err


@pytest.mark.slow
def test_a_process_that_does_not_answer_holds_nobody_up_and_is_ended(
    small: StoredModel, artefact: Artefact, model_matrix: NDArray[np.float64], monkeypatch: pytest.MonkeyPatch
) -> None:
    apart = Apart(small, artefact)
    apart.offer(model_matrix[:2])
    until(lambda: apart.count("applications", outcome="scored") == 2)
    stopped = apart.process()
    os.kill(stopped, signal.SIGSTOP)
    apart.offer(model_matrix[:5])
    monkeypatch.setattr("serving.shadow._LAST_SECONDS", 1.0)
    apart.shadow.close()
    assert apart.outcomes() == {"scored": 2, "failed": 0, "dropped": 5}
    with pytest.raises(ProcessLookupError):
        os.kill(stopped, 0)
