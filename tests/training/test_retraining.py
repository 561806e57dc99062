"""Retraining: when it is due, on which applications, and what an interruption leaves."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import bentoml
import mlflow
import numpy as np
import pytest
import yaml
from mlflow import MlflowClient

from benchmarks.decisions import OUTCOMES, Pool, generate
from decision_log.format import ClientHash
from features.drawing import records_of
from jobs.commandline import Progress
from monitoring.settings import MonitoringSettings
from scoring.store import load_stored, read_alias
from tests.portfolios.samples import drawn, write_csv
from tests.portfolios.test_delivery import settings_of
from tests.server import ROOT
from training import retraining
from training.cli import main
from training.dataset import load_dataset
from training.errors import DataError, RegistryError
from training.registry import promotion, registry
from training.registry.promotion import judge, promote, rollback
from training.registry.registry import aliases, changes, find
from training.registry.store import import_challenger
from training.retraining import Retrainer, Retraining, WatchedLog, matured
from training.run import load
from training.settings import TrainingSettings

NAME = "retrained"
NOW = datetime(2026, 1, 2, tzinfo=UTC)
DAY = timedelta(days=1)
KEY = "0123456789abcdef" * 4


def settings_with(settings: TrainingSettings, **retraining: Any) -> TrainingSettings:
    return settings.model_copy(update={"retraining": settings.retraining.model_copy(update=retraining)})


@pytest.fixture(scope="module")
def portfolio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The portfolio `german_like`, whose applications have a day."""
    folder = tmp_path_factory.mktemp("portfolio")
    document = yaml.safe_load((ROOT / "tests/portfolios/german_like/portfolio.yaml").read_text(encoding="utf-8"))
    document["columns"]["day"] = {"kind": "date", "low": "2024-01-01", "high": "2026-12-31", "required": True}
    document["example"]["day"] = "2025-01-31"
    document["decided_on"] = "day"
    document["training"]["tracking"]["model"] = NAME
    (folder / "portfolio.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    return folder


@pytest.fixture(scope="module")
def settings(portfolio: Path, home: Path) -> TrainingSettings:
    """Every application of 2025 and before counts at `NOW`."""
    return settings_with(settings_of(portfolio, home, model=NAME), matured_days=1)


def loans(folder: Path, settings: TrainingSettings, *, seed: int, days: list[str], amount: float = 1.0) -> Path:
    """600 applications of these days in turn; the larger half of the amounts is mostly bad."""
    columns = drawn(settings.declared, 600, seed=seed)
    place = settings.declared.schema.position["amount"]
    columns.numbers[:, place] = np.ceil(columns.numbers[:, place] * amount)
    bad = (columns.numbers[:, place] > np.median(columns.numbers[:, place])) ^ (
        np.random.default_rng(seed).random(600) < 0.2
    )
    records = [{**record, "day": days[i % len(days)]} for i, record in enumerate(records_of(columns))]
    folder.mkdir()
    write_csv(folder / "loans.csv", settings.declared, records, creditability=[("good", "bad")[y] for y in bad * 1])
    return folder


@dataclass(frozen=True)
class Story:
    """What one retraining after the other said, and the registry and the store after it."""

    said: Mapping[str, Retraining]
    aliases: Mapping[str, dict[str, str]]
    served: Mapping[str, str]
    shadow: Mapping[str, str | None]
    log: Path


@pytest.fixture(scope="module")
def story(settings: TrainingSettings, tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder, said, named, served, shadow = tmp_path_factory.mktemp("story"), {}, {}, {}, {}
    quiet = Progress(quiet=True)
    first, second, third = (loans(folder / f"{n}", settings, seed=n, days=["2025-03-01"]) for n in (1, 2, 3))

    def then(name: str, data: Path, now: datetime, changed: TrainingSettings = settings, **how: Any) -> None:
        said[name] = Retrainer(data, changed, quiet, now, uncompared_allowed=True).run(**how)
        named[name] = aliases(NAME)
        served[name] = (
            str(bentoml.models.get(NAME).tag) if bentoml.models.list() and named[name].get("champion") else ""
        )
        shadow[name] = read_alias(NAME, "challenger")

    then("first", first, NOW)
    promote(judge(find(NAME, "1"), load(first, settings, quiet), settings), NOW)
    log = _log(folder / "log", loans(folder / "5", settings, seed=5, days=["2025-06-01"]))
    then("quiet", second, NOW + 8 * DAY, settings_with(settings, judged_days=30), watched=_watched(log))
    then("few", second, NOW + 20 * DAY, watched=_watched(log))
    month, outcomes = settings_with(settings, judged_days=30), log / OUTCOMES
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("DECISION_LOG_KEY", KEY)
        then("holding", second, NOW + 8 * DAY, month, watched=_watched(log, outcomes))
        then("failing", first, NOW + 8 * DAY, month, watched=_watched(log, outcomes, floor=0.999))
        then("old", second, NOW + 20 * DAY, watched=_watched(log, outcomes))
        then("old and failing", first, NOW + 20 * DAY, watched=_watched(log, outcomes, floor=0.999))
        others = folder / "others.csv"
        others.write_text("client_id,outcome\nnobody,1\n")
        then("unknown", second, NOW + 20 * DAY, watched=_watched(log, others))
    then(
        "planned",
        first,
        datetime(2040, 1, 1, tzinfo=UTC),
        settings_with(settings, every_days=365),
        watched=_watched(log),
    )
    then("same", first, NOW + 8 * DAY)
    then("cooling", second, NOW + 3 * DAY)
    for place, step in (  # before it has its alias, once it has, and once it is judged
        (registry, "make_challenger"),
        (retraining, "keep"),
        (retraining, "import_challenger"),
    ):
        with killed_at(place, step):
            then("killed", second, NOW + 3 * DAY, force=True)
    then("finished", second, NOW + 3 * DAY, force=True)
    then("spent", third, NOW + 20 * DAY, settings_with(settings, most_per_month=2), force=True)
    drifted = _log(folder / "drifted", loans(folder / "4", settings, seed=4, days=["2025-06-01"], amount=1e-4))
    promoting = settings_with(settings, promote=True, judged_days=60)
    for name, step in (("alias", "record_change"), ("history", "import_model")):
        with killed_at(promotion, step):
            then("killed", third, NOW + 20 * DAY, promoting, watched=_watched(drifted, major=0.25))
        named[name], served[name] = aliases(NAME), str(bentoml.models.get(NAME).tag)
    then("drifted", third, NOW + 20 * DAY, promoting, watched=_watched(drifted, major=0.25))
    return Story(said, named, served, shadow, log)


@contextmanager
def killed_at(place: ModuleType, step: str) -> Iterator[None]:
    """A command in the block ends at a step of it, as by Ctrl-C, before the step does anything."""

    def killed(*_: object) -> None:
        raise KeyboardInterrupt(step)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(place, step, killed)
        with pytest.raises(KeyboardInterrupt, match=f"^{step}$"):
            yield


def _log(directory: Path, data: Path) -> Path:
    """1,000 decisions of the champion on the applications, at the beginning of 2026."""
    pool = Pool.of(load_stored(NAME).scorer, data / "loans.csv")
    generate(directory, pool, rows=1_000, client_hash=ClientHash(bytes.fromhex(KEY)), seed=4)
    return directory


def _watched(log: Path, outcomes: Path | None = None, *, major: float = 10.0, floor: float = 0.7) -> WatchedLog:
    # Fitted to 600 applications, the model gives others another distribution of PDs.
    values = MonitoringSettings.load(ROOT / "configs" / "monitoring.yaml").model_dump(mode="json")
    values["drift"]["psi"] = {"moderate": major / 2, "major": major}
    values["performance"]["min_auc"] = floor
    return WatchedLog(log, outcomes, MonitoringSettings.checked(values, Path("loose")))


def test_a_first_model_is_left_for_a_person_to_promote(story: Story) -> None:
    assert story.said["first"] == Retraining(True, "as asked for", "1")
    assert str(story.said["first"]) == (
        "trained version 1: as asked for; it passes every gate, and there is no champion: promote it"
    )
    assert story.aliases["first"] == {"challenger": "1"}


def test_without_drift_nothing_is_trained(story: Story) -> None:
    assert story.said["quiet"] == Retraining(False, "no drift in 1,000 decisions; performance holds")


def test_outcomes_tell_of_every_decision(story: Story) -> None:
    assert story.said["holding"] == Retraining(False, "no drift in 1,000 decisions; performance holds")


@pytest.mark.parametrize("reason", ["failing", "planned"])
def test_lost_performance_and_the_plan_are_reasons_too(story: Story, reason: str) -> None:
    """They lead to the data, which are those of version 1."""
    assert story.said[reason] == Retraining(False, "version 1 was trained on the same 600 applications")


def test_too_few_decisions_are_not_judged(story: Story) -> None:
    said = "0 decisions of retrained version 1 in 7 days are too few to judge: 300 are needed"
    assert story.said["few"] == Retraining(False, said)


def test_the_same_applications_are_not_trained_on_twice(story: Story) -> None:
    assert str(story.said["same"]) == "not trained: version 1 was trained on the same 600 applications"


def test_a_retraining_waits_for_the_end_of_the_cooldown(story: Story) -> None:
    said = "version 1 was retrained at 2026-01-02 00:00 UTC, and cooldown_days is 7; --force trains all the same"
    assert story.said["cooling"] == Retraining(False, said)


def test_an_interrupted_retraining_is_finished_by_the_next(story: Story) -> None:
    finished = story.said["finished"]
    assert (finished.why, finished.version, finished.alias) == ("finished what was interrupted", "2", "challenger")
    assert story.aliases["finished"] == {"champion": "1", "challenger": "2"}


def test_a_challenger_lies_in_the_store_beside_the_model_that_is_served(story: Story) -> None:
    assert story.served["finished"] == find(NAME, "1").tag
    assert story.said["finished"].model == f"{NAME}:{story.shadow['finished']}" == find(NAME, "2").tag


def test_not_even_force_exceeds_the_budget(story: Story) -> None:
    assert story.said["spent"] == Retraining(False, "2 retrainings in 30 days, and most_per_month is 2")


def test_the_settings_may_promote(story: Story) -> None:
    assert story.aliases["drifted"] == {"champion": "3"}
    assert story.served["drifted"] == find(NAME, "3").tag


def test_an_interrupted_promotion_is_finished_and_the_history_holds_it_once(story: Story) -> None:
    """The first repetition ends before the store has the champion, which the second one mends."""
    assert story.aliases["alias"] == story.aliases["history"] == {"champion": "3"}
    assert {story.served["alias"], story.served["history"]} == {find(NAME, "1").tag}
    assert not story.said["drifted"].trained
    assert [change.version for change in changes(NAME)][:2] == ["1", "3"]
    assert [str(change.action) for change in changes(NAME)].count("promoted") == len(changes(NAME))


def test_the_registry_tells_when_and_why(story: Story) -> None:
    assert story.said["finished"].trained
    tags = [MlflowClient().get_model_version(NAME, version).tags["retrained"] for version in "123"]
    assert tags[:2] == ["2026-01-02T00:00:00+00:00 as asked for", "2026-01-05T00:00:00+00:00 as asked for"]
    assert tags[2].startswith("2026-01-22T00:00:00+00:00 drift in 1,000 decisions: ")


def test_applications_that_are_too_young_are_left_out_and_change_nothing(
    settings: TrainingSettings, tmp_path: Path
) -> None:
    days = ["2025-12-30", "2025-12-31"]
    some = loans(tmp_path / "some", settings, seed=1, days=days)
    read = load_dataset(some, settings.declared, dates="day")
    part = matured(read, settings_with(settings, matured_days=3), NOW)
    assert (len(part), set(part.dates.astype(str))) == (300, {"2025-12-30"})  # type: ignore[union-attr]
    younger = replace(read, fingerprint="other", target=np.where(read.dates == np.datetime64(days[1]), 0, read.target))
    assert matured(younger, settings_with(settings, matured_days=3), NOW).fingerprint == part.fingerprint
    every = matured(read, settings_with(settings, matured_days=2), NOW)
    assert (len(every), every.fingerprint) == (
        600,
        matured(replace(read, fingerprint="other"), settings, NOW).fingerprint,
    )


def test_only_the_newest_applications_are_taken(settings: TrainingSettings, tmp_path: Path) -> None:
    some = loans(tmp_path / "some", settings, seed=1, days=["2025-01-01", "2025-01-31", "2025-02-01"])
    read = load_dataset(some, settings.declared, dates="day")
    part = matured(read, settings_with(settings, newest_days=2), NOW)
    assert set(part.dates.astype(str)) == {"2025-01-31", "2025-02-01"}  # type: ignore[union-attr]


def test_too_few_matured_applications_are_refused(settings: TrainingSettings, tmp_path: Path) -> None:
    some = loans(tmp_path / "some", settings, seed=1, days=["2025-12-31"])
    read = load_dataset(some, settings.declared, dates="day")
    with pytest.raises(DataError, match="0 defaults in 0 rows are too few"):
        matured(read, settings_with(settings, matured_days=30), NOW)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "--data: name labelled applications, here or as retraining.data in the settings"),
        (["--data", ".", "--if-drifted"], "--if-drifted: needs --log, the decisions that may have drifted"),
        (["--data", ".", "--log", "."], "--log and --outcomes: go with --if-drifted"),
    ],
)
def test_what_is_missing_is_said_in_one_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["retrain", *words]) == 1
    assert capsys.readouterr().err == f"error: {said}\n"


