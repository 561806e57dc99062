"""The recipe of Spark, run on a local one. PySpark is half a gigabyte, so that it has an environment of its own.

ENGINE_APPLICATIONS says how many rows, and ENGINE_RESULTS where the figures go: `make spark-check`.
"""

from __future__ import annotations

import os
import subprocess
import time
import zipfile
from pathlib import Path

import pytest

from deploy.record import add_result
from scoring.scorer import Scorer
from tests.engines.books import COMMAND, IDENTIFIER, RESULTS, Book, decided
from tests.server import ROOT

PYTHON = Path(os.environ.get("SPARK_PYTHON") or ROOT / ".venv-spark" / "bin" / "python")
BATCH_ROWS = 777

pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="PySpark is not installed: `make spark-check`")


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which the wheel was unpacked, as pip does."""
    folder = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def test_spark_gives_the_bits_of_the_service(
    book: Book, folder: Path, scorer: Scorer, installed: Path, tmp_path: Path
) -> None:
    settings = {
        "spark.master": "local[2]",
        "spark.ui.enabled": "false",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.sql.files.maxPartitionBytes": "1m",
        "spark.sql.execution.arrow.maxRecordsPerBatch": str(BATCH_ROWS),
    }
    configured = [f"--conf {name}={value}" for name, value in settings.items()]
    variables = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(installed),
        "PYSPARK_PYTHON": str(PYTHON),
        "PYSPARK_SUBMIT_ARGS": " ".join([*configured, "pyspark-shell"]),
        "SPARK_LOCAL_IP": "127.0.0.1",
    }
    command = [PYTHON, ROOT / "examples" / "score_on_spark.py", book.folder, folder, IDENTIFIER, tmp_path / "decisions"]
    began = time.monotonic()
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - began
    assert done.returncode == 0, done.stderr
    identifiers, probabilities = decided(tmp_path / "decisions")
    assert identifiers.tolist() == sorted(book.applications[IDENTIFIER].to_pylist())
    assert probabilities.tobytes() == book.probabilities(scorer).tobytes()
    if RESULTS:
        parts = len([*(tmp_path / "decisions").glob("part-*.parquet")])
        result = {"rows": len(identifiers), "different": 0, "partitions": parts, "seconds": round(seconds, 1)}
        add_result(Path(RESULTS), COMMAND, "spark", result)
