"""What holds for every portfolio: those of configs/portfolios and those beside this file, on drawn applications."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from bentoml.exceptions import BentoMLConfigException
from pyarrow import parquet

from features.drawing import records_of
from features.errors import ColumnsError
from features.files import open_file
from features.fitting import fit_features
from features.portfolio import Portfolio, portfolio_of
from features.transformer import Columns, FeatureTransformer
from features.validation import find_violations
from jobs.commandline import Progress
from jobs.errors import SettingsError
from scoring.artefact import Artefact
from scoring.scorer import Scorer
from scoring.store import StoredModel
from serving.columnar import TableReader
from serving.exchange import ARROW, CSV, PARQUET
from serving.pages import openapi_document
from serving.preflight import check_model
from serving.problems import Invalid
from serving.schemas import Requests, decode, example_of
from tests.portfolios.samples import Row, applied, breaks, drawn, write_csv, write_parquet
from tests.serving.tables import LIMITS, arrow
from training.dataset import Dataset, load_dataset
from training.settings import TrainingSettings
from training.trainer import TrainedModel, train

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = sorted(
    file.parent for place in ("configs", "tests") for file in (ROOT / place / "portfolios").glob("*/*.yaml")
)
ROWS = 120


@cache
def load(folder: Path) -> Portfolio:
    return Portfolio.load(folder)


@cache
def requests_of(portfolio: Portfolio) -> Requests:
    return Requests(portfolio)


@cache
def settings_of(folder: Path) -> TrainingSettings:
    """The settings of the portfolio, with few, fast trees that are offered every feature."""
    values = TrainingSettings.load(ROOT / "configs" / "training.yaml", folder).model_dump(mode="json")
    values["features"] |= {"category_min_count": 2}
    values["features"]["filters"] |= {"constant": None}
    values["model"] |= {"folds": 2, "max_trees": 30}
    values["model"]["parameters"] |= {"learning_rate": 0.2, "colsample_bytree": 1.0, "min_child_samples": 5}
    values["evaluation"]["resamples"] = 20
    return TrainingSettings.model_validate(values)


@cache
def transformer_of(folder: Path) -> FeatureTransformer:
    """Every feature of the portfolio, fitted on drawn rows."""
    features = settings_of(folder).features.model_copy(update={"without": ()})
    state = fit_features(drawn(load(folder), 1_000), features, importance=lambda *_: np.empty(0))
    return FeatureTransformer(state)


@cache
def dataset_of(portfolio: Portfolio) -> Dataset:
    """Drawn rows whose outcome follows a feature that is a number, with some noise."""
    columns, random = drawn(portfolio, 600, seed=3), np.random.default_rng(4)
    protected = {column.name for column in portfolio.schema if column.protected}
    number = next(i for i, column in enumerate(portfolio.schema.numeric) if column.name not in protected)
    values = np.nan_to_num(columns.numbers[:, number])
    target = (values > np.median(values)) ^ (random.random(len(columns)) < 0.2)
    return Dataset(np.arange(len(columns)), columns, target.astype(np.int64), "0" * 64, "drawn")


@cache
def trained(folder: Path) -> TrainedModel:
    return train(dataset_of(load(folder)), settings_of(folder), Progress(quiet=True))


@cache
def artefact_of(folder: Path) -> Artefact:
    return trained(folder).artefact({})


@pytest.fixture(params=FOLDERS, ids=lambda folder: folder.name)
def folder(request: pytest.FixtureRequest) -> Path:
    return request.param


@pytest.fixture
def portfolio(folder: Path) -> Portfolio:
    return load(folder)


def bits(matrix: np.ndarray) -> bytes:
    return np.ascontiguousarray(matrix).tobytes()


def read_records(portfolio: Portfolio, rows: list[Row]) -> Columns:
    """What a service makes of the records, each in a request of its own."""
    requests = requests_of(portfolio)
    bodies = [json.dumps({"application": row}).encode() for row in rows]
    return requests.applications.columns_of([decode(requests.predict, body).application for body in bodies])


def test_it_survives_its_own_canonical_json(portfolio):
    read = portfolio_of(portfolio.content)
    assert read == portfolio
    assert Portfolio.of(json.loads(portfolio.content)).content == portfolio.content
    assert (read.schema, read.catalogue) == (portfolio.schema, portfolio.catalogue)


def test_a_row_has_the_same_bits_alone_and_in_any_order(folder, portfolio):
    transform, columns = transformer_of(folder).transform, drawn(portfolio, ROWS, seed=2)
    whole = transform(columns)
    alone = np.concatenate([transform(columns.take(slice(row, row + 1))) for row in range(ROWS)])
    order = np.random.default_rng(0).permutation(ROWS)
    assert bits(alone) == bits(whole)
    assert bits(transform(columns.take(order))) == bits(whole[order])
    assert bits(transform(columns)) == bits(whole)


@pytest.mark.parametrize("seed", range(3))
def test_drawn_applications_break_no_rule(portfolio, seed):
    assert find_violations(drawn(portfolio, 500, seed=seed)) == []


def test_request_csv_and_parquet_give_the_same_bits(folder, portfolio, tmp_path):
    columns = applied(portfolio, ROWS, seed=5)
    rows, transform = records_of(columns), transformer_of(folder).transform
    expected = bits(transform(columns))
    assert bits(transform(read_records(portfolio, rows))) == expected
    for path in (
        write_csv(tmp_path / "a.csv", portfolio, rows),
        write_parquet(tmp_path / "a.parquet", portfolio, rows),
    ):
        [batch] = open_file(path, portfolio).batches(ROWS)
        assert batch.violations == []
        assert bits(transform(batch.columns)) == expected


def test_each_broken_rule_is_refused_by_name_in_request_and_file(portfolio, tmp_path):
    legal = records_of(drawn(portfolio, 3))[1]
    broken = list(breaks(portfolio))
    rows = [legal | one.values for one in broken]
    [batch] = open_file(write_csv(tmp_path / "broken.csv", portfolio, rows), portfolio).batches(len(rows))
    named = {(violation.column, row) for violation in batch.violations for row in violation.rows.tolist()}
    assert named == {(one.column, row) for row, one in enumerate(broken)}
    for one, row in zip(broken, rows, strict=True):
        with pytest.raises(Invalid) as refused:
            read_records(portfolio, [row])
        assert one.column in str(refused.value.errors)
    with pytest.raises(Invalid, match="schema"):
        read_records(portfolio, [legal | {"no such column": 1}])


@pytest.mark.parametrize("form", [CSV, PARQUET, ARROW], ids=["csv", "parquet", "arrow"])
def test_a_table_is_read_as_the_request_of_each_of_its_rows(portfolio, tmp_path, form):
    rows = records_of(drawn(portfolio, ROWS, seed=5))
    path = (write_csv if form == CSV else write_parquet)(tmp_path / "table", portfolio, rows)
    body = arrow(parquet.read_table(path)) if form == ARROW else path.read_bytes()
    [(batch, columns)] = TableReader(portfolio, LIMITS).read(form, body)
    expected = read_records(portfolio, rows)
    assert (batch.size, batch.rejected) == (ROWS, {})
    assert bits(columns.numbers) == bits(expected.numbers)
    assert columns.levels.tolist() == expected.levels.tolist()


def test_each_broken_rule_rejects_its_row_of_a_table_by_name(portfolio, tmp_path):
    legal, [*broken] = records_of(drawn(portfolio, 1))[0], breaks(portfolio)
    body = write_csv(tmp_path / "table", portfolio, [legal, *(legal | one.values for one in broken)]).read_bytes()
    found = {
        rows.first + row: [fault["loc"][-1] for fault in faults]
        for rows, _ in TableReader(portfolio, LIMITS).read(CSV, body)
        for row, faults in rows.rejected.items()
    }
    assert list(found) == list(range(1, len(broken) + 1))
    assert [one.column for row, one in enumerate(broken, start=1) if one.column not in found[row]] == []


def test_protected_attributes_do_not_reach_the_model(folder, portfolio):
    artefact, columns = artefact_of(folder), drawn(portfolio, ROWS)
    barred = portfolio.schema.protected(portfolio.schema.attributes)
    read = {source for name in artefact.features.names for source in portfolio.features[name].sources}
    assert read.isdisjoint(barred)
    other = Columns(columns.numbers.copy(), columns.levels.copy(), portfolio)
    for name in barred:
        held = other.numbers if portfolio.schema[name].numeric else other.levels
        place = portfolio.schema.position[name]
        held[:, place] = held[::-1, place].copy()
    scorer = Scorer(artefact)
    assert bits(scorer.score(other).margin) == bits(scorer.score(columns).margin)


def test_openapi_names_every_column(portfolio):
    document = openapi_document(
        requests_of(portfolio), example_of(portfolio), version="1", batch_limit=9, opened=frozenset()
    )
    application = document["components"]["schemas"]["Application"]
    assert list(application["properties"]) == [column.name for column in portfolio.schema.stated]
    assert application.get("required", []) == [column.name for column in portfolio.schema if column.required]
    json.dumps(document, allow_nan=False)


def test_a_model_is_trained_written_and_read_and_scores_the_same_bits(folder, portfolio, tmp_path):
    artefact, columns = artefact_of(folder), drawn(portfolio, ROWS, seed=6)
    artefact.write(tmp_path / "model")
    read = Artefact.read(tmp_path / "model", digest=artefact.digest)
    assert read.portfolio == portfolio
    found, expected = Scorer(read).score(columns), Scorer(artefact).score(columns)
    assert (bits(found.margin), bits(found.probability)) == (bits(expected.margin), bits(expected.probability))
    assert found.unknown.tolist() == expected.unknown.tolist()


def test_the_example_of_a_model_can_be_scored(folder, portfolio):
    stored = StoredModel("model", "1", Scorer(artefact_of(folder)))
    check_model(stored, Requests(stored.scorer.artefact.portfolio), "en")
    shown = example_of(portfolio, stored.scorer.artefact)["application"]
    required = {column.name for column in portfolio.schema if column.required}
    assert required <= shown.keys() <= {column.name for column in portfolio.schema}


def test_labelled_files_are_loaded(portfolio, tmp_path):
    dataset, declared = dataset_of(portfolio), portfolio.declared
    outcome, identity = declared.outcome, declared.identity
    others: dict[str, list[Any]] = {outcome.column: [(outcome.good, outcome.bad)[y][0] for y in dataset.target]}
    if identity:
        others[identity.column] = [str(10 + row) for row in range(len(dataset))]
    write_csv(tmp_path / f"{declared.files.train}.csv", portfolio, records_of(dataset.columns), **others)
    loaded = load_dataset(tmp_path, portfolio)
    assert loaded.target.tolist() == dataset.target.tolist()
    assert loaded.ids.tolist() == (
        [10 + row if identity.kind == "whole" else str(10 + row) for row in range(len(dataset))]
        if identity
        else list(range(1, len(dataset) + 1))
    )


def test_portfolios_in_one_process_do_not_disturb_each_other(folder, portfolio):
    columns, transform = applied(portfolio, ROWS), transformer_of(folder).transform
    rows, before = records_of(columns), bits(transform(columns))
    for other in FOLDERS:
        if other != folder:
            foreign = drawn(load(other), ROWS)
            transformer_of(other).transform(foreign)
            with pytest.raises(ColumnsError):
                transform(foreign)
            with pytest.raises(Invalid):
                read_records(load(other), [rows[2]])
    assert bits(transform(columns)) == before
    assert bits(transform(read_records(portfolio, rows))) == before


@pytest.fixture
def grown(folder: Path, portfolio: Portfolio, tmp_path: Path) -> Portfolio:
    """The portfolio with one more feature and one more column than the model was trained with."""
    document = yaml.safe_load((folder / "portfolio.yaml").read_text(encoding="utf-8"))
    features = document.setdefault("features", {})
    features["added"] = {"how many are missing": {"is": "missing_count(*unprotected)"}}
    document["columns"]["new: column"] = {"kind": "number"}
    (tmp_path / "portfolio.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    return Portfolio.load(tmp_path)


def test_an_older_model_is_read_and_scores_under_a_newer_declaration(folder, portfolio, grown, tmp_path):
    artefact, columns = artefact_of(folder), applied(grown, ROWS)
    artefact.write(tmp_path / "model")
    older = Scorer(Artefact.read(tmp_path / "model"))
    assert (older.artefact.portfolio, older.artefact.portfolio == grown) == (portfolio, False)
    as_declared = columns.declared_by(portfolio)
    assert bits(older.score(columns).margin) == bits(older.score(as_declared).margin)
    counted = older.artefact.reference.bin(older.transformer.transform(columns))
    parts = older.artefact.reference.by_feature(counted)
    assert {name: int(part.sum()) for name, part in parts.items()} == dict.fromkeys(older.features, ROWS)
    path = write_csv(tmp_path / "later.csv", grown, records_of(columns))
    [batch] = open_file(path, portfolio).batches(ROWS)
    assert bits(older.score(batch.columns).margin) == bits(older.score(columns).margin)


def test_a_service_does_not_start_with_an_example_that_is_no_application(folder, portfolio):
    document = json.loads(portfolio.content) | {"example": {"no such column": 1}}
    wrong, artefact = Portfolio.of(document), artefact_of(folder)
    other = replace(artefact, features=replace(artefact.features, portfolio=wrong))
    with pytest.raises(BentoMLConfigException) as refused:
        check_model(StoredModel("model", "1", Scorer(other)), Requests(other.portfolio), "en")
    assert str(refused.value).startswith("model:1: its example is no application: application")
    assert "no such column: Extra inputs are not permitted" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_training_does_not_start_with_an_example_that_is_no_application(folder, tmp_path):
    document = yaml.safe_load((folder / "portfolio.yaml").read_text(encoding="utf-8"))
    document["example"] = {"no such column": 1}
    (tmp_path / "portfolio.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    with pytest.raises(SettingsError, match=r"example of the portfolio [\w-]+: no such column: Extra inputs"):
        TrainingSettings.load(ROOT / "configs" / "training.yaml", tmp_path)
