"""Who is in charge, and how that changes: gates, alias, history and the BentoML store."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import bentoml
import mlflow
import numpy as np
import pytest
import yaml
from mlflow import MlflowClient

from scoring.scorer import Scorer
from tests.home_credit import PORTFOLIO
from tests.server import ROOT
from tests.training.contests import Contest, register
from tests.training.contests import contest as make_contest
from training.cli import main
from training.dataset import Dataset, load_dataset
from training.errors import GateError, RegistryError
from training.registry import promotion
from training.registry.commands import registry_lines
from training.registry.promotion import judge, judged_model, rollback
from training.registry.registry import (
    OUT_OF_FOLD,
    Action,
    Change,
    aliases,
    current_champion,
    find,
    put_in_charge,
    succession,
)
from training.registry.store import import_model
from training.run import Delivered, verdict_lines
from training.settings import TrainingSettings

STEPS = ("put_in_charge", "record_change", "import_model")


@pytest.fixture(scope="module")
def dataset(generated: Path) -> Dataset:
    return replace(load_dataset(generated, PORTFOLIO), source="generated: application_train.csv")


@pytest.fixture(scope="module")
def versions(dataset: Dataset, delivered: Delivered, settings: TrainingSettings) -> Contest:
    return make_contest(dataset, delivered.trained, settings, "promotion_model")


@pytest.fixture
def contest(versions: Contest) -> Iterator[Contest]:
    """Three versions, none in charge."""
    versions.reset()
    yield versions
    versions.reset()


@pytest.fixture
def settings_file(contest: Contest, tmp_path: Path) -> Path:
    path = tmp_path / "training.yaml"
    path.write_text(yaml.safe_dump(contest.settings.model_dump(mode="json")))
    return path


def now() -> datetime:
    return datetime.now(UTC)


def interrupted(monkeypatch: pytest.MonkeyPatch, step: str, command: Callable[[], object]) -> None:
    """Run a command that is killed when it comes to a step."""

    def kill(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(promotion, step, kill)
        with pytest.raises(KeyboardInterrupt):
            command()


def test_a_registered_version_is_challenger_until_it_is_promoted(contest: Contest) -> None:
    MlflowClient().set_registered_model_alias(contest.name, "challenger", contest.first.version)
    contest.promote(contest.first)
    assert aliases(contest.name) == {"champion": "1"}
    assert contest.in_charge() == ("1", "1", "1")


def test_the_model_trained_last_is_challenger(delivered: Delivered, versions: Contest) -> None:
    tracking = versions.settings.tracking.model_copy(update={"model": "challenged_model"})
    register(versions.dataset, delivered.trained, versions.settings.model_copy(update={"tracking": tracking}))
    assert aliases("challenged_model") == {"challenger": "1"}


def test_a_worse_challenger_is_refused_with_the_figures(contest: Contest) -> None:
    contest.promote(contest.first)
    with pytest.raises(GateError, match=r"^promotion_model version 3 is not promoted: it misses AUC, lower end; "):
        contest.promote(contest.bad)
    assert contest.in_charge() == ("1", "1", "1")
    kept = json.loads(MlflowClient().get_model_version(contest.name, "3").tags["gates"])
    figures = {gate["name"]: (gate["figure"], gate["passed"]) for gate in kept}
    verdict = judge(contest.bad, contest.dataset, contest.settings)
    assert figures["AUC, lower end"] == (verdict.gates[0].figure, False)
    assert figures["AUC minus the champion's, lower end"][1] is False


def test_a_version_judged_against_a_champion_that_was_replaced_meanwhile_is_refused(contest: Contest) -> None:
    verdict = judge(contest.second, contest.dataset, contest.settings)
    contest.promote(contest.first)
    with pytest.raises(RegistryError, match=r"version 2 was judged against no champion, but the champion has changed"):
        promotion.promote(verdict, now())
    assert contest.in_charge() == ("1", "1", "1")


def test_a_rollback_goes_back_one_champion_at_a_time(contest: Contest) -> None:
    contest.promote(contest.first)
    contest.promote(contest.second)
    assert contest.in_charge() == ("2", "2", "2")
    restored, tag = rollback(contest.name, now())
    assert (restored, str(tag)) == (contest.first, contest.first.tag)
    assert contest.in_charge() == ("1", "1", "1")
    with pytest.raises(RegistryError, match="version 1 is the first champion: there is none before it"):
        rollback(contest.name, now())
    assert contest.in_charge() == ("1", "1", "1")


def test_a_champion_that_was_deleted_is_passed_over_by_a_rollback(contest: Contest) -> None:
    for version in (contest.first, contest.second, contest.first):
        contest.promote(version)
    client, said = MlflowClient(), list[str]()
    name = contest.name
    gone = register(contest.dataset, contest.trained, contest.settings)
    contest.promote(gone)
    contest.promote(contest.second)
    client.delete_model_version(name, gone.version)
    assert rollback(name, now(), said.append)[0] == contest.first
    assert said == [f"passed over: {name} {gone.version}: not in the registry (RESOURCE_DOES_NOT_EXIST)"]
    assert contest.in_charge() == ("1", "1", "1")
    assert rollback(name, now())[0] == contest.second


def test_a_version_that_others_registered_is_listed(contest: Contest) -> None:
    client = MlflowClient()
    foreign = client.create_model_version(contest.name, "file:///nowhere")
    try:
        listed = [line.split()[0] for line in registry_lines(contest.name)]
    finally:
        client.delete_model_version(contest.name, foreign.version)
    assert listed == ["version", "1", "2", "3", str(foreign.version)]


def test_two_rollbacks_at_once_go_back_by_two(contest: Contest) -> None:
    """The second waits for the first, and begins where that has ended."""
    for version in (contest.first, contest.second, contest.first):
        contest.promote(version)
    with ThreadPoolExecutor(2) as pool:
        done = [pool.submit(rollback, contest.name, now()) for _ in range(2)]
    assert sorted(one.result()[0].version for one in done) == ["1", "2"]
    assert contest.in_charge() == ("1", "1", "1")


def test_a_rollback_that_waited_is_the_later_change_whatever_its_clock_said(contest: Contest) -> None:
    for version in (contest.first, contest.second, contest.first):
        contest.promote(version)
    asked_first = now()
    rollback(contest.name, now() + timedelta(hours=1))
    assert rollback(contest.name, asked_first)[0] == contest.first
    assert contest.in_charge() == ("1", "1", "1")


def test_of_two_promotions_at_once_the_second_must_be_judged_again(contest: Contest) -> None:
    verdicts = [judge(one, contest.dataset, contest.settings) for one in (contest.first, contest.second)]
    with ThreadPoolExecutor(2) as pool:
        done = [pool.submit(promotion.promote, verdict, now()) for verdict in verdicts]
    failed = [one.exception() for one in done if one.exception()]
    assert [type(error) for error in failed] == [RegistryError]
    assert "but the champion has changed: judge it again" in str(failed[0])
    alias, history, served = contest.in_charge()
    assert alias == history == served


def test_three_imports_at_once_leave_one_model(contest: Contest, settings_file: Path) -> None:
    contest.promote(contest.first)
    bentoml.models.delete(contest.first.tag)
    command = [sys.executable, "-m", "training", "import", "--settings", str(settings_file)]
    running = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [one.communicate()[0].split() for one in running] == [[contest.first.tag]] * 3
    assert contest.served() == "1"


def test_without_a_promotion_there_is_nothing_to_roll_back(contest: Contest) -> None:
    with pytest.raises(RegistryError, match=r"^promotion_model: no version was promoted$"):
        rollback(contest.name, now())


def test_a_version_that_was_rolled_back_may_be_promoted_again(contest: Contest) -> None:
    contest.promote(contest.first)
    contest.promote(contest.second)
    rollback(contest.name, now())
    contest.promote(contest.second)
    assert contest.in_charge() == ("2", "2", "2")
    assert rollback(contest.name, now())[0] == contest.first


def test_models_of_an_older_declaration_are_judged_promoted_and_put_back(
    contest: Contest, generated: Path, tmp_path: Path
) -> None:
    """Adding a feature to the portfolio is weekly work: what is registered stays of use."""
    declared = json.loads(PORTFOLIO.content)
    declared["features"]["domain"]["credit_per_child"] = {"is": "AMT_CREDIT / (CNT_CHILDREN + 1)"}
    declared["reasons"]["groups"]["credit_amount"]["features"].append("credit_per_child")
    (tmp_path / "portfolio.yaml").write_text(yaml.safe_dump(declared, sort_keys=False))
    values = contest.settings.model_dump(mode="json") | {"portfolio": str(tmp_path)}
    newer = TrainingSettings.model_validate(values)
    assert "credit_per_child" in newer.declared.features
    contest.promote(contest.first)
    verdict = judge(contest.second, load_dataset(generated, newer.declared), newer)
    assert verdict.champion is not None
    contest.promote(contest.second)
    rollback(contest.name, now())
    assert contest.in_charge() == ("1", "1", "1")


@pytest.fixture
def without_recorded(contest: Contest) -> Iterator[None]:
    """The first version's run kept no out-of-fold PDs."""
    kept = Path(mlflow.get_run(contest.first.run_id).info.artifact_uri.removeprefix("file://")) / OUT_OF_FOLD
    content = kept.read_bytes()
    kept.unlink()
    yield
    kept.write_bytes(content)


