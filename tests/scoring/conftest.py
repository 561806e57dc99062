from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import lightgbm as lgb
import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.export import DuckDB, PostgreSQL
from features.files import open_file
from features.fitting import Clipping, FeatureSettings, Filters, fit_features
from features.transformer import Columns, FeatureTransformer, concatenate
from features.values import as_numbers
from scoring.artefact import Artefact
from scoring.drift_reference import Bins, DriftReference, category_bins, quantile_bins
from scoring.model import Calibration, Model
from scoring.policy import CompletenessRule, DecisionPolicy, PointScale
from scoring.reasons import ReasonReference, ReferenceGroup
from scoring.scorer import Scorer, with_conformance
from scoring.sql import Dialect
from scoring.store import StoredModel
from tests import postgres
from tests.features.examples import generate
from tests.home_credit import PORTFOLIO, PROTECTED
from tests.skipped import missing

SETTINGS = FeatureSettings(
    sets=PORTFOLIO.sets,
    without=PROTECTED,
    category_min_count=5,
    clip=Clipping(lower=0.01, upper=0.99),
    filters=Filters(constant=0.99, correlation=None, importance=None),
)
POLICY = DecisionPolicy(
    cutoff=0.08,
    refer_from=0.07,
    refer_to=0.09,
    level_bounds=(0.04, 0.08, 0.16),
    cost_fn=10,
    cost_fp=1,
    scale=PointScale(base=600, odds=50, double=20),
    completeness=CompletenessRule(known=("AMT_ANNUITY",), max_missing_share=0.99),
)


@pytest.fixture(scope="session")
def labelled_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """400 generated applications with their identifiers and outcomes."""
    return generate(tmp_path_factory.mktemp("labelled") / "csv", clients=400)


@pytest.fixture(scope="session")
def applications(labelled_csv: Path) -> Columns:
    """The applications of `labelled_csv`."""
    return concatenate([batch.columns for batch in open_file(labelled_csv, PORTFOLIO).batches(1000)])


@pytest.fixture(scope="session")
def artefact(labelled_csv: Path, applications: Columns) -> Artefact:
    """20 trees on `labelled_csv`, made without the training package."""
    outcomes, _ = as_numbers(open_file(labelled_csv, PORTFOLIO).column("TARGET"))
    features = fit_features(applications, SETTINGS, importance=lambda *_: pytest.fail("no filter asks for it"))
    transformer = FeatureTransformer(features)
    matrix = transformer.transform(applications)
    booster = lgb.train(
        {"objective": "binary", "num_leaves": 7, "min_data_in_leaf": 5, "seed": 1, "num_threads": 1, "verbosity": -1},
        lgb.Dataset(matrix, outcomes, categorical_feature=list(transformer.categorical)),
        num_boost_round=20,
    )
    bare = Artefact(
        model_text=booster.model_to_string(),
        features=features,
        calibration=Calibration(slope=1.1, intercept=-0.1),
        policy=POLICY,
        reference=reference(transformer, matrix),
        metrics={"auc": {"value": 0.7, "low": 0.65, "high": 0.75}},
        lineage={"fingerprint": "abc", "seed": 1},
        reasons=ReasonReference.interventional(Model(booster.model_to_string()), ReferenceGroup.ALL, matrix[:50]),
    )
    return with_conformance(bare)


def reference(transformer: FeatureTransformer, matrix: NDArray[np.float64]) -> DriftReference:
    """Quarters of every feature, all of them of the same importance; every PD in one bin."""
    codes = {i: len(transformer.state.vocabularies[transformer.names[i]]) for i in transformer.categorical}
    bins = [category_bins(x, codes[i]) if i in codes else quantile_bins(x, 4) for i, x in enumerate(matrix.T)]
    return DriftReference(
        features=dict(zip(transformer.names, bins, strict=True)),
        probability=Bins("numeric", (), (len(matrix), 0, 0)),
        importance=dict.fromkeys(transformer.names, 1 / len(bins)),
        rows=len(matrix),
    )


@pytest.fixture(scope="session")
def scorer(artefact: Artefact) -> Scorer:
    return Scorer(artefact)


@pytest.fixture(scope="session")
def small(scorer: Scorer) -> StoredModel:
    """The artefact as if it came from the model store."""
    return StoredModel("small", f"1-{scorer.artefact.digest[:32]}", scorer)


@pytest.fixture(scope="session")
def model_matrix(scorer: Scorer, applications: Columns) -> NDArray[np.float64]:
    """The model matrix of the applications."""
    return scorer.transformer.transform(applications)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The address of a PostgreSQL."""
    programs = postgres.installed()
    if programs is None:
        pytest.skip(missing("initdb"))
    with postgres.running(programs) as address:
        yield address


@pytest.fixture(params=list(Dialect))
def database(request: pytest.FixtureRequest) -> Iterator[DuckDB | PostgreSQL]:
    """Each database that a scorer is exported to, with no table of applications yet."""
    duckdb = request.param is Dialect.DUCKDB
    with DuckDB() if duckdb else PostgreSQL(request.getfixturevalue("postgresql")) as held:
        yield held


@pytest.fixture
def output(tmp_path: Path) -> Iterator[Path]:
    """A folder that does not exist yet; if the job succeeds nothing else is beside it, and it is whole."""
    (tmp_path / "results").mkdir()
    yield tmp_path / "results" / "out"
    left = {path.name for path in (tmp_path / "results").iterdir()}
    assert left in ({"out"}, {"out.unfinished"}, set())
    if "out" in left:
        held = {path.name for path in (tmp_path / "results" / "out").iterdir()}
        assert "_manifest.json" in held
        assert not {name for name in held if name.startswith((".", "_work"))}
