"""The search for less discriminatory alternatives, on data with a planted proxy of a protected attribute."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
import pytest
import yaml
from optuna.storages import InMemoryStorage
from optuna.study import Study
from optuna.trial import TrialState

from jobs.commandline import Progress
from jobs.output import locked
from monitoring.measures import auc
from tests.training.planted import planted, settings_of
from training.cli import main
from training.dataset import Dataset, load_dataset
from training.errors import StudyError, TrainingError
from training.fitting import cross_calibrated, cross_validate
from training.registry.registry import copy_report
from training.run import deliver
from training.search import alternatives
from training.search.alternatives import halves, search_alternatives
from training.search.frontier import ANY, SAME, FoundAlternatives
from training.search.levers import Levers, side_groups
from training.search.study import TrialSeededSampler
from training.settings import TrainingSettings

Planted = tuple[Dataset, TrainingSettings]
MINUTES = 10.0
"""More than any machine needs: the number of trials ends the search, so that no clock decides a figure."""

LEVERS = {"seeds": 2, "proxies": 2, "monotone": 0, "parameters": False, "reweighing": True, "penalty": False}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("planted")


@pytest.fixture(scope="module")
def given(data: Path) -> Planted:
    return planted(data, clients=3_000)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("alternatives")


@pytest.fixture(scope="module")
def found(given: Planted, folder: Path) -> FoundAlternatives:
    return search_alternatives(*given, folder, Progress(quiet=True), minutes=MINUTES, beside={})


def test_leaving_the_proxy_out_reaches_the_ratio_at_a_small_price(found: FoundAlternatives) -> None:
    before = found.baseline.confirmed.ratios["sex"]
    assert before.high < 0.8
    price = next(price for price in found.prices if price.how.startswith(SAME))
    assert (price.attribute, price.ratio) == ("sex", 0.9)
    assert price.auc is not None
    assert -0.04 < price.auc.value < 0
    point = next(point for point in found.points if point.name == price.point)
    assert point.changes[0] == "without code"
    assert point.reads == ()
    assert point.confirmed.ratios["sex"].value >= 0.9
    assert point.confirmed.ratio_changes["sex"].low > 0.1
    assert point.confirmed.approved.value == pytest.approx(found.baseline.confirmed.approved.value, abs=0.04)


def test_one_cut_off_for_everybody_reaches_it_too_at_a_cost(found: FoundAlternatives) -> None:
    price = next(price for price in found.prices if price.how == ANY)
    assert price.cost is not None
    assert price.reached >= 0.9


def test_the_proxy_is_named(found: FoundAlternatives) -> None:
    first = found.proxies[0]
    assert (first.column, first.attribute) == ("code", "sex")
    assert first.tells > 0.95
    assert first.carries > 0
    assert "burden" not in {proxy.column for proxy in found.proxies}
    assert any("leaving out" in line and "code" in line for line in found.levers)


def test_rows_that_confirm_choose_nothing(given: Planted, found: FoundAlternatives) -> None:
    first, last = halves(*given)
    assert not set(first) & set(last)
    assert (len(first), len(last)) == (found.rows, found.held_out) == (1_800, 1_200)
    assert found.trials == len(found.cloud) == 4


def test_the_file_of_a_point_gives_its_model(given: Planted, found: FoundAlternatives, folder: Path) -> None:
    dataset, _ = given
    rows = dataset.take(halves(*given)[0])
    for point in (found.baseline, *found.points):
        settings = TrainingSettings.load(folder / point.file)
        margins = cross_validate(rows, settings.features, settings.model, seed=settings.seed).margins
        assert auc(rows.target, margins) == point.searched.auc
        assert point.name == "baseline" or settings.features.without == ("sex",)


def test_run_trains_a_point_and_its_report_has_the_chapter(
    given: Planted, found: FoundAlternatives, folder: Path, data: Path, tmp_path: Path
) -> None:
    dataset, _ = given
    point = next(point for point in found.points if "without code" in point.changes)
    settings = TrainingSettings.load(folder / point.file)
    delivered = deliver(data, settings, Progress(quiet=True), searched=found)
    assert delivered.trained.features.names == ("burden", "strain")
    assert delivered.trained.policy.cutoff == point.cutoff
    expected = cross_validate(dataset, settings.features, settings.model, seed=settings.seed)
    assert (delivered.trained.probabilities == cross_calibrated(expected, dataset.target)).all()
    copy_report(delivered.registered, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "7. Less discriminatory alternatives</h2>" in page
    assert "The price of each ratio" in page


def test_a_search_goes_on_and_repeats_nothing(given: Planted, found: FoundAlternatives, folder: Path) -> None:
    dataset, settings = given
    more = settings_of(settings, alternatives={"trials": 6})
    again = search_alternatives(dataset, more, folder, Progress(quiet=True), minutes=MINUTES, beside={})
    assert again.trials == 6
    assert again.cloud[:4] == found.cloud


class Killed(BaseException):
    """The process ended here."""


class Brittle(InMemoryStorage):
    """Optuna's storage, whose process ends before one of its writes."""

    def __init__(self, writes: int) -> None:
        super().__init__()
        self.left = writes

    def __getattribute__(self, name: str) -> Any:
        if name.startswith(("create_new_trial", "set_trial_")):
            self.left -= 1
            if self.left == 0:
                raise Killed
        return super().__getattribute__(name)