@pytest.fixture
def of_an_older_release(contest: Contest) -> Iterator[None]:
    """The first version was registered before all of its files had a digest."""
    MlflowClient().delete_model_version_tag(contest.name, "1", "model.sha256")
    yield
    assert contest.first.model
    MlflowClient().set_model_version_tag(contest.name, "1", "model.sha256", contest.first.model)


@pytest.mark.usefixtures("without_recorded")
def test_a_champion_that_cannot_be_compared_with_is_replaced_only_if_that_is_asked_for(contest: Contest) -> None:
    MlflowClient().set_registered_model_alias(contest.name, "champion", "1")
    verdict = judge(contest.second, contest.dataset, contest.settings)
    assert verdict.obstacle == "promotion_model version 1: its run kept no out-of-fold probabilities to compare with"
    assert f"  champion   cannot be compared with: {verdict.obstacle}" in list(verdict_lines(verdict))
    with pytest.raises(GateError, match=r"version 2 is not promoted: it misses comparison with the champion$"):
        contest.promote(contest.second)
    assert contest.in_charge() == ("1", None, None)
    contest.promote(contest.second, uncompared_allowed=True)
    assert contest.in_charge() == ("2", "2", "2")


def test_other_gates_hold_without_a_comparison(contest: Contest, of_an_older_release: None) -> None:
    MlflowClient().set_registered_model_alias(contest.name, "champion", "1")
    unseen = replace(contest.dataset, ids=contest.dataset.ids + 10_000_000)
    missed = judge(contest.second, unseen, contest.settings).missed
    assert [(gate.name, gate.limit) for gate in missed] == [("comparison with the champion", "--allow-uncompared")]
    MlflowClient().set_model_version_tag(contest.name, "1", "data.source", "application_train.csv")
    try:
        allowed = judge(contest.second, unseen, contest.settings, uncompared_allowed=True)
    finally:
        MlflowClient().set_model_version_tag(contest.name, "1", "data.source", contest.first.source)
    assert [gate.name for gate in allowed.missed] == ["data, against the champion's"]


