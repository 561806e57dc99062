"""What the tests share: a home of their own, generated applications, one delivered model and servers."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

_HOME = tempfile.TemporaryDirectory(prefix="credit-scoring-tests-")
os.environ["BENTOML_HOME"] = _HOME.name  # read when bentoml is imported
os.environ["BENTOML_DO_NOT_TRACK"] = "True"
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["GIT_PYTHON_REFRESH"] = "quiet"
os.environ["OMP_WAIT_POLICY"] = "passive"
os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
os.environ["MLFLOW_LOGGING_LEVEL"] = "WARNING"
os.environ.pop("MLFLOW_TRACKING_URI", None)

import pytest  # noqa: E402
from coverage import Coverage  # noqa: E402
from hypothesis import HealthCheck  # noqa: E402
from hypothesis import settings as properties  # noqa: E402

from jobs.commandline import Progress  # noqa: E402
from scoring.store import StoredModel, load_stored  # noqa: E402
from tests.markers import pytest_collection_modifyitems  # noqa: E402, F401 - unit, service or slow
from tests.server import ROOT, Server, serve_with  # noqa: E402
from tests.skipped import pytest_terminal_summary  # noqa: E402, F401 - what a run says at its end
from tests.without_home_credit import left_out  # noqa: E402
from training.registry.promotion import promote  # noqa: E402
from training.run import Delivered, deliver  # noqa: E402
from training.settings import TrainingSettings  # noqa: E402

# The same examples in every run, and no verdict that depends on how busy the machine is.
properties.register_profile("project", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
properties.load_profile("project")


collect_ignore = left_out()


def pytest_sessionfinish() -> None:
    """Save what one of several processes has measured: xdist waits for this, but kills a process 10 s later."""
    measured = Coverage.current()
    if measured is not None and "PYTEST_XDIST_WORKER" in os.environ:
        measured.stop()
        measured.save()


@pytest.fixture(scope="session")
def home() -> Path:
    """Where the tests' BentoML store and MLflow database are."""
    return Path(_HOME.name)


@pytest.fixture(scope="session")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated applications of 3,000 clients, as CSV."""
    from configs.portfolios.home_credit.generator.dataset import synthesize

    folder = tmp_path_factory.mktemp("data") / "generated"
    synthesize(folder, clients=3_000, seed=11, tables="applications")
    return folder


@pytest.fixture(scope="session")
def settings(home: Path) -> TrainingSettings:
    """The project's settings with fewer and faster trees, and tracking in the tests' own home."""
    loaded = TrainingSettings.load(ROOT / "configs" / "training.yaml").model_dump(mode="json")
    loaded["model"] |= {"folds": 3, "max_trees": 80}
    loaded["model"]["parameters"]["learning_rate"] = 0.1
    loaded["evaluation"]["resamples"] = 20
    loaded["gates"] |= {"min_auc": 0.5, "max_ece": 0.2, "max_cost_ratio": 1.1}
    loaded["gates"]["fairness"]["min_impact_ratio"] = 0.5
    loaded["gates"]["latency"]["max_milliseconds"] = 3_600_000.0
    loaded["tracking"]["uri"] = f"sqlite:///{home}/mlruns/mlflow.db"
    return TrainingSettings.model_validate(loaded)


@pytest.fixture(scope="session")
def delivered(generated: Path, settings: TrainingSettings) -> Delivered:
    """A model that went the whole way: trained, tracked, registered, promoted, imported."""
    delivered = deliver(generated, settings, Progress(quiet=True))
    promote(delivered.verdict, datetime.now(UTC))
    return delivered


@pytest.fixture(scope="session")
def stored(delivered: Delivered) -> StoredModel:
    """The delivered model as the service loads it."""
    return load_stored(delivered.tag)


@pytest.fixture(scope="session")
def server(delivered: Delivered, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The service of the checkout, answering with the delivered model."""
    with serve_with(tmp_path_factory.mktemp("server"), {"model": delivered.tag}) as running:
        yield running