def test_wherever_a_search_is_killed_each_first_trial_is_done_once(given: Planted) -> None:
    levers = Levers(settings_of(given[1], alternatives={"levers": LEVERS}), ("code", "burden"), {}, ("sex",))
    designed, most = levers.designed(), len(levers.designed()) + 2
    figures = {SAME: {"auc": 0.7, "ratios": {"sex": 0.8}}}
    work: Any = SimpleNamespace(trials=SimpleNamespace(groups={"sex": {}}, levers=levers))

    class Canned(ThreadPoolExecutor):
        def submit(self, *_: Any) -> Any:
            return super().submit(lambda: figures)

    def search(study: Study) -> None:
        with Canned(1) as pool:
            alternatives._search(study, work, pool, most, math.inf, lambda: None)

    for write in count(1):
        storage = Brittle(write)
        study = optuna.create_study(storage=storage, directions=["maximize"] * 2, sampler=TrialSeededSampler(1, 5))
        with suppress(Killed):
            search(study)
            break
        search(study)
        done = [trial.params for trial in study.trials if trial.state == TrialState.COMPLETE]
        assert [done.count(drawn) for drawn in designed] == [1] * len(designed)
        assert len(done) == most
        assert not [trial for trial in study.trials if not trial.state.is_finished()]
    assert write > 5 * most


def test_another_number_of_processes_finds_the_same(given: Planted, found: FoundAlternatives, tmp_path: Path) -> None:
    dataset, settings = given
    two = settings_of(settings, alternatives={"processes": 2})
    again = search_alternatives(dataset, two, tmp_path, Progress(quiet=True), minutes=MINUTES, beside={})
    assert again == found


def test_a_folder_holds_one_search(given: Planted, found: FoundAlternatives, folder: Path, tmp_path: Path) -> None:
    dataset, settings = given
    other = settings_of(settings, alternatives={"learning_rate": 0.2})
    with pytest.raises(StudyError, match="other data or with other settings"):
        search_alternatives(dataset, other, folder, Progress(quiet=True), minutes=MINUTES, beside={})
    with locked(tmp_path), pytest.raises(StudyError, match="another command searches there"):
        search_alternatives(dataset, settings, tmp_path, Progress(quiet=True), minutes=MINUTES, beside={})


def test_a_file_beside_the_data_states_groups(given: Planted, tmp_path: Path) -> None:
    dataset, _ = given
    file = tmp_path / "side.csv"
    lines = [f"{i},{'abroad' if i % 3 == 0 else 'here'}" for i in range(0, 3_000, 2)]
    file.write_text("\n".join(["client_id,origin", *lines]) + "\n")
    groups = side_groups(file, dataset)["origin"]
    assert list(groups) == ["abroad", "here"]
    assert groups["abroad"].sum() == 500
    assert (np.flatnonzero(groups["abroad"])[:3] == [0, 6, 12]).all()
    assert not (groups["abroad"] & groups["here"]).any()
    file.write_text("client_id,origin\nnobody,here\n")
    with pytest.raises(StudyError, match="needs a column client_id"):
        side_groups(file, dataset)


def test_the_command_writes_a_page_and_a_result(given: Planted, data: Path, tmp_path: Path, capsys) -> None:
    _, settings = given
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(settings.model_dump(mode="json") | {"whole": True}))
    output = tmp_path / "out"
    options = ["--data", str(data), "--settings", str(tmp_path / "settings.yaml"), "--output", str(output)]
    assert main(["alternatives", *options, "--trials", "2", "--minutes", "10"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "2 trials on 1,800 applications; confirmed on 1,200 that chose nothing:"
    assert said[-1] == f"written to {output}/alternatives.json, {output}/alternatives.html and {output}/*.yaml"
    result = FoundAlternatives.read(output / "alternatives.json")
    assert result.text() == (output / "alternatives.json").read_text()
    page = (output / "alternatives.html").read_text()
    assert "<h1>Less discriminatory alternatives</h1>" in page
    assert page.count("<svg") == 1
    assert "point-01.yaml" in page


def test_a_result_of_other_data_gets_no_chapter(found: FoundAlternatives, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="searched on other data"):
        found.refuse_other("0" * 64)
    (tmp_path / "alternatives.json").write_text('{"points": []}')
    with pytest.raises(TrainingError, match="holds no result of"):
        FoundAlternatives.read(tmp_path / "alternatives.json")


def test_without_two_large_groups_nothing_is_searched(data: Path, given: Planted, tmp_path: Path) -> None:
    settings = settings_of(given[1], gates={"fairness": {"min_rows": 2_000, "min_impact_ratio": 0.8, "limits": {}}})
    dataset = load_dataset(data, settings.declared)
    with pytest.raises(StudyError, match="no protected attribute has two groups of 2000 applications"):
        search_alternatives(dataset, settings, tmp_path, Progress(quiet=True), minutes=MINUTES, beside={})