def test_a_champion_of_an_older_release_is_listed_and_compared_with_on_its_own_rows(
    contest: Contest, of_an_older_release: None
) -> None:
    """Its files are not read: only its recorded PDs are."""
    put_in_charge(contest.first)
    assert [line.split()[0] for line in registry_lines(contest.name)][:4] == ["version", "1", "2", "3"]
    verdict = judge(contest.second, contest.dataset, contest.settings)
    assert (verdict.obstacle, verdict.missed) == (None, ())
    with pytest.raises(RegistryError, match="version 1: registered by an older release, without a digest of its files"):
        import_model(find(contest.name, "1"))
    contest.promote(contest.second)
    assert contest.in_charge() == ("2", "2", "2")


@pytest.mark.parametrize("step", STEPS)
def test_an_interrupted_promotion_serves_the_older_model_and_is_finished_by_the_same_command(
    contest: Contest, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    contest.promote(contest.first)
    interrupted(monkeypatch, step, lambda: contest.promote(contest.second))
    assert contest.served() == "1"
    contest.promote(contest.second)
    assert contest.in_charge() == ("2", "2", "2")
    assert rollback(contest.name, now())[0] == contest.first


@pytest.mark.parametrize("step", ["record_change", "import_model"])
def test_an_interrupted_promotion_is_taken_back_by_a_rollback(
    contest: Contest, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    contest.promote(contest.first)
    interrupted(monkeypatch, step, lambda: contest.promote(contest.second))
    assert rollback(contest.name, now())[0] == contest.first
    assert contest.in_charge() == ("1", "1", "1")


@pytest.mark.parametrize("step", STEPS)
def test_an_interrupted_rollback_given_again_goes_back_no_further(
    contest: Contest, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    for challenger in (contest.first, contest.second, contest.first):
        contest.promote(challenger)
    interrupted(monkeypatch, step, lambda: rollback(contest.name, now()))
    assert contest.served() == ("1" if step == "import_model" else "2")
    rollback(contest.name, now())
    assert contest.in_charge() == ("2", "2", "2")


def test_an_alias_set_by_hand_is_no_promotion(contest: Contest) -> None:
    contest.promote(contest.first)
    MlflowClient().set_registered_model_alias(contest.name, "champion", contest.bad.version)
    assert current_champion(contest.name) == contest.first
    with pytest.raises(GateError, match="version 3 is not promoted"):
        contest.promote(contest.bad)
    assert rollback(contest.name, now())[0] == contest.first
    assert contest.in_charge() == ("1", "1", "1")


@pytest.mark.parametrize(
    ("history", "line"),
    [
        ("", ""),
        ("+1", "1"),
        ("+1 +2 +3", "123"),
        ("+1 +2 -1", "1"),
        ("+1 +2 -1 +3", "13"),
        ("+1 +2 +1 +3 -1", "121"),
        ("+1 +2 +1 +3 -1 -2 -1", "1"),
        ("+1 +2 +3 +4 -2", "12"),
    ],
)
def test_the_succession_after_promotions_and_rollbacks(history: str, line: str) -> None:
    actions = {"+": Action.PROMOTED, "-": Action.RESTORED}
    steps = [Change(str(at), actions[step[0]], step[1:]) for at, step in enumerate(history.split())]
    assert "".join(succession(steps)) == line


@pytest.mark.parametrize(("at", "said"), [("2026-01-01T00:00:00.000000Z", "mine 1"), ("2026", "promoted 1")])
def test_a_history_that_was_tampered_with_is_refused(contest: Contest, at: str, said: str) -> None:
    MlflowClient().set_registered_model_tag(contest.name, f"champion.{at}", said)
    with pytest.raises(RegistryError, match=rf"the tag champion\.{at} is not one that a promotion or a rollback wrote"):
        current_champion(contest.name)


def test_importing_an_older_champion_makes_it_the_one_that_is_served(contest: Contest) -> None:
    import_model(contest.first)
    import_model(contest.second)
    assert contest.served() == "2"
    import_model(contest.first)
    assert contest.served() == "1"
    bentoml.models.delete(contest.second.tag)
    assert contest.served() == "1"


def test_a_half_written_import_is_written_anew(contest: Contest) -> None:
    import_model(contest.first)
    import_model(contest.second)
    (Path(bentoml.models.get(contest.first.tag).path) / "model.yaml").unlink()
    import_model(contest.first)
    assert contest.served() == "1"


def test_rows_of_the_training_are_judged_out_of_fold_and_new_rows_by_the_registered_model(
    contest: Contest, delivered: Delivered
) -> None:
    """Half of the rows are under identifiers that no model was fitted on."""
    ids = contest.dataset.ids.copy()
    ids[1500:] += 10_000_000
    found = judged_model(contest.first, replace(contest.dataset, ids=ids))
    expected = delivered.trained.probabilities.copy()
    scores = Scorer(delivered.trained.artefact({})).score(contest.dataset.columns)
    expected[1500:] = scores.probability[1500:]
    assert found.fitted_on == 1500
    np.testing.assert_array_equal(found.probability, expected)


def test_every_gate_is_judged(contest: Contest) -> None:
    """Held to limits that nothing reaches, a challenger misses each of them."""
    contest.promote(contest.first)
    values = contest.settings.model_dump(mode="json")
    values["gates"] |= {"min_auc": 1.0, "max_ece": 1e-9, "max_cost_ratio": 1e-9, "max_auc_loss": 0.0}
    values["gates"]["latency"]["max_milliseconds"] = 1e-9
    values["gates"]["fairness"] |= {"min_impact_ratio": 1.0, "limits": {}}
    verdict = judge(contest.bad, contest.dataset, TrainingSettings.model_validate(values))
    assert [(gate.name, gate.passed) for gate in verdict.gates] == [
        ("AUC, lower end", False),
        ("ECE", False),
        ("cost against the cheaper blanket rule", False),
        ("AUC minus the champion's, lower end", False),
        ("cost minus the champion's, upper end", False),
        ("first reasons that differ from the champion's", True),  # it has the champion's trees
        ("data, against the champion's", True),
        ("adverse impact ratio by sex (screening)", False),
        ("adverse impact ratio by marital status (screening)", False),
        ("adverse impact ratio by age (screening)", False),
        ("adverse impact ratio by age, 62 and over against under 62 (screening)", True),  # the old are approved more
        ("median time of one application", False),
        ("differing probabilities of 1,000", True),
    ]


def test_judging_changes_nothing(contest: Contest) -> None:
    judge(contest.first, contest.dataset, contest.settings)
    assert contest.in_charge() == (None, None, None)


def test_a_model_of_real_data_is_replaced_by_one_of_generated_data_only_if_that_is_asked_for(
    contest: Contest, settings_file: Path, generated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    contest.promote(contest.first)
    MlflowClient().set_model_version_tag(contest.name, "1", "data.source", "application_train.csv")
    try:
        command = ["promote", "--version", "2", "--data", str(generated), "--settings", str(settings_file)]
        assert main(command) == 3
        said = capsys.readouterr()
        assert said.err.splitlines()[-1].endswith("is not promoted: it misses data, against the champion's")
        assert re.search(r"^  data, against the champion's +generated +real +FAILED$", said.out, flags=re.MULTILINE)
        assert contest.in_charge() == ("1", "1", "1")
        assert main([*command, "--allow-generated"]) == 0
        assert contest.in_charge() == ("2", "2", "2")
    finally:
        MlflowClient().set_model_version_tag(contest.name, "1", "data.source", contest.first.source)


def test_a_model_of_real_data_is_not_judged_on_generated_rows(
    contest: Contest, settings_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    MlflowClient().set_model_version_tag(contest.name, "1", "data.source", "application_train.csv")
    try:
        assert main(["promote", "--version", "1", "--settings", str(settings_file)]) == 1
    finally:
        MlflowClient().set_model_version_tag(contest.name, "1", "data.source", contest.first.source)
    said = "error: promotion_model version 1 was trained on application_train.csv: give labelled rows with --data"
    assert capsys.readouterr().err.splitlines()[-1] == said


def test_the_commands(
    contest: Contest, settings_file: Path, generated: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Promote two, list, roll back, and bring a store that fell behind up to date."""
    monkeypatch.setenv("CREDIT_SCORING_ACTOR", "ada")

    def said(*arguments: str) -> list[str]:
        assert main([*arguments, "--settings", str(settings_file)]) == 0
        return capsys.readouterr().out.splitlines()

    assert said("promote", "--version", "1", "--data", str(generated))[-2:] == [
        "promotion_model version 1 is champion", f"imported {contest.first.tag}",
    ]  # fmt: skip
    assert said("promote", "--version", "2", "--data", str(generated))[-1] == f"imported {contest.second.tag}"
    assert said("promote", "--version", "2") == [
        "promotion_model version 2 is champion", f"imported {contest.second.tag}",
    ]  # fmt: skip
    listed = said("list")
    assert [line.split()[0] for line in listed[:4]] == ["version", "1", "2", "3"]
    assert listed[2].split()[1:3] == ["champion", contest.second.digest[:12]]
    assert [line.partition("Z  ")[2] for line in listed[4:]] == [
        "version 1 promoted by ada",
        "version 2 promoted by ada",
    ]
    assert said("rollback")[0] == "promotion_model version 1 is champion"
    import_model(contest.second)
    assert said("import") == [contest.first.tag]
    assert contest.in_charge() == ("1", "1", "1")