def test_the_command_says_what_it_decided_as_json(
    story: Story, settings: TrainingSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = settings_with(settings, cooldown_days=0, most_per_month=9).model_dump(mode="json")
    values["gates"]["min_auc"] = 1.0
    (tmp_path / "training.yaml").write_text(yaml.safe_dump(values))
    data = loans(tmp_path / "data", settings, seed=9, days=["2025-03-01"])
    before = mlflow.get_tracking_uri()
    assert main(["retrain", "--data", str(data), "--settings", str(tmp_path / "training.yaml"), "--json"]) == 3
    mlflow.set_tracking_uri(before)
    mlflow.set_registry_uri(before)
    assert story.said
    done = json.loads(capsys.readouterr().out)
    assert (done["trained"], done["version"], done["alias"]) == (True, "4", None)
    assert done["missed"] == ["AUC, lower end"]
    assert read_alias(NAME, "challenger") == story.shadow["drifted"]


def test_a_challenger_that_is_promoted_is_in_shadow_no_longer(
    story: Story, settings: TrainingSettings, tmp_path: Path
) -> None:
    assert story.shadow["drifted"] == find(NAME, "2").label
    rows = load(loans(tmp_path / "rows", settings, seed=7, days=["2025-03-01"]), settings, Progress(quiet=True))
    promote(judge(find(NAME, "2"), rows, settings), NOW)
    assert (str(bentoml.models.get(NAME).tag), read_alias(NAME, "challenger")) == (find(NAME, "2").tag, None)
    with pytest.raises(
        RegistryError, match="version 2: is no challenger, since this machine's BentoML store serves no"
    ):
        import_challenger(find(NAME, "2"))


def test_an_interrupted_rollback_is_no_promotion_to_finish(story: Story, settings: TrainingSettings) -> None:
    """The history knows of it, and the alias still names the version that was rolled back."""
    before = aliases(NAME)["champion"]
    with killed_at(promotion, "put_in_charge"):
        rollback(NAME, NOW + 21 * DAY)
    history = changes(NAME)
    promoting = settings_with(settings, promote=True)
    assert not Retrainer(story.log, promoting, Progress(quiet=True), NOW + 21 * DAY).run().trained
    assert (aliases(NAME)["champion"], changes(NAME)) == (before, history)
    assert history[-1].version != before


def test_young_applications_that_are_appended_train_nothing(
    story: Story, settings: TrainingSettings, tmp_path: Path
) -> None:
    """Version 1 was trained when every application of its file had matured."""
    assert story.said["first"].trained
    grown = loans(tmp_path / "grown", settings, seed=1, days=["2025-03-01"])
    young = loans(tmp_path / "young", settings, seed=8, days=["2026-01-08"])
    lines = (young / "loans.csv").read_text().splitlines(keepends=True)[1:]
    with (grown / "loans.csv").open("a") as file:
        file.writelines(lines)
    patient = settings_with(settings, matured_days=30, most_per_month=9)
    done = Retrainer(grown, patient, Progress(quiet=True), NOW + 8 * DAY).run(force=True)
    assert done == Retraining(False, "version 1 was trained on the same 600 applications")


def test_outcomes_are_judged_however_few_decisions_are_recent(story: Story) -> None:
    few = "0 decisions of retrained version 1 in 7 days are too few to judge: 300 are needed"
    assert story.said["old"] == Retraining(False, f"{few}; performance holds")
    assert story.said["old and failing"] == Retraining(False, "version 1 was trained on the same 600 applications")
    assert story.said["unknown"] == Retraining(False, f"{few}; none of its decisions has an outcome yet")
