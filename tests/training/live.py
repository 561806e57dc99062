"""What the tests of live tests share: designs, applicants, planted variants of generated clients, and real logs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from configs.portfolios.home_credit.generator.application import draw_clients
from configs.portfolios.home_credit.generator.population import Chunk, Split
from decision_log.format import Caller, ClientHash, Header, LineFormat
from decision_log.segments import WorkerId
from decision_log.writer import DecisionLogWriter, Position
from scoring.policy import DecisionKind
from scoring.scorer import Scores
from tests.monitoring.recording import KEY, settings
from training.live.arms import LiveApplicants
from training.live.plan import LiveDesign

STARTS = 1_770_000_000.0
DAY = 86_400.0
APPROVE, REFER, DECLINE = range(3)
DESIGN = {
    "name": "autumn",
    "shares": [0.5, 0.5],
    "starts": "2026-02-02T00:00:00Z",
    "metric": "profit",
    "difference": 0.1,
    "alpha": 0.05,
    "power": 0.8,
    "rule": "fixed",
    "looks": 1,
    "assumed": {"default_rate": 0.06, "approval_share": 0.7, "cost_fn": 10, "cost_fp": 1},
    "applicants_per_day": 500,
    "mature_days": 30,
}


def design(**changed: Any) -> LiveDesign:
    """A design with some of its settings changed; a rule with several looks has five unless they say otherwise."""
    looks = {"looks": 5} if changed.get("rule") == "obrien-fleming" else {}
    return LiveDesign.checked({**DESIGN, **looks, **changed}, Path("design"))


def applicants(
    arm: NDArray[Any],
    decision: NDArray[Any],
    outcome: NDArray[Any],
    other: NDArray[Any] | None = None,
    explored: NDArray[np.bool_] | None = None,
) -> LiveApplicants:
    """Applicants, one a second, whose decisions are given as positions in `DecisionKind`; outcome -1 is not known."""
    count = len(arm)
    keys = np.stack([np.arange(count), np.arange(count)], axis=1).astype(np.uint64)
    return LiveApplicants(
        keys=keys,
        requests=keys,
        time=((STARTS + np.arange(count)) * 1e6).astype(np.int64),
        arm=arm.astype(np.int8),
        decision=decision.astype(np.int8),
        explored=np.zeros(count, dtype=np.bool_) if explored is None else explored,
        outcome=outcome.astype(np.int8),
        other=np.full(count, -1, dtype=np.int8) if other is None else other.astype(np.int8),
        crossed=0,
        repeated=0,
        nameless=0,
    )


NOISE = {"champion": 1.0, "better": 0.0, "worse": 2.5}
"""How far a variant's log-odds are from the true ones: the standard deviation of its errors."""


@dataclass(frozen=True)
class Traffic:
    """Generated clients: their true PDs, and whom each variant approves; arrays of shape (n,)."""

    true_pd: NDArray[np.float64]
    approved: dict[str, NDArray[np.bool_]]

    def profit(self, variant: str) -> float:
        """The true profit per applicant: what would come of all clients on average."""
        return float((self.approved[variant] * ((1 - self.true_pd) - 10 * self.true_pd)).mean())

    def known_difference(self, challenger: str) -> float:
        return self.profit(challenger) - self.profit("champion")

    def test(
        self,
        challenger: str,
        rows: int,
        share: float,
        random: np.random.Generator,
        *,
        exploring: tuple[float, float] = (0.0, 0.0),
        covered: tuple[float, float] = (1.0, 1.0),
    ) -> LiveApplicants:
        """A test in which so many of the clients apply, drawn with replacement.

        Each variant approves a share of its declines at random, and a share of its applicants has shadow records.
        """
        who = random.integers(len(self.true_pd), size=rows)
        arm = (random.random(rows) < share).astype(np.int8)
        approved = np.stack([self.approved["champion"][who], self.approved[challenger][who]])
        own, other = approved[arm, np.arange(rows)], approved[1 - arm, np.arange(rows)]
        default = random.random(rows) < self.true_pd[who]
        explored = ~own & (random.random(rows) < np.array(exploring)[arm])
        outcome = np.where(own | explored, default, -1)
        shadow = np.where(random.random(rows) < np.array(covered)[arm], np.where(other, APPROVE, DECLINE), -1)
        return applicants(arm, np.where(own, APPROVE, DECLINE), outcome, shadow, explored)


@cache
def traffic() -> Traffic:
    """20,000 generated clients; a variant approves where its PD is below 1 / 11, the cut-off of the costs."""
    true_pd = draw_clients(Chunk(5, Split.TRAIN, 0, np.arange(1, 20_001))).true_pd
    random = np.random.default_rng(3)
    estimated = {name: expit(logit(true_pd) + random.normal(0, noise, len(true_pd))) for name, noise in NOISE.items()}
    return Traffic(true_pd, {name: pd < 1 / 11 for name, pd in estimated.items()})


@dataclass(frozen=True)
class LiveRecord:
    """One decision that a log shall hold."""

    client: str | None
    variant: str
    decision: int
    time: float
    request: str
    explored: bool = False


def write_log(folder: Path, records: list[LiveRecord]) -> None:
    """Write the decisions as workers do: each variant's model has segments of its own."""
    for number, variant in enumerate(dict.fromkeys(record.variant for record in records)):
        header = Header(variant, "1-abc", f"abc{number}", ("a", "b"), "0123456789abcdef")
        worker = WorkerId("20260202T000000000000Z", "host-1", 42 + number)
        writer = DecisionLogWriter(folder, worker, header, settings(log={"segment_bytes": 1 << 24}).recording.log)
        lines = LineFormat(header, ClientHash(bytes.fromhex(KEY)), variant)
        for record in (one for one in records if one.variant == variant):
            caller = Caller(record.request, record.client)
            line = lines.lines(
                "/predict",
                [caller],
                np.zeros((1, 2)),
                _scores(record.decision),
                record.time,
                explored=np.array([record.explored]),
            )
            assert isinstance(writer.append(line), Position)
        writer.close()


def _scores(decision: int) -> Scores:
    kinds = np.array([list(DecisionKind)[decision]], dtype=object), np.array(["LOW"], dtype=object)
    nothing = np.empty(1, dtype=object)
    nothing[0] = ()
    count = np.zeros(1, dtype=np.int64)
    return Scores(np.array([-2.0]), np.array([0.12]), count, *kinds, count, count, nothing, nothing, nothing)
