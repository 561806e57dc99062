"""Another policy for a registered model: what changes, what stays, and the chain that proves it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import yaml
from mlflow import MlflowClient

from decision_log.reader import DecisionLogReader
from scoring.artefact import Artefact
from scoring.errors import ArtefactError
from scoring.policy import DecisionKind, DecisionPolicy, PointScale
from scoring.scorer import Scorer
from scoring.store import StoredModel
from tests.home_credit import PORTFOLIO
from tests.monitoring.recording import Worker
from tests.training.contests import Contest, register
from training.cli import main
from training.dataset import Dataset, load_dataset
from training.errors import RegistryError
from training.registry.commands import registry_lines
from training.registry.promotion import judge, judged_model, promote, rollback
from training.registry.registry import Registered, current_champion, find
from training.registry.revision import Flips, PolicyChange, base_artefact, log_flips, register_revision, revise
from training.registry.store import served_version
from training.run import Delivered
from training.settings import TrainingSettings

POLICY = DecisionPolicy(0.1, 0.09, 0.11, (0.04, 0.08, 0.16), 9, 1, PointScale(600, 50, 20))
NOW = datetime(2026, 5, 3, 12, 0, tzinfo=UTC)
KEPT = ("model.txt", "portfolio.json", "features.json", "calibration.json", "reference.json")


@pytest.mark.parametrize(
    ("change", "cutoff", "refer_from", "refer_to"),
    [
        (PolicyChange(cost_fn=19), 0.05, 0.045, 0.055),
        (PolicyChange(cost_fn=19, cutoff=0.2), 0.2, 0.18, 0.22),
        (PolicyChange(cutoff=0.2), 0.2, 0.18, 0.22),
        (PolicyChange(refer_from=0.05), 0.1, 0.05, 0.11),
        (PolicyChange(cost_fp=3, refer_to=0.3), 0.25, 0.225, 0.3),
        (PolicyChange(cutoff=1.0), 1.0, 0.9, 1.0),
    ],
)
def test_the_cut_off_follows_the_costs_and_the_refer_band_the_cut_off(
    change: PolicyChange, cutoff: float, refer_from: float, refer_to: float
) -> None:
    changed = change.of(POLICY)
    assert (changed.cutoff, changed.refer_from, changed.refer_to) == pytest.approx((cutoff, refer_from, refer_to))
    assert (changed.cost_fn, changed.cost_fp) == (change.cost_fn or 9, change.cost_fp or 1)
    assert (changed.level_bounds, changed.scale) == (POLICY.level_bounds, POLICY.scale)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (PolicyChange(), "the policy is as asked for already: nothing to revise"),
        (PolicyChange(cost_fn=9, cutoff=0.1), "the policy is as asked for already: nothing to revise"),
        (PolicyChange(refer_from=0.5), "a policy needs 0 <= refer_from <= cutoff <= refer_to <= 1"),
        (PolicyChange(cutoff=0.3, refer_to=0.2), "a policy needs 0 <= refer_from <= cutoff <= refer_to <= 1"),
    ],
)
def test_a_change_of_nothing_or_out_of_order_is_refused(change: PolicyChange, said: str) -> None:
    with pytest.raises(RegistryError) as refused:
        change.of(POLICY)
    assert str(refused.value) == said


def test_flips_and_costs_are_those_of_a_hand_count() -> None:
    after = PolicyChange(cutoff=0.2).of(POLICY)
    probability = np.array([0.05, 0.1, 0.15, 0.19, 0.3])
    found = Flips.of(probability, POLICY.outcomes(probability), after.outcomes(probability), POLICY, after)
    changed = {pair: count for pair, count in found.changed.items() if count}
    assert changed == {
        (DecisionKind.REFER, DecisionKind.APPROVE): 1,
        (DecisionKind.DECLINE, DecisionKind.APPROVE): 1,
        (DecisionKind.DECLINE, DecisionKind.REFER): 1,
    }
    assert found.cost_before == pytest.approx((9 * 0.05 + 0.9 + 0.85 + 0.81 + 0.7) / 5)
    assert found.cost_after == pytest.approx((9 * (0.05 + 0.1 + 0.15 + 0.19) + 0.7) / 5)
    halves = [slice(0, 2), slice(2, 5)]
    parts = [
        Flips.of(part, POLICY.outcomes(part), after.outcomes(part), POLICY, after)
        for part in (probability[half] for half in halves)
    ]
    together = Flips.together(parts)
    assert (together.rows, together.changed) == (5, found.changed)
    assert (together.cost_before, together.cost_after) == pytest.approx((found.cost_before, found.cost_after))


@pytest.fixture(scope="module")
def dataset(generated: Path) -> Dataset:
    return replace(load_dataset(generated, PORTFOLIO), source="generated: application_train.csv")


@pytest.fixture(scope="module")
def contest(dataset: Dataset, delivered: Delivered, settings: TrainingSettings) -> Iterator[Contest]:
    """One version, the champion."""
    own = settings.model_copy(update={"tracking": settings.tracking.model_copy(update={"model": "revised_model"})})
    only = register(dataset, delivered.trained, own)
    versions = Contest(dataset, delivered.trained, own, only, only, only)
    versions.promote(only)
    yield versions
    versions.reset()


@pytest.fixture(scope="module")
def revised(contest: Contest) -> tuple[Registered, Artefact]:
    """The champion under a cut-off that declines fewer."""
    made, registered = register_revision(
        contest.first,
        PolicyChange(cost_fn=5),
        contest.dataset,
        contest.settings,
        note="the committee of May",
        now=NOW,
    )
    read = base_artefact(registered)
    assert (read.digest, registered.digest) == (made.after.digest, made.after.digest)
    return registered, read


def written(artefact: Artefact, folder: Path) -> Path:
    artefact.write(folder)
    return folder


def test_a_revision_keeps_the_model_to_the_bit_and_proves_its_origin(
    contest: Contest, revised: tuple[Registered, Artefact], tmp_path: Path
) -> None:
    registered, after = revised
    base = base_artefact(contest.first)
    old, new = written(base, tmp_path / "old"), written(after, tmp_path / "new")
    assert all((old / name).read_bytes() == (new / name).read_bytes() for name in KEPT)
    assert after.policy == PolicyChange(cost_fn=5).of(base.policy)
    (link,) = after.lineage["revisions"]
    assert (after.revises, base.revises) == (contest.first.digest, None)
    assert {name: link[name] for name in ("version", "at", "note", "revises", "policy")} == {
        "version": contest.first.version,
        "at": "2026-05-03T12:00:00Z",
        "note": "the committee of May",
        "revises": base.digest,
        "policy": base.policy_version,
    }
    assert link["files"] == {
        path.name: sha256(path.read_bytes()).hexdigest() for path in old.iterdir() if path.name != "manifest.json"
    }
    assert after.lineage["run_id"] == registered.run_id
    assert after.lineage["data"] == base.lineage["data"]


def test_a_revision_of_a_revision_is_a_chain_and_a_forged_link_is_refused(
    contest: Contest, revised: tuple[Registered, Artefact], tmp_path: Path
) -> None:
    first = revised[1]
    second = first.revised(
        PolicyChange(cutoff=0.3).of(first.policy), reasons=first.reasons, metrics={}, run_id="r", stated={"note": "2"}
    )
    chained = replace(second, conformance=first.conformance)
    folder = written(chained, tmp_path / "chain")
    assert Artefact.read(folder) == chained
    assert [one["revises"] for one in chained.lineage["revisions"]] == [contest.first.digest, first.digest]

    def with_link(place: int, **values: object) -> Artefact:
        links = [dict(one) for one in chained.lineage["revisions"]]
        links[place] |= values
        return replace(chained, lineage={**chained.lineage, "revisions": links})

    files = chained.lineage["revisions"][1]["files"]
    forged = [
        with_link(0, note="another committee"),
        with_link(0, revises="0" * 64),
        with_link(1, files={**files, "model.txt": "0" * 64}),
        with_link(1, run_id="another"),
        with_link(1, files=None),
        replace(chained, lineage={**chained.lineage, "revisions": chained.lineage["revisions"][1:]}),
        replace(chained, calibration=replace(chained.calibration, slope=2.0)),
    ]
    for number, artefact in enumerate(forged):
        place = written(artefact, tmp_path / str(number))
        with pytest.raises(ArtefactError) as refused:
            Artefact.read(place)
        assert str(refused.value) == f"{place}: is no revision of the artefact that it names"
        shutil.rmtree(place)


def test_reasons_compare_with_applicants_at_the_new_cut_off(
    contest: Contest, revised: tuple[Registered, Artefact], delivered: Delivered
) -> None:
    base, after = base_artefact(contest.first), revised[1]
    assert base.reasons is not None
    assert after.reasons is not None
    assert after.reasons.version != base.reasons.version
    scorer = Scorer(base)
    matrix = scorer.transformer.transform(contest.dataset.columns)
    probability = scorer.score_matrix(matrix).probability
    passing = np.flatnonzero(probability < after.policy.cutoff)
    nearest = passing[np.argsort(after.policy.cutoff - probability[passing], kind="stable")][: base.reasons.rows]
    expected = type(base.reasons).interventional(scorer.model, "cut_off", matrix[nearest])  # type: ignore[arg-type]
    assert after.reasons == expected
    # Back at the cut-off of the training, the same rows give the reference that the training drew.
    back = PolicyChange(cost_fn=base.policy.cost_fn, cutoff=base.policy.cutoff)
    there = revise(revised[0], back, contest.dataset, contest.settings, run_id="r", note="", now=NOW)
    assert there.after.reasons == delivered.trained.reasons


def test_it_is_judged_promoted_and_rolled_back_like_any_version(
    contest: Contest, revised: tuple[Registered, Artefact]
) -> None:
    registered = revised[0]
    judged = judged_model(registered, contest.dataset)
    assert judged.fitted_on == len(contest.dataset)
    assert judged.probability.tolist() == judged_model(contest.first, contest.dataset).probability.tolist()
    verdict = judge(registered, contest.dataset, contest.settings)
    gates = {gate.name: gate for gate in verdict.gates}
    assert gates["AUC minus the champion's, lower end"].figure == "+0.0000 (+0.0000)"
    assert gates["cost minus the champion's, upper end"].figure == "+0.0000 (+0.0000)"
    contest_gates = [gate for gate in verdict.gates if not gate.passed]
    if contest_gates:
        assert [gate.name for gate in contest_gates] == ["first reasons that differ from the champion's"]
        verdict = replace(verdict, gates=tuple(gate for gate in verdict.gates if gate.passed))
    promote(verdict, datetime.now(UTC))
    assert str(served_version(contest.name)) == registered.tag
    assert current_champion(contest.name) == registered
    rollback(contest.name, datetime.now(UTC))
    assert current_champion(contest.name) == contest.first
    lines = [*registry_lines(contest.name)]
    assert f"version {registered.version} revises the policy of version {contest.first.version}" in lines


def test_a_decision_log_is_decided_again_by_the_new_policy(
    contest: Contest, revised: tuple[Registered, Artefact], tmp_path: Path
) -> None:
    base, after = Scorer(base_artefact(contest.first)), Scorer(revised[1])
    columns = contest.dataset.columns.take(np.arange(200))
    worker = Worker(StoredModel(contest.name, "1-abc", base), tmp_path / "counts", tmp_path / "log")
    worker.record(len(columns), base.transformer.transform(columns))
    worker.recorder.close()
    flips = log_flips(DecisionLogReader(tmp_path / "log", digest=base.artefact.digest), after, base.artefact.policy)
    was, now = base.score(columns).decision, after.score(columns).decision
    expected = {pair: int(np.count_nonzero((was == pair[0]) & (now == pair[1]))) for pair in flips.changed}
    assert (flips.rows, flips.changed) == (200, expected)
    assert sum(expected.values()) > 0


def test_the_command_shows_what_changes_and_registers_a_challenger(
    contest: Contest, generated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "training.yaml"
    file.write_text(yaml.safe_dump(contest.settings.model_dump(mode="json")))
    given = ["policy", "--settings", str(file), "--data", str(generated), "--cutoff", "0.11"]
    assert main([*given, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "cutoff" in shown
    assert "note: at these costs 0.0909 is the cheapest cut-off" in shown
    assert "is challenger" not in shown
    assert main([*given, "--note", "May"]) == 0
    lines = capsys.readouterr().out.splitlines()
    made = find(contest.name, "@challenger")
    assert f"{made} is challenger; it revises {contest.first}" in lines
    tags = MlflowClient().get_model_version(contest.name, made.version).tags
    assert tags["revises"] == contest.first.digest
    assert json.loads(tags["gates"])
    assert (
        main(["report", "--settings", str(file), "--version", made.version, "--output", str(tmp_path / "r.html")]) == 0
    )
    page = (tmp_path / "r.html").read_text()
    assert f"the model of\nversion {contest.first.version}" in page
    assert '<td class="l">May</td>' in page
    assert main([*given, "--version", made.version]) == 1
    assert capsys.readouterr().err.endswith("error: the policy is as asked for already: nothing to revise\n")
