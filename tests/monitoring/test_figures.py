"""The metrics that a performance report leaves."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from jobs.errors import OutputError
from monitoring.measures import Estimate
from monitoring.performance import Figures, Rates
from monitoring.realised import Part, Realised

AT = datetime(2026, 3, 1, tzinfo=UTC)
AUC = Estimate(0.75, 0.74, 0.76)


def part(name: str, rows: int, expected: float, observed: float) -> Part:
    return Part(name, rows, expected, Estimate(observed, observed, observed), AUC)


REALISED = Realised(
    rows=400, defaults=40, estimates={"auc": AUC}, levels=(part("LOW", 300, 0.02, 0.04), part("HIGH", 100, 0.18, 0.28)),
    months=(), bins=(), coverage=(), accepted_only=False, expected_auc=0.75,
)  # fmt: skip
FIGURES = Figures.of(REALISED, "d1", AT)


def samples(text: str) -> dict[str, float]:
    """The values by name and labels, the prefix and the digest aside."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            assert sample.labels.pop("digest") == "d1"
            name = sample.name.removeprefix("credit_scoring_performance_")
            found[" ".join([name, *sample.labels.values()])] = sample.value
    return found


def test_the_file_holds_every_figure(tmp_path: Path):
    FIGURES.write(tmp_path / "performance.prom")
    assert samples((tmp_path / "performance.prom").read_text()) == {
        "auc": 0.75,
        "auc_lower": 0.74,
        "auc_upper": 0.76,
        "timestamp_seconds": AT.timestamp(),
        "default_rate expected": pytest.approx(0.06),
        "default_rate observed": pytest.approx(0.1),
        "level_default_rate expected LOW": 0.02,
        "level_default_rate observed LOW": 0.04,
        "level_default_rate expected HIGH": 0.18,
        "level_default_rate observed HIGH": 0.28,
    }


def test_newer_figures_replace_those_that_are_there(tmp_path: Path):
    FIGURES.write(tmp_path / "performance.prom")
    replace(FIGURES, levels={}, rates=Rates(0.1, 0.1)).write(tmp_path / "performance.prom")
    assert [file.name for file in tmp_path.iterdir()] == ["performance.prom"]
    assert "level_default_rate expected LOW" not in samples((tmp_path / "performance.prom").read_text())


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path):
    with pytest.raises(OutputError, match=r"no/performance\.prom: cannot be written \(No such file or directory\)"):
        FIGURES.write(tmp_path / "no" / "performance.prom")
