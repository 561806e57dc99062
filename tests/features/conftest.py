from __future__ import annotations

from pathlib import Path

import pytest

from features.fitting import Clipping, FeatureSettings, Filters, fit_features
from features.transformer import Columns, FeatureState
from tests.features.examples import generate, read
from tests.home_credit import CATALOGUE, PORTFOLIO


@pytest.fixture(scope="session")
def generated_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate(tmp_path_factory.mktemp("generated") / "csv", clients=300)


@pytest.fixture(scope="session")
def applications(generated_csv: Path) -> Columns:
    """300 generated applications. Writing to them fails."""
    columns = read(generated_csv)
    columns.numbers.flags.writeable = False
    columns.levels.flags.writeable = False
    return columns


@pytest.fixture(scope="session")
def everything() -> FeatureSettings:
    """Every feature, nothing filtered; rare categories become unknown and the tails are clipped."""
    return FeatureSettings(
        sets=PORTFOLIO.sets,
        without=(),
        category_min_count=5,
        clip=Clipping(lower=0.05, upper=0.95),
        filters=Filters(constant=None, correlation=None, importance=None),
    )


@pytest.fixture(scope="session")
def fitted(applications: Columns, everything: FeatureSettings) -> FeatureState:
    """A state of every feature, fitted on the first 200 generated applications."""
    fold = applications.take(slice(200))
    state = fit_features(fold, everything, importance=lambda *_: pytest.fail("no filter asks for it"))
    assert state.names == tuple(feature.name for feature in CATALOGUE)
    return state
